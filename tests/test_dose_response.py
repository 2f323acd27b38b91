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


def slope_of(values: np.ndarray, covariance: float = 0.0) -> dict:
    """The slope test of (S, K) values whose slopes share this covariance over patients."""
    slopes = values @ dose_response.slope_weights(RATIOS)
    contrast = orh.linear(slopes, np.full((len(slopes), len(slopes)), covariance))
    return dose_response.slope_test(slopes, contrast, values.mean(axis=0))


def test_slope_per_replicate_is_least_squares():
    values = noisy(0.8 + 0.01 * dose_response.dose(RATIOS), 0.002)
    expected = [stats.linregress(np.log2(1 + RATIOS / 100), row).slope for row in values]
    found = slope_of(values)
    np.testing.assert_allclose(found["slopes"], expected)
    test = stats.ttest_1samp(expected, 0)
    assert found["p"] == pytest.approx(test.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert found["low"] < 0.01 < found["high"]
    assert found["violations"] == 0


def test_the_slope_of_a_null_is_rarely_significant_for_patients_are_in_its_test():
    """Each ratio has patients' noise of its own that all seeds share: a t-test over seeds alone rejects a third."""
    random, rejected, naive = np.random.default_rng(8), 0, 0
    weights, share = dose_response.slope_weights(RATIOS), 0.005
    for _ in range(400):
        values = 0.8 + random.normal(0, share, (1, 6)) + random.normal(0, 0.005, (10, 6))
        rejected += slope_of(values, share**2 * float(weights @ weights))["p"] < 0.05
        naive += slope_of(values)["p"] < 0.05
    assert rejected <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)
    assert naive > 400 * 0.2


def test_falling_means_are_counted():
    values = np.tile([0.8, 0.82, 0.81, 0.83, 0.83, 0.82], (3, 1))
    assert slope_of(values)["violations"] == 2


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


def worth(
    real: np.ndarray, supplemented: np.ndarray, fractions: np.ndarray, at: float, patients=None, shared=0.0
) -> dict:
    """Equivalents of (S,) beside the real arms (S, K), whose cells share a variance over patients that is their own."""
    cells = np.column_stack([real, supplemented])
    position = int(np.flatnonzero(np.isclose(fractions, at))[0])
    parts = []
    for weights in learning_curve.contrasts(fractions, position):
        matrix = np.full((len(cells), len(cells)), shared * float(weights @ weights))
        parts.append(orh.linear(cells @ weights, matrix))
    return learning_curve.real_equivalents(learning_curve.Exchange(*parts), at, float(fractions.max()), patients)


def test_real_equivalents_by_hand():
    """0.02 per doubling: a gain of 0.02 over half the patients is worth the other half."""
    fractions = np.array([0.25, 0.5, 1.0])
    real = 0.8 + 0.02 * np.log2(fractions) + np.array([[0.0], [0.01], [-0.01], [0.005]])
    real += 0.001 * np.random.default_rng(0).normal(size=real.shape)
    supplemented = real[:, 1] + np.array([0.018, 0.02, 0.022, 0.02])
    found = worth(real, supplemented, fractions, 0.5, 200)
    assert found["slope_per_doubling"] == pytest.approx(0.02, abs=0.001)
    assert found["fraction"] == pytest.approx(1.0, abs=0.05)
    assert found["extra_patients"] == pytest.approx(100, abs=10)
    assert 0.8 < found["low"] < found["fraction"] < found["high"] < 1.3
    assert found["note"] == ""
    wider = worth(real, supplemented, fractions, 0.5, 200, shared=1e-5)
    assert wider["low"] < found["low"]
    assert found["high"] < wider["high"]
    assert worth(real, real[:, 2] + 0.04, fractions, 1.0)["extrapolated"]


def test_the_set_of_equivalents_holds_the_truth_and_has_no_bound_where_the_curve_is_flat():
    fractions, random = np.array([0.25, 0.5, 1.0]), np.random.default_rng(4)
    for slope in (0.02, 0.0):
        held = bounded = 0
        for _ in range(200):
            levels = 0.8 + slope * np.log2(fractions) + random.normal(0, 0.004, (1, 3))
            real = levels + random.normal(0, 0.004, (6, 3))
            supplemented = 0.8 - slope + slope + random.normal(0, 0.004) + random.normal(0, 0.004, 6)
            found = worth(real, supplemented, fractions, 0.5, shared=0.004**2)
            bounded += bool(np.isfinite(found["high"]))
            held += not slope or bool(found["low"] <= 1.0 <= found["high"])
        assert held >= 200 * 0.95 - 3 * np.sqrt(200 * 0.05 * 0.95)
        assert bounded >= 180 if slope else bounded <= 30


def test_a_tiny_slope_is_no_overflow():
    fractions = np.array([0.5, 1.0])
    real = np.array([[0.8, 0.8 + 1e-9], [0.81, 0.81 + 2e-9], [0.8, 0.8 + 1e-9], [0.82, 0.82]])
    found = worth(real, real[:, 1] + 0.05, fractions, 1.0, 100)
    assert np.isnan(found["fraction"])
    assert "more than 100 times" in found["note"]


def test_no_exchange_rate_where_real_data_do_not_help():
    flat = np.full((4, 2), 0.8)
    found = worth(flat, np.full(4, 0.9), np.array([0.5, 1.0]), 1.0, 100)
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
