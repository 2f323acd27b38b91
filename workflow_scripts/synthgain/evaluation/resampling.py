"""Resampling by patient: floors, intervals of a statistic of two sets, intervals of a difference of rates."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import norm

JACKKNIFE_GROUPS = 10  # patients are deleted in tenths: variance to about a quarter of itself, 20 evaluations
Z_95 = float(norm.ppf(0.975))


def patient_order(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return row positions with the patients in random order and each patient's rows together."""
    _, code = np.unique(patients, return_inverse=True)
    rank = rng.permutation(code.max() + 1)[code] if len(code) else code
    return np.argsort(rank, kind="stable")


def spread_order(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return row positions in random order, the first row of every patient before the second of any.

    Images of one patient are alike: n rows of n patients tell more of a law than n rows of few, and measures that are
    biased at small n (a Fréchet distance, the number of distinct images) are those of n independent images.
    """
    order = rng.permutation(len(patients))
    _, code = np.unique(patients[order], return_inverse=True)
    by_patient = np.argsort(code, kind="stable")
    first = np.searchsorted(code[by_patient], code[by_patient])
    occurrence = np.empty(len(order), dtype=np.int64)
    occurrence[by_patient] = np.arange(len(order)) - first
    return np.asarray(order[np.argsort(occurrence, kind="stable")])


def largest_half(patients: np.ndarray) -> int:
    """Largest n for which two sides of n images without a common patient exist for any patient order."""
    _, counts = np.unique(patients, return_counts=True)
    return int((len(patients) - (counts.max() - 1)) // 2) if len(counts) else 0


def disjoint_halves(patients: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two (n,) arrays of row positions that share no patient; one row of each where there are 2n patients.

    Raises ValueError where n is too large.
    """
    if 2 * n <= len(np.unique(patients)):
        spread = spread_order(patients, rng)
        return spread[:n], spread[n : 2 * n]
    if n > largest_half(patients):
        raise ValueError(f"{n} images a side need more than the {len(patients)} images at hand")
    order = patient_order(patients, rng)
    rest = order[n:]
    return order[:n], rest[patients[rest] != patients[order[n - 1]]][:n]


def images_a_side(sides: Sequence[np.ndarray], most: int, minimum: int) -> list[int]:
    """How many rows each reference and a floor from all of them can give, at most `most`: one of each patient.

    sides: patient per row of each reference. Where that is fewer than `minimum` in any, all rows count: measures that
    are biased at small n are then further from their floor than they should be.
    """
    everyone = np.concatenate(sides)
    single = [min(most, len(np.unique(everyone)) // 2, len(np.unique(side))) for side in sides]
    return single if min(single) >= minimum else [min(most, largest_half(everyone), len(side)) for side in sides]


def patient_groups(patients: np.ndarray, rng: np.random.Generator, groups: int = JACKKNIFE_GROUPS) -> np.ndarray:
    """Return a group 0 … groups−1 per row: whole patients, dealt out in random order."""
    unique, code = np.unique(patients, return_inverse=True)
    return np.asarray((rng.permutation(len(unique)) % min(groups, len(unique)))[code])


def jackknife_se(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Standard errors of a vector statistic of two sets by deleting groups of patients from one side at a time.

    statistic(kept rows of the first set, of the second) -> (k,). first, second: group per row
    (`patient_groups`). The variance (g−1)/g Σ(θ₍₋ᵢ₎ − mean)² of each side is added. Returns (k,) float64,
    NaN where a side has one group.
    """
    everything = (np.arange(len(first)), np.arange(len(second)))
    variance: np.ndarray | float = 0.0
    for side, groups in enumerate((first, second)):
        labels = np.unique(groups)
        if len(labels) < 2:
            return np.full_like(np.atleast_1d(statistic(*everything)), np.nan)
        drawn = []
        for label in labels:
            rows = list(everything)
            rows[side] = np.flatnonzero(groups != label)
            drawn.append(np.atleast_1d(statistic(*rows)))
        values = np.stack(drawn)
        variance = variance + (len(labels) - 1) / len(labels) * ((values - values.mean(0)) ** 2).sum(0)
    return np.sqrt(variance)


def rate_interval(
    flags: np.ndarray, patients: np.ndarray, z: float = Z_95, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Wilson interval of a rate whose n is divided by the design effect of the patients.

    flags: (n,) bool. weights: (n,) of sum 1, equal by default; n is then Kish's 1/Σw². The design effect is the ratio
    of the cluster-robust variance of the mean to the binomial one, at least 1; with no flag (or only flags) it
    cannot be seen, and n is the number of patients (Kish's, of their summed weights).
    """
    w = np.full(len(flags), 1.0 / len(flags)) if weights is None else weights
    rate = float((w * flags).sum())
    _, code = np.unique(patients, return_inverse=True)
    if not flags.any() or flags.all():
        rate, effective = float(flags[0]), 1.0 / float((np.bincount(code, weights=w) ** 2).sum())
    else:
        n, clusters = 1.0 / float((w**2).sum()), code.max() + 1
        sums = np.bincount(code, weights=w * (flags - rate))
        robust = (sums**2).sum() * clusters / max(clusters - 1, 1)
        effective = n / max(1.0, robust / max(rate * (1 - rate) / max(n - 1, 1), 1e-300))
    centre = (rate + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * np.sqrt(max(rate * (1 - rate), 0.0) / effective + z**2 / (4 * effective**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
