"""Arms: which rows of which images make up a training set, and which of them each step draws."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from synthgain.data.batch_order import Phase, Stream, mix, row_keys
from synthgain.data.image_set import Columns, Planes
from synthgain.data.order import patient_fraction, training_order
from synthgain.downstream.rows import BatchStore, Rows, mask_store
from synthgain.downstream.tasks import TaskLike
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest

SYNTHETIC_VALIDATION_SHARE = 0.2  # of the parent patients, held out where `selection: synthetic`
POOL_COLUMNS = ("image_id", "parent_image_id", "parent_patient_id", "replica")  # of a pool's table, besides targets
_WORDS = 2.0**64  # how many 64-bit hashes there are
_OCCURRENCE_SHIFT = np.int64(32)  # a row drawn twice within one replica still has keys of its own


def fraction_positions(
    table: pd.DataFrame,
    positions: np.ndarray,
    columns: Columns,
    fraction: float,
    seed: int,
    dataset: str,
) -> np.ndarray:
    """Return `positions` in the data set's fixed order, cut to the first `fraction` of its patients."""
    if len(positions) == 0:
        return positions
    rows = table.iloc[positions].reset_index(drop=True)
    return positions[patient_fraction(rows, training_order(rows, columns, seed, dataset), fraction)]


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
    truth, taught = task.truth(table), task.taught(table)
    return Rows(arrays, np.arange(len(table)), ids, sources, patients, copies, truth, planes, taught)


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


@dataclass(frozen=True)
class TrainingSet:
    """An arm's union of rows: real ones first, then synthetic ones or repeats.

    masks: of the same rows, None for a classifier; targets: (N, K) float32, NaN unknown; weights: (N,) float32
    loss weights of mean 1; synthetic: (N,) bool, False for real images and their repeats; phases: what is drawn in
    which steps; facts: JSON values.
    """

    store: BatchStore
    masks: BatchStore | None
    targets: np.ndarray
    weights: np.ndarray
    synthetic: np.ndarray
    phases: tuple[Phase, ...]
    facts: dict[str, object]

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def place(self, step: int) -> tuple[int, int]:
        """Return (index of the phase, step within it) of the overall step."""
        for index, phase in enumerate(self.phases):
            if step < phase.steps:
                return index, step
            step -= phase.steps
        raise IndexError(f"step beyond the last of {self.steps}")


def training_set(
    real: Rows | None,
    added: Rows | None,
    phases: tuple[Phase, ...],
    weights: np.ndarray | None,
    where: str,
    repeats: bool = False,
    **facts: object,
) -> TrainingSet:
    """Join the rows of an arm. `phases` index the union: real rows first, then synthetic ones or repeats."""
    parts = [rows for rows in (real, added) if rows is not None]
    targets = np.concatenate([rows.targets if rows.taught is None else rows.taught for rows in parts])
    counts = (0 if real is None else len(real), 0 if added is None else len(added))
    return TrainingSet(
        BatchStore(parts, where),
        mask_store(parts, where) if any(rows.planes for rows in parts) else None,
        targets,
        np.ones(len(targets), np.float32) if weights is None else weights.astype(np.float32),
        np.repeat([False, not repeats], counts),
        phases,
        {"ids": digest([sorted(map(str, rows.image_ids)) for rows in parts]), **facts},
    )


def arm_phases(
    real: Rows | None,
    added: Rows | None,
    steps: int,
    order_seed: int,
    rates: np.ndarray | None = None,
    fixed_share: float | None = None,
    pretrain_share: float | None = None,
) -> tuple[Phase, ...]:
    """Return what an arm draws: its union; a fixed share of added rows; or first added rows, then real ones.

    rates: (N,) how often each row of the union comes in a pass, None for once each.
    """
    keys = np.concatenate([rows.keys(order_seed) for rows in (real, added) if rows is not None])
    union = np.arange(len(keys))
    cut = 0 if real is None else len(real)

    def stream(rows: np.ndarray) -> Stream:
        return Stream(rows, keys[rows], None if rates is None else rates[rows])

    if pretrain_share is not None:
        first = round(pretrain_share * steps)
        return (Phase(first, stream(union[cut:])), Phase(steps - first, stream(union[:cut])))
    if fixed_share is not None:
        return (Phase(steps, stream(union[:cut]), stream(union[cut:]), fixed_share),)
    return (Phase(steps, stream(union)),)
