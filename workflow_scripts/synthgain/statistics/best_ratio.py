"""The best of several ratios, picked after looking: how good it would look by chance, and a joint test of them all.

Pools nest and the baseline is shared, so that the ratios of an arm are strongly correlated: max-T (Westfall & Young
1993; a multivariate t of the estimated correlations) keeps the level with less loss than Bonferroni.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.endpoints import Endpoint
from synthgain.statistics.estimability import contrast_of
from synthgain.statistics.metric_registry import higher_is_better
from synthgain.statistics.pairs import Pair
from synthgain.statistics.units import Units

DRAWS = 20_000


class BestRatio(TypedDict):
    """ratio, difference: of the best one. by_chance: mean of the best of all, were there no true difference at any.

    p: of the smallest p of them all, two-sided, adjusted by max-T.
    """

    ratio: int
    difference: float
    by_chance: float
    p: float


def best_ratio(
    endpoint: Endpoint, pairs: Sequence[Pair], units: Units, random: np.random.Generator
) -> BestRatio | None:
    """Return what is to be said of the best ratio of one arm, None where fewer than two are estimable.

    pairs: the arm at its ratios against its baseline, over the same replicates.
    """
    found = [(pair, contrast_of(endpoint, pair, units)[0]) for pair in pairs]
    found = [(pair, contrast) for pair, contrast in found if contrast.varies]
    if len(found) < 2:
        return None
    differences = np.array([contrast.difference for _, contrast in found])
    se = np.array([contrast.se for _, contrast in found])
    drawn = _drawn(correlations(endpoint, [pair for pair, _ in found], units), random)
    sign = 1 if higher_is_better(endpoint.metric) else -1
    best = int(np.argmax(sign * differences))
    df, smallest = min(contrast.df for _, contrast in found), min(contrast.p_value() for _, contrast in found)
    scale = 1.0 if np.isinf(df) else np.sqrt(random.chisquare(df, (DRAWS, 1)) / df)
    reached = np.abs(drawn / scale).max(axis=1) >= orh.t_quantile(1 - smallest / 2, df)
    return {
        "ratio": found[best][0].ratio,
        "difference": float(differences[best]),
        "by_chance": float(sign * (sign * drawn * se).max(axis=1).mean()),
        "p": float(min(max(reached.mean(), smallest), len(found) * smallest, 1.0)),
    }


def correlations(endpoint: Endpoint, pairs: Sequence[Pair], units: Units) -> np.ndarray:
    """Correlations (K, K) of the differences of K pairs, over units and patients: from the variances of their sums."""
    rows = []
    for pair in pairs:
        own = np.zeros((len(pair.replicates), len(endpoint.values)))
        own[np.arange(len(own)), pair.arm_runs] += 1
        own[np.arange(len(own)), pair.baseline_runs] -= 1
        rows.append(units.averaging @ own)

    def variance(row: np.ndarray) -> float:
        return orh.linear(row @ endpoint.values, row @ endpoint.covariance @ row.T, units.strata).se ** 2

    single = np.array([variance(row) for row in rows])
    found = np.eye(len(rows))
    for i, j in zip(*np.triu_indices(len(rows), 1), strict=True):
        common = (variance(rows[i] + rows[j]) - single[i] - single[j]) / (2 * np.sqrt(single[i] * single[j]))
        found[i, j] = found[j, i] = np.clip(common, -1, 1)
    return found


def _drawn(correlation: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Standard normal draws (DRAWS, K) of the given correlations; small negative eigenvalues count as 0."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    drawn = random.normal(size=(DRAWS, len(root))) @ root.T
    return np.asarray(drawn / np.sqrt((root**2).sum(axis=1)))
