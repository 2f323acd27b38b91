"""Which snapshot of a generator to use: the latest one before copying leaves its null.

Quality comes early, memorisation later and later the more patients there are (Bonnaire et al. 2025, arXiv
2505.17638; Favero et al. 2025): a rule on the trajectory, fixed beforehand, never on test utility.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from synthgain.evaluation.distances import kernel_distance, kernel_matrix, owners_apart
from synthgain.evaluation.memorisation import LEVEL
from synthgain.evaluation.resampling import jackknife_se, patient_groups

COLUMNS = (
    "snapshot", "space", "n", "kid", "kid_se", "copy_n", "copies", "copy_rate", "null_rate", "excess", "low",
    "high", "p_adjusted", "recommended", "note",
)  # fmt: skip


class SnapshotRow(TypedDict):
    """A row of snapshots.csv: COLUMNS."""

    snapshot: int
    space: str
    n: int
    kid: float
    kid_se: float
    copy_n: int
    copies: int
    copy_rate: float
    null_rate: float
    excess: float
    low: float
    high: float
    p_adjusted: float
    recommended: bool
    note: str


def kid_with_se(
    synthetic: np.ndarray,
    real: np.ndarray,
    synthetic_patients: np.ndarray,
    real_patients: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """KID of two feature sets and its patient-clustered jackknife standard error."""
    kernel = kernel_matrix(*[np.concatenate([synthetic, real])] * 2)
    size = len(synthetic)
    owners = owners_apart(synthetic_patients, real_patients)

    def statistic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        rows = np.concatenate([a, size + b])
        return np.array([kernel_distance(kernel[np.ix_(rows, rows)], len(a), owners[rows])])

    groups = patient_groups(synthetic_patients, rng), patient_groups(real_patients, rng)
    return kernel_distance(kernel, size, owners), float(jackknife_se(statistic, *groups)[0])


def has_copies(row: SnapshotRow) -> bool:
    """True for near-exact copies that real images do not explain (`copies`), or an excess beyond chance (LEVEL)."""
    return row["copies"] > 0 or row["p_adjusted"] < LEVEL


def recommend(rows: Sequence[SnapshotRow]) -> int | None:
    """Return the recommended snapshot: the latest within one standard error of the best KID of those before copying.

    Copying starts at the first snapshot that `has_copies`; that one and all later ones are out. None where the
    very first one copies.
    """
    ordered = sorted(rows, key=lambda row: row["snapshot"])
    started = next((number for number, row in enumerate(ordered) if has_copies(row)), len(ordered))
    clean = ordered[:started]
    if not clean:
        return None
    best = min(clean, key=lambda row: row["kid"])
    near = [row["snapshot"] for row in clean if row["kid"] <= best["kid"] + best["kid_se"]]
    return int(max(near))
