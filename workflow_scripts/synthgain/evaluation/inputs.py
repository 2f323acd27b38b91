"""What the evaluation scripts read: real images with their part, a pool as one long table, and the masks of both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns, ImageStore, job_dataset, planes_of
from synthgain.data.order import joint_levels
from synthgain.data.replicas import Replicas, read_replicas
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError

BLOCK = 256  # images whose masks are in memory at once
HELD_OUT = ("validation", "test")
DATASET, PART = "data set of the row", "part of the split"  # no user's column is called so


@dataclass(frozen=True)
class Images:
    """Images with their table, still on disk; real ones have the columns DATASET and PART.

    arrays: (n, H, W, C) uint8 pieces, memory-mapped. columns: {name: {role, kind, levels?}}.
    """

    arrays: list[np.ndarray]
    table: pd.DataFrame
    columns: Columns

    def __len__(self) -> int:
        return len(self.table)

    @property
    def patients(self) -> np.ndarray:
        """Patient per row: (N,) str."""
        return self.table["patient_id"].astype(str).to_numpy()

    def pixels(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return a copy of these rows' pixels, (n, H, W, C) uint8."""
        return self._store.gather(rows)

    @cached_property
    def _store(self) -> ImageStore:
        return ImageStore(self.arrays)

    def rows_of(self, *parts: str) -> np.ndarray:
        """Row positions of these parts of the split."""
        return np.flatnonzero(self.table[PART].isin(parts).to_numpy())

    def subset(self, rows: np.ndarray) -> "Images":
        """These rows as Images of their own (pixels copied)."""
        return Images([self.pixels(rows)], self.table.iloc[rows].reset_index(drop=True), self.columns)


def read_real(job: Job, names: Sequence[str]) -> Images:
    """Read data sets with their splits, joined; a data set without a split is all test."""
    sets = [job_dataset(job, name) for name in names]
    tables = []
    for data in sets:
        tables.append(data.images.table.copy())
        tables[-1][DATASET], tables[-1][PART] = data.name, data.parts
    columns = {name: spec for data in sets for name, spec in data.images.columns.items()}
    return Images([data.images.images for data in sets], pd.concat(tables, ignore_index=True), columns)


def read_pool(job: Job, pool: str, index: int, columns: Columns) -> Images:
    """Read every replica of pools/<pool>/<index> among the job's inputs, replica by replica.

    Raises SynthGainError where the job has none of them or they hold no image.
    """
    found = _replicas(job, pool, index)
    if found.table.empty:
        raise SynthGainError(f"pools/{pool}/{index}: holds no image; check its filter, nothing can be measured")
    return Images(found.arrays, found.table, columns)


def _replicas(job: Job, pool: str, index: int) -> Replicas:
    replicas = job.inputs.replicas.below(pool, index).values()
    if not replicas:
        raise SynthGainError(f"pools/{pool}/{index}: no replica among this job's inputs; the rule must list them")
    return read_replicas([(replica.path, replica.identity) for replica in replicas])


@dataclass(frozen=True)
class Masks:
    """Masks still on disk. arrays: (n, H, W, K) uint8 pieces, memory-mapped; names: the K structures; table: the rows.

    The table has image_id and, per structure, has_mask_<name>.
    """

    arrays: list[np.ndarray]
    names: list[str]
    table: pd.DataFrame

    def positions(self, image_ids: Sequence[str] | np.ndarray, structure: str) -> np.ndarray:
        """Row of each image here, (N,) int64; -1 where it is unknown or has no mask of the structure."""
        if structure not in self.names:
            return np.full(len(image_ids), -1)
        known = self.table[f"has_mask_{structure}"].to_numpy(dtype=bool)
        rows = pd.Series(np.flatnonzero(known), index=self.table["image_id"].astype(str).to_numpy()[known])
        return rows.reindex(np.asarray(image_ids, dtype=str), fill_value=-1).to_numpy(dtype=np.int64)

    def plane(self, rows: np.ndarray, structure: str) -> np.ndarray:
        """Masks of one structure, (n, H, W) bool, of these rows."""
        planes = [planes_of(array, self.names, [structure]) for array in self.arrays]
        return ImageStore(planes).gather(rows)[..., 0] == 1

    def blocks(self, rows: np.ndarray, structure: str) -> Iterator[np.ndarray]:
        """The same in blocks that fit in memory."""
        for start in range(0, len(rows), BLOCK):
            yield self.plane(rows[start : start + BLOCK], structure)


def real_masks(job: Job, name: str) -> Masks | None:
    """Masks of a data set, None where it has none."""
    images = job_dataset(job, name, with_split=False).images
    return None if images.masks is None else Masks([images.masks], images.mask_names, images.table)


def pool_masks(job: Job, pool: str, index: int) -> Masks | None:
    """Masks of every replica of pools/<pool>/<index> among the job's inputs, None where a replica has none."""
    found = _replicas(job, pool, index)
    return Masks(found.masks, found.mask_names, found.table) if found.masks and found.mask_names else None


def masks_of_rows(job: Job, table: pd.DataFrame, structures: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table of real images (with its column DATASET) that have a mask of every structure, and the masks.

    Returns positions (n,) int64 and (n, H, W, K) uint8 in {0, 1}, planes in the order of `structures`.
    """
    rows, planes = [np.zeros(0, np.int64)], []
    for name, part in table.reset_index(drop=True).groupby(DATASET, sort=False):
        images = job_dataset(job, str(name), with_split=False).images
        if images.masks is None or not set(structures) <= set(images.mask_names):
            continue
        places = pd.Index(images.table["image_id"].astype(str)).get_indexer(pd.Index(part["image_id"].astype(str)))
        known = images.has_masks(structures)[places]
        rows.append(part.index.to_numpy()[known])
        planes.append(images.planes(structures)[places[known]])
    order = np.argsort(np.concatenate(rows), kind="stable")
    found = np.concatenate(planes) if planes else np.zeros((0, 1, 1, len(structures)), np.uint8)
    return np.concatenate(rows)[order], found[order]


def parents(table: pd.DataFrame) -> np.ndarray:
    """Patient whose row a synthetic image copies, (N,) str: images of one parent are not independent.

    Where none is known (imported pools) each image counts by its own `patient_id`.
    """
    owner = table["patient_id"].astype(str)
    if "parent_patient_id" in table:
        known = table["parent_patient_id"].notna()
        owner = owner.where(~known, table["parent_patient_id"].astype(str))
    return np.char.add("synthetic of ", owner.to_numpy().astype(str))


def groups_of(
    table: pd.DataFrame, by: Sequence[str], columns: Columns, cuts: dict[str, float]
) -> dict[str, np.ndarray]:
    """Return {"all": …, "opacity=1": …, "age<55": …}: a bool mask of rows per level of each column of `by`.

    Continuous columns are cut in two at `cuts` (the real median), so that both sets use the same groups.
    """
    groups = {"all": np.ones(len(table), dtype=bool)}
    for name in by:
        values, spec = table[name], columns[name]
        if spec["kind"] == "continuous":
            if np.isnan(cuts[name]):  # nothing is known of it
                continue
            number = values.to_numpy(np.float64, na_value=np.nan)
            groups[f"{name}<{cuts[name]:g}"] = number < cuts[name]
            groups[f"{name}>={cuts[name]:g}"] = number >= cuts[name]
            continue
        levels = [0, 1] if spec["kind"] == "binary" else spec["levels"]
        for level in levels:
            groups[f"{name}={level}"] = (values == level).fillna(False).to_numpy(dtype=bool)
    return groups


def members_of(groups: Mapping[str, np.ndarray], group: str, count: int) -> np.ndarray:
    """Return which of `count` images are of a group: (count,) bool, all False where there is no such group."""
    return groups.get(group, np.zeros(count, dtype=bool))


def median_cuts(table: pd.DataFrame, by: Sequence[str], columns: Columns, where: str) -> dict[str, float]:
    """Median of each continuous column of `by`, NaN where nothing is known of it.

    SynthGainError for a column that the data set lacks.
    """
    for name in by:
        if name not in columns:
            raise SynthGainError(f"{where}.by: no column {name!r} in the data set; columns are {', '.join(columns)}")
    continuous = [name for name in by if columns[name]["kind"] == "continuous"]
    known = {name: table[name].dropna().to_numpy(np.float64) for name in continuous}
    return {name: float(np.median(values)) if len(values) else float("nan") for name, values in known.items()}


def strata(table: pd.DataFrame, columns: Columns) -> np.ndarray:
    """Class of each row: its joint known target values, (N,) str ("" without targets)."""
    return _joint(table, [name for name in _discrete(columns) if columns[name]["role"] == "target"])


def kinds(pool: Images, *real: Images) -> list[np.ndarray]:
    """Kind of each image: the joint values of the discrete columns, covariates too, that the pool's table has.

    Returns one (n,) str array for the pool and one for each of `real`.
    """
    names = [name for name in _discrete(pool.columns) if name in pool.table]
    return [_joint(images.table, names) for images in (pool, *real)]


def _discrete(columns: Columns) -> list[str]:
    return [name for name, spec in columns.items() if spec["kind"] != "continuous"]


def _joint(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    return joint_levels(table, names).to_numpy(dtype=str)
