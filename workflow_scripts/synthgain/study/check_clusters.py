"""Cross-references of appearance clusters: what trains on them, and what is drawn from a generator per cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synthgain.entry import nearest

if TYPE_CHECKING:
    from synthgain.study.schema import Study


def with_cluster_datasets(data: object) -> object:
    """Return a config, as it was given, whose generators on clusters name the data set of these clusters.

    Whatever is not as it should be stays as it is: the types and `check_clusters` say so.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("generators"), Mapping):
        return data
    clusters = data.get("clusters")
    generators = {name: _filled(entry, clusters) for name, entry in data["generators"].items()}
    return {**data, "generators": generators}


def _filled(entry: object, clusters: object) -> object:
    seen = entry.get("train_on") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(seen, Mapping) or "datasets" in seen:
        return entry
    one, per = seen.get("cluster"), seen.get("per")
    name = per if per is not None else one[0] if isinstance(one, list | tuple) and one else None
    if not isinstance(name, str):
        return entry
    if not isinstance(clusters, Mapping) or name not in clusters:
        known = map(str, clusters) if isinstance(clusters, Mapping) else ()
        raise ValueError(f"generators: train_on: there is no {name!r} in clusters; {nearest(name, known)}")
    of = clusters[name].get("of") if isinstance(clusters[name], Mapping) else None
    return {**entry, "train_on": {**seen, "datasets": [of]}} if isinstance(of, str) else entry


def check_clusters(study: Study) -> None:
    """Raise ValueError, one line naming the place, where clusters are unknown or cannot be used as asked."""
    for name, clusters in study.clusters.items():
        place = f"clusters.{name}.of"
        if clusters.of not in study.datasets:
            raise ValueError(f"{place}: there is no {clusters.of!r}; {nearest(clusters.of, study.datasets)}")
        if study.datasets[clusters.of].split is None:
            raise ValueError(f"{place}: data set {clusters.of!r} has no split, so it has no training images")
    for name in study.generators:
        _check_generator(study, f"generators.{name}", name)
    for name, pool in study.pools.items():
        of = study.generators[pool.from_].train_on.per if pool.from_ in study.generators else None
        if of is not None and pool.rows_of != study.clusters[of].of:
            raise ValueError(
                f"pools.{name}.rows_of: {pool.from_!r} is a generator per cluster of {study.clusters[of].of!r}, and "
                f"{pool.rows_of!r} has no such clusters; name {study.clusters[of].of!r}"
            )
        masks = pool.masks.from_ if pool.masks is not None else None
        if masks in study.generators and study.generators[masks or ""].train_on.per is not None:
            raise ValueError(f"pools.{name}.masks.from: {masks!r} is a generator per cluster; name one of all images")


def _check_generator(study: Study, place: str, name: str) -> None:
    seen = study.generators[name].train_on
    used = seen.per or (seen.cluster[0] if seen.cluster is not None else None)
    if used is not None:
        key = "per" if seen.per else "cluster"
        if used not in study.clusters:
            raise ValueError(f"{place}.train_on.{key}: there is no {used!r}; {nearest(used, study.clusters)}")
        of, k = study.clusters[used].of, study.clusters[used].k
        if seen.datasets != [of]:
            raise ValueError(f"{place}.train_on.datasets: clusters {used!r} are of {of!r}; leave datasets out")
        if seen.cluster is not None and seen.cluster[1] >= k:
            raise ValueError(f"{place}.train_on.cluster: {used!r} has clusters 0 to {k - 1}, not {seen.cluster[1]}")
    start = study.generators[name].init_from
    before = study.generators[start].train_on.per if start in study.generators else None
    if before is not None and before != seen.per:
        raise ValueError(f"{place}.init_from: {start!r} is a generator per cluster of {before!r}; train per: {before}")
