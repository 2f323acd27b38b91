"""The best of several ratios: luck is said beside it, and all ratios are tested jointly."""

import numpy as np
import pytest
from scipy import stats

from synthgain.report.sections.further import best_sentence
from synthgain.statistics import best_ratio as best
from synthgain.statistics.endpoints import Endpoint
from synthgain.statistics.pairs import Pair
from synthgain.statistics.units import Design, units_of

SEEDS, RATIOS = 5, (50, 100, 200, 300, 500)
UNITS = units_of(np.arange(SEEDS), Design())


def pairs(ratios: int = len(RATIOS)) -> list[Pair]:
    """Runs 0 … 4 are the baseline's, then five of each ratio."""
    base = np.arange(SEEDS)
    return [Pair("a", RATIOS[k], "real", 0, False, base + SEEDS * (k + 1), base, base) for k in range(ratios)]


def endpoint(random: np.random.Generator, shared: float, gain: float = 0.0, metric: str = "auroc") -> Endpoint:
    """Cells vary over patients with SD .01, `shared` of the variance common to all ratios, and over seeds with .01."""
    cells = len(RATIOS) + 1
    of_cells = np.full((cells, cells), shared) + (1 - shared) * np.eye(cells)
    of_cells[0] = of_cells[:, 0] = np.eye(cells)[0]
    covariance = 1e-4 * np.kron(of_cells, np.ones((SEEDS, SEEDS)))
    patients = random.multivariate_normal(np.zeros(cells), 1e-4 * of_cells)
    values = 0.8 + np.repeat(patients, SEEDS) + 0.01 * random.normal(size=cells * SEEDS)
    values[SEEDS:] += gain
    return Endpoint("a", "test", "macro", metric, values, covariance, information=())


def test_correlations_are_those_of_the_differences() -> None:
    """Shared baseline and shared patients, from variances of sums; seeds are correlated through the baseline alone."""
    found = np.mean(
        [best.correlations(endpoint(np.random.default_rng(s), 0.6), pairs(2), UNITS)[0, 1] for s in range(60)], axis=0
    )
    patients, seeds = 1e-4, 1e-4 / SEEDS
    expected = (patients * 1.6 + seeds) / (patients * 2 + seeds * 2)
    assert found == pytest.approx(expected, abs=0.03)


def test_luck_is_the_mean_of_the_largest_of_as_many_noises() -> None:
    own, random = endpoint(np.random.default_rng(1), 0.0), np.random.default_rng(0)
    found = best.best_ratio(own, pairs(), UNITS, random)
    assert found is not None
    correlation = best.correlations(own, pairs(), UNITS)
    draws = stats.multivariate_normal(np.zeros(5), correlation, allow_singular=True).rvs(50_000, random_state=3)
    se = [best.contrast_of(own, pair, UNITS)[0].se for pair in pairs()]
    assert found["by_chance"] == pytest.approx((draws * se).max(axis=1).mean(), rel=0.03)
    worse = Endpoint("a", "test", "macro", "brier", own.values, own.covariance)
    less = best.best_ratio(worse, pairs(), UNITS, np.random.default_rng(0))
    assert less is not None
    assert less["by_chance"] == pytest.approx(-found["by_chance"], rel=0.03)
    assert less["difference"] == min(best.contrast_of(own, pair, UNITS)[0].difference for pair in pairs())


def test_the_joint_p_keeps_its_level_and_loses_less_than_bonferroni() -> None:
    random, joint, single = np.random.default_rng(6), [], []
    draws, best.DRAWS = best.DRAWS, 2000
    try:
        for _ in range(300):
            own = endpoint(random, 0.9)
            found = best.best_ratio(own, pairs(), UNITS, random)
            assert found is not None
            joint.append(found["p"])
            single.append(min(best.contrast_of(own, pair, UNITS)[0].p_value() for pair in pairs()))
    finally:
        best.DRAWS = draws
    rejected = np.mean(np.array(joint) < 0.05)
    assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(np.array(single) < 0.05) > rejected
    assert all(one <= p <= min(5 * one, 1) for one, p in zip(single, joint, strict=True))
    assert np.median(np.array(joint) / np.array(single)) < 3.5  # Bonferroni: 5


def test_one_ratio_is_not_the_best_of_several() -> None:
    own = endpoint(np.random.default_rng(1), 0.5)
    assert best.best_ratio(own, pairs(1), UNITS, np.random.default_rng(0)) is None


def test_the_sentence_says_what_luck_gives() -> None:
    row = {"ratio": 300, "difference": 0.0312, "by_chance": 0.0097, "p": 0.0213}
    said = best_sentence("supplemented", "nih", row)
    assert "Best ratio of supplemented on nih, picked after looking: 300 %, +0.0312." in said
    assert "the best would be +0.0097 on average" in said
    assert "(max-T): p = 0.0213." in said
