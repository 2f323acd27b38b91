"""Pools drawn from a generator per appearance cluster: each row from the generator of its parent's cluster."""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from synthgain.data.clusters import read_clusters
from synthgain.pools.counts import SUMMED, added
from synthgain.pools.shards import Drawn, ShardRequest
from synthgain.registry import POOL_SOURCES
from synthgain.runtime.command import part_of_job
from synthgain.runtime.loading import load


@dataclass(frozen=True)
class OfCluster(ShardRequest):
    """A request for the rows of a replica whose parents are `members`, image ids of one cluster."""

    members: frozenset[str] = frozenset()

    def rows(self) -> pd.DataFrame:
        """Return these rows of the replica, in the pool's order."""
        rows = super().rows()
        return rows[rows["image_id"].astype(str).isin(self.members)].reset_index(drop=True)


def draw(request: ShardRequest) -> Drawn:
    """Draw a whole replica, cluster by cluster, so that one generator at a time is in memory.

    options: {clusters: name, generators: [[name, index] of each cluster], snapshot, draws: the source that draws each
    cluster's rows}. A sample's noise is that of its row, as in any pool.
    """
    options, rows = request.options, request.rows()
    clusters = read_clusters(request.inputs.clusters[options["clusters"]].folder(), options["clusters"])
    numbers = clusters.numbers(rows["image_id"])
    source = load(POOL_SOURCES, options["draws"])
    whole = request.table_of(rows).reset_index(drop=True)
    places, parts = [], []
    present = np.unique(numbers)
    for which, number in enumerate(present):
        places.append(np.flatnonzero(numbers == number))
        members = frozenset(rows["image_id"][places[-1]].astype(str))
        with part_of_job(which, len(present)):
            parts.append(source.draw(_of_cluster(request, int(number), members)))
    order = np.argsort(np.concatenate(places), kind="stable")
    drawn = pd.concat([part.table for part in parts], ignore_index=True).iloc[order].reset_index(drop=True)
    extra = {name: drawn[name] for name in drawn.columns if name not in whole}
    masks = None if parts[0].masks is None else np.concatenate([part.masks for part in parts])[order]
    facts: dict[str, object] = {**parts[0].facts, "clusters": options["clusters"]}
    for name in SUMMED:
        counts = [part.facts[name] for part in parts if name in part.facts]
        if counts:
            facts[name] = added(counts)
    return Drawn(
        np.concatenate([part.images for part in parts])[order],
        whole.assign(**extra),
        parts[0].columns,
        masks,
        parts[0].mask_names,
        facts,
    )


def _of_cluster(request: ShardRequest, number: int, members: frozenset[str]) -> OfCluster:
    given = {field.name: getattr(request, field.name) for field in fields(ShardRequest)}
    kept = {name: value for name, value in request.options.items() if name in ("snapshot", "ema_decay")}
    options = {**kept, "generator": request.options["generators"][number]}
    state = request.state / f"cluster-{number}"
    return OfCluster(**{**given, "options": options, "state": state, "shard": 0, "shards": 1}, members=members)
