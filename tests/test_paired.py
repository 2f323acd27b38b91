"""Tests over seeds, against pingouin, SciPy and hand values."""

import numpy as np
import pingouin
import pytest
from scipy import stats

from synthgain.statistics import paired

ARM = np.array([0.8512, 0.8601, 0.8555, 0.8498, 0.8623])
BASE = np.array([0.8470, 0.8522, 0.8541, 0.8460, 0.8533])


def test_paired_t_equals_scipy_and_keeps_its_decimals():
    found = paired.paired_t(ARM, BASE)
    expected = stats.ttest_rel(ARM, BASE)
    low, high = expected.confidence_interval(0.95)
    assert (found.t, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, 4))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert round(found.low, 2) != found.low  # pingouin rounds intervals to two decimals unless told not to
    assert pingouin.options["round.column.CI95"] is None


def test_other_confidence_and_one_sided():
    assert paired.paired_t(ARM, BASE, confidence=0.9).low > paired.paired_t(ARM, BASE).low
    assert paired.paired_t(ARM, BASE, "greater").p == pytest.approx(paired.paired_t(ARM, BASE).p / 2)


def test_sign_flip_is_exact():
    differences = ARM - BASE
    assert paired.sign_flip_p(differences) == pytest.approx(2 / 2**5)  # all positive: the smallest there is
    assert paired.sign_flip_p(differences, "greater") == pytest.approx(1 / 2**5)
    values = np.random.default_rng(0).normal(0.3, 1, 7)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 7)).reshape(7, -1)
    by_hand = np.mean(np.abs(values @ signs) >= abs(values.sum()) - 1e-12)
    assert paired.sign_flip_p(values) == pytest.approx(by_hand)


def test_corrected_resampled_t_by_hand():
    """Method test 6: t = 0.02 / sqrt((1/4 + 1/9) · 0.0002/3·…), with s² computed by hand."""
    differences = np.array([0.01, 0.02, 0.03, 0.02])  # mean 0.02, s² = 2e-4/3
    found = paired.corrected_resampled_t(differences, test_patients=10, training_patients=90)
    assert found.t == pytest.approx(0.02 / np.sqrt((1 / 4 + 1 / 9) * 2e-4 / 3))
    assert found.df == 3
    plain = pingouin.ttest(differences, 0).iloc[0]["T"]
    assert found.t == pytest.approx(plain * np.sqrt((1 / 4) / (1 / 4 + 1 / 9)))
    assert found.low < 0.02 < found.high


def test_d_z_is_not_pingouins_cohen_d():
    differences = ARM - BASE
    assert paired.standardised_difference(differences) == pytest.approx(differences.mean() / differences.std(ddof=1))


def test_probability_better_follows_the_direction():
    differences = np.array([0.1, -0.1, 0.0, 0.2])
    assert paired.probability_better(differences) == 0.625
    assert paired.probability_better(differences, higher_is_better=False) == 0.375


def test_equal_arms_have_no_t():
    assert np.isnan(paired.paired_t(ARM, ARM).p)
    assert np.isnan(paired.paired_t(ARM, ARM - 0.01).p)  # no spread but rounding
    assert np.isnan(paired.standardised_difference(np.zeros(5)))
    assert np.isnan(paired.sign_flip_p(np.array([0.1])))
