"""What the evaluation scripts read: real images with their part, and a pool as one long table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from synthgain.images import read_image_set
from synthgain.replicas import read_replicas, take
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table

HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Images:
    """Images with their table, still on disk; real ones have a column `part`.

    arrays: (n, H, W, C) uint8 pieces, memory-mapped. columns: {name: {role, kind, levels?}}.
    """

    arrays: list[np.ndarray]
    table: pd.DataFrame
    columns: dict[str, dict[str, Any]]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def patients(self) -> np.ndarray:
        """Patient per row: (N,) str."""
        return self.table["patient_id"].astype(str).to_numpy()

    def pixels(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return a copy of these rows' pixels, (n, H, W, C) uint8."""
        return take(self.arrays, np.arange(len(self)) if rows is None else rows)

    def rows_of(self, *parts: str) -> np.ndarray:
        """Row positions of these parts of the split."""
        return np.flatnonzero(self.table["part"].isin(parts).to_numpy())

    def subset(self, rows: np.ndarray) -> "Images":
        """These rows as Images of their own (pixels copied)."""
        return Images([self.pixels(rows)], self.table.iloc[rows].reset_index(drop=True), self.columns)


def read_real(job: Job, names: Sequence[str]) -> Images:
    """Read data sets with their splits, joined; a data set without a split is all test."""
    arrays, tables = [], []
    columns: dict[str, dict[str, Any]] = {}
    for name in names:
        dataset = job.inputs.datasets[name]
        image_set = read_image_set(dataset.folder(), dataset.identity)
        tables.append(image_set.table.assign(dataset=name, part=_parts(job, name, image_set.table)))
        arrays.append(image_set.images)
        columns |= image_set.columns
    return Images(arrays, pd.concat(tables, ignore_index=True), columns)


def read_pool(job: Job, pool: str, index: int, columns: dict[str, dict[str, Any]]) -> Images:
    """Read every replica of pools/<pool>/<index> among the job's inputs, replica by replica.

    Raises SynthGainError where the job has none of them or they hold no image.
    """
    replicas = job.inputs.replicas.below(pool, index).values()
    if not replicas:
        raise SynthGainError(f"pools/{pool}/{index}: no replica among this job's inputs; the rule must list them")
    arrays, table, _ = read_replicas([(replica.path, replica.identity) for replica in replicas])
    if table.empty:
        raise SynthGainError(f"pools/{pool}/{index}: holds no image; check its filter, nothing can be measured")
    return Images(arrays, table, columns)


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
    table: pd.DataFrame, by: Sequence[str], columns: dict[str, dict[str, Any]], cuts: dict[str, float]
) -> dict[str, np.ndarray]:
    """Return {"all": …, "opacity=1": …, "age<55": …}: a bool mask of rows per level of each column of `by`.

    Continuous columns are cut in two at `cuts` (the real median), so that both sets use the same groups.
    """
    groups = {"all": np.ones(len(table), dtype=bool)}
    for name in by:
        values, spec = table[name], columns[name]
        if spec["kind"] == "continuous":
            number = values.to_numpy(np.float64, na_value=np.nan)
            groups[f"{name}<{cuts[name]:g}"] = number < cuts[name]
            groups[f"{name}>={cuts[name]:g}"] = number >= cuts[name]
            continue
        levels = [0, 1] if spec["kind"] == "binary" else spec["levels"]
        for level in levels:
            groups[f"{name}={level}"] = (values == level).fillna(False).to_numpy(dtype=bool)
    return groups


def median_cuts(
    table: pd.DataFrame, by: Sequence[str], columns: dict[str, dict[str, Any]], where: str
) -> dict[str, float]:
    """Median of each continuous column of `by`; SynthGainError for a column that the data set lacks."""
    for name in by:
        if name not in columns:
            raise SynthGainError(f"{where}.by: no column {name!r} in the data set; columns are {', '.join(columns)}")
    continuous = [name for name in by if columns[name]["kind"] == "continuous"]
    return {name: float(np.nanmedian(table[name].to_numpy(np.float64, na_value=np.nan))) for name in continuous}


def strata(table: pd.DataFrame, columns: dict[str, dict[str, Any]]) -> np.ndarray:
    """Class of each row: its joint known target values, (N,) str ("" without targets)."""
    return _joint(table, [name for name in _discrete(columns) if columns[name]["role"] == "target"])


def kinds(pool: Images, *real: Images) -> list[np.ndarray]:
    """Kind of each image: the joint values of the discrete columns, covariates too, that the pool's table has.

    Returns one (n,) str array for the pool and one for each of `real`.
    """
    names = [name for name in _discrete(pool.columns) if name in pool.table]
    return [_joint(images.table, names) for images in (pool, *real)]


def _discrete(columns: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, spec in columns.items() if spec["kind"] != "continuous"]


def _joint(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    joined = np.full(len(table), "", dtype=object)
    for name in names:
        joined = joined + "|" + table[name].astype(str).to_numpy().astype(object)
    return joined.astype(str)


def _parts(job: Job, name: str, table: pd.DataFrame) -> np.ndarray:
    if name not in job.inputs.splits:
        return np.full(len(table), "test", dtype=object)
    split = read_table(job.inputs.splits[name].folder() / "split.parquet").set_index("image_id")["part"]
    return table["image_id"].map(split).fillna("excluded").to_numpy(dtype=object)
