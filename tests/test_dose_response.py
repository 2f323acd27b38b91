"""Dose–response, real-image equivalents, power: planted curves are found, flat ones are called constant."""

import numpy as np
import pingouin
import pytest
from scipy import stats

from synthgain.statistics import dose_response, learning_curve, power
from synthgain.statistics import obuchowski_rockette as orh

RATIOS = np.array([0, 100, 200, 300, 500, 1000])


def noisy(means: np.ndarray, spread: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    level = random.normal(0, 0.01, (5, 1))  # replicates differ in level, not in shape
    return means + level + random.normal(0, spread, (5, len(means)))


def test_slope_per_replicate_is_least_squares():
    values = noisy(0.8 + 0.01 * dose_response.dose(RATIOS), 0.002)
    expected = [stats.linregress(np.log2(1 + RATIOS / 100), row).slope for row in values]
    np.testing.assert_allclose(dose_response.slopes(RATIOS, values), expected)
    found = dose_response.slope_test(RATIOS, values)
    test = stats.ttest_1samp(expected, 0)
    assert found["p"] == pytest.approx(test.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert found["low"] < 0.01 < found["high"]
    assert found["violations"] == 0


def test_falling_means_are_counted():
    values = np.tile([0.8, 0.82, 0.81, 0.83, 0.83, 0.82], (3, 1))
    assert dose_response.slope_test(RATIOS, values)["violations"] == 2


def test_flat_means_are_called_constant():
    best = [dose_response.fit_curves(RATIOS, noisy(np.full(6, 0.8), 0.005, s))["best"] for s in range(20)]
    assert best.count("constant") >= 14


def test_a_planted_power_law_wins_and_is_recovered():
    means = 1 - dose_response.power_law(RATIOS, 0.10, 0.08, 2.0)
    values = noisy(means, 0.001)
    found = dose_response.fit_curves(RATIOS, values)
    assert found["best"] == "power_law"
    np.testing.assert_allclose(found["models"]["power_law"]["parameters"], [0.10, 0.08, 2.0], rtol=0.2)
    intervals = dose_response.curve_intervals(RATIOS, values, np.eye(6) * 1e-8, np.random.default_rng(0))
    low, high = intervals["exponent"]
    assert low < 2.0 < high


def test_a_planted_line_wins():
    found = dose_response.fit_curves(RATIOS, noisy(0.7 + 0.02 * dose_response.dose(RATIOS), 0.002))
    assert found["best"] == "log_linear"


def test_aicc_needs_more_points_than_parameters():
    assert dose_response.aicc(np.zeros(3), 3) == np.inf


def test_points_are_tidy():
    rows = dose_response.point_rows({"dataset": "a"}, "supplemented", np.array([0, 100]), np.array([[0.8, 0.9]]))
    assert rows["difference"].round(6).tolist() == [0, 0.1]


def test_real_equivalents_by_hand():
    """0.02 per doubling: a gain of 0.02 over half the patients is worth the other half."""
    fractions = np.array([0.25, 0.5, 1.0])
    real = 0.8 + 0.02 * np.log2(fractions) + np.array([[0.0], [0.01], [-0.01]])
    supplemented = real[:, 1] + np.array([0.01, 0.02, 0.03])
    found = learning_curve.real_equivalents(fractions, real, supplemented, 0.5, 200)
    assert found["slope_per_doubling"] == pytest.approx(0.02)
    assert found["fraction"] == pytest.approx(1.0)
    assert found["extra_patients"] == 100
    assert found["low"] == pytest.approx(0.5 * 2**0.5)
    assert learning_curve.real_equivalents(fractions, real, real[:, 2] + 0.04, 1.0, None)["extrapolated"]


def test_no_exchange_rate_where_real_data_do_not_help():
    flat = np.full((3, 2), 0.8)
    found = learning_curve.real_equivalents(np.array([0.5, 1.0]), flat, np.full(3, 0.9), 1.0, 100)
    assert np.isnan(found["fraction"])
    assert found["extra_patients"] is None


def test_detectable_effect_agrees_with_pingouin():
    """Without patient variance the design is a paired t: minimum d_z 1.68 with 5 seeds, 1.00 with 10."""
    for seeds, expected in ((5, 1.68), (10, 1.00)):
        found = power.detectable_effect(1 / np.sqrt(seeds), seeds - 1, 0.05)
        d = pingouin.power_ttest(n=seeds, power=0.8, contrast="paired", alpha=0.05)
        assert found == pytest.approx(d, abs=1e-3)
        assert found == pytest.approx(expected, abs=0.01)


def test_power_report_says_what_limits():
    patients = orh.from_covariances(np.array([0.01, 0.0101, 0.0099]), 5e-5, 1e-5)
    seeds = orh.from_covariances(np.array([0.05, -0.03, 0.02]), 1e-5, 1e-5)
    assert power.power_report(patients, 200, 0.05, 0.02)["limits"] == "patients"
    report = power.power_report(seeds, 200, 0.05, 0.02)
    assert report["limits"] == "seeds"
    assert report["seed_share_of_variance"] == pytest.approx(1)
    by_seeds = [entry["detectable"] for entry in report["grid"] if entry["patients"] == 200]
    assert by_seeds == sorted(by_seeds, reverse=True)
    one = orh.compare(np.array([0.8]), np.array([0.7]), np.eye(2))
    assert "note" in power.power_report(one, 100, 0.05, 0.02)
