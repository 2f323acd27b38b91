"""Arms: which rows of which images make up a training set. Pure functions of tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.batch_order import copy_keys, mix, row_keys
from synthgain.data.order import patient_fraction, training_order
from synthgain.downstream.planes import Planes
from synthgain.downstream.tasks import TaskLike
from synthgain.runtime.errors import SynthGainError

SYNTHETIC_VALIDATION_SHARE = 0.2  # of the parent patients, held out where `selection: synthetic`
POOL_COLUMNS = ("image_id", "parent_image_id", "parent_patient_id", "replica")  # of a pool's table, beside targets
_WORDS = 2.0**64  # how many 64-bit hashes there are
_OCCURRENCE_SHIFT = np.int64(32)  # a row drawn twice within one replica still has keys of its own


@dataclass(frozen=True)
class Rows:
    """Rows of one source of images in an arm's order.

    arrays: uint8 (n, H, W, C) each, as if joined; positions: (N,) int64 rows of the joined arrays;
    image_ids: (N,) str; source_ids: (N,) str, the real row behind each image (own id where there is none);
    patients: (N,) str; copies: (N,) int64, 0 for real images, k for repeat or replica k;
    targets: (N, K) float32, NaN where unknown (of a structure: 1 where its mask is known);
    planes: the masks of each array, none for a classifier.
    """

    arrays: Sequence[np.ndarray | Planes]
    positions: np.ndarray
    image_ids: np.ndarray
    source_ids: np.ndarray
    patients: np.ndarray
    copies: np.ndarray
    targets: np.ndarray
    planes: Sequence[Planes] = ()

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, chosen: np.ndarray) -> "Rows":
        """Return the rows `chosen` (int64 positions or a bool mask), in that order."""
        names = ("positions", "image_ids", "source_ids", "patients", "copies", "targets")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def labelled(self) -> "Rows":
        """Return the rows of which at least one target or mask is known: the others cannot teach anything."""
        return self.take(~np.isnan(self.targets).all(axis=1))

    def keys(self, seed: int) -> np.ndarray:
        """Return the (N,) uint64 hashes that order the rows in replicate `seed`."""
        return copy_keys(row_keys(self.source_ids), self.copies, seed)


def split_positions(table: pd.DataFrame, split: pd.DataFrame | None, part: str) -> np.ndarray:
    """Return the (n,) int64 rows of `table` in `part` of the split; without a split all rows are test."""
    if split is None:
        return np.arange(len(table)) if part == "test" else np.arange(0)
    inside = set(split.loc[split["part"] == part, "image_id"])
    return np.flatnonzero(table["image_id"].isin(inside).to_numpy())


def fraction_positions(
    table: pd.DataFrame,
    positions: np.ndarray,
    columns: Mapping[str, Mapping[str, Any]],
    fraction: float,
    seed: int,
    dataset: str,
) -> np.ndarray:
    """Return `positions` in the data set's fixed order, cut to the first `fraction` of its patients."""
    if len(positions) == 0:
        return positions
    rows = table.iloc[positions].reset_index(drop=True)
    return positions[patient_fraction(rows, training_order(rows, columns, seed, dataset), fraction)]


def real_rows(
    images: np.ndarray, table: pd.DataFrame, positions: np.ndarray, task: TaskLike, planes: Sequence[Planes] = ()
) -> Rows:
    """Return rows of a real data set, copy 0."""
    rows = table.iloc[positions]
    ids = rows["image_id"].astype(str).to_numpy(dtype=object)
    patients = rows["patient_id"].astype(str).to_numpy(dtype=object)
    copies = np.zeros(len(rows), dtype=np.int64)
    return Rows([images], positions.astype(np.int64), ids, ids, patients, copies, task.truth(rows), planes)


def synthetic_rows(
    arrays: Sequence[np.ndarray], table: pd.DataFrame, task: TaskLike, planes: Sequence[Planes] = ()
) -> Rows:
    """Return all rows of a pool's joined replicas in the pool's order; copy k is replica k."""
    ids = table["image_id"].astype(str).to_numpy(dtype=object)
    parents = table["parent_image_id"].astype(object).to_numpy()
    sources = np.where(table["parent_image_id"].isna(), ids, parents)
    patients = np.where(table["parent_patient_id"].isna(), ids, table["parent_patient_id"].astype(object).to_numpy())
    replica = table["replica"].to_numpy(np.int64)
    occurrence = pd.DataFrame({"s": sources, "k": replica}).groupby(["s", "k"], sort=False).cumcount().to_numpy()
    copies = replica + (occurrence.astype(np.int64) << _OCCURRENCE_SHIFT)
    return Rows(arrays, np.arange(len(table)), ids, sources, patients, copies, task.truth(table), planes)


def supplement_count(ratio: int, base: int) -> int:
    """Return how many images `ratio` percent of `base` are, halves rounded up."""
    return (ratio * base + 50) // 100


def repeated(real: Rows, count: int) -> Rows:
    """Return `count` repeats of real rows: whole rounds in the data set's order, round k is copy k."""
    places = np.arange(count)
    rows = real.take(places % len(real))
    return replace(rows, copies=1 + places // len(real))


def supplement(pool: Rows, count: int, own: Rows | None, where: str, filtered: bool = False) -> Rows:
    """Return the first `count` rows of the pool's order; with `own`, of the children of these real rows only.

    A filtered pool that holds fewer gives all of them: the manifest says how many. Any other raises
    SynthGainError; `where` opens its line.
    """
    if own is not None:
        pool = pool.take(np.isin(pool.source_ids.astype(str), own.image_ids.astype(str)))
    if filtered:
        count = min(count, len(pool))
    if count > len(pool):
        raise SynthGainError(
            f"{where}: ratio over the pool: {count} synthetic images wanted, the pool has {len(pool)}; "
            "lower the ratio or raise the pool's replicas"
        )
    return pool.take(np.arange(count))


def chosen_parents(real: Rows, probability: float, seed: int) -> Rows:
    """Return the real rows whose hash of (seed, image id), uniform in [0, 1), is below `probability`."""
    drawn = mix(row_keys(real.image_ids) ^ mix(np.array([seed], dtype=np.uint64)))
    return real.take(drawn / _WORDS < probability)


def siblings(pool: Rows, parents: Rows, ratio: int, where: str, filtered: bool = False) -> Rows:
    """Return the children of `parents` in replicas 1 … ratio / 100, in the pool's order.

    Saragih et al. 2024 gave each training image its synthetic siblings with a probability of one half. A filtered
    pool may have lost some; of any other a missing child raises SynthGainError, with `where` in front.
    """
    wanted = np.isin(pool.source_ids.astype(str), parents.image_ids.astype(str)) & (pool.copies <= ratio // 100)
    found = pool.take(wanted)
    expected = len(parents) * (ratio // 100)
    if len(found) < expected and not filtered:
        raise SynthGainError(
            f"{where}: sibling_probability: {expected} children of {len(parents)} images wanted, the pool has "
            f"{len(found)}; it must copy the rows of the arm's real data set, with enough replicas"
        )
    return found


def hold_out_patients(rows: Rows) -> tuple[Rows, Rows]:
    """Return (kept, held out): the children of the last SYNTHETIC_VALIDATION_SHARE of parent patients apart."""
    order = pd.unique(rows.patients)
    held = order[len(order) - max(1, round(SYNTHETIC_VALIDATION_SHARE * len(order))) :]
    outside = np.isin(rows.patients.astype(str), held.astype(str))
    return rows.take(~outside), rows.take(outside)
