"""The verdict: its order, its margin, its words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_paired

from synthgain.statistics import equivalence
from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.equivalence import VERDICTS, verdict

DIFFERENCES = np.array([0.004, 0.011, 0.002, 0.008, 0.005])
CONTRAST = orh.from_covariances(DIFFERENCES, 1e-5, 1e-5)


def test_verdict_flips_exactly_at_the_margin():
    """Method test 7."""
    bound = max(abs(edge) for edge in CONTRAST.interval(0.9))
    assert verdict(CONTRAST, 0.001, 0.05, bound + 1e-9) == "equivalent"
    assert verdict(CONTRAST, 0.001, 0.05, bound - 1e-9) == "helps"
    assert verdict(CONTRAST, 0.2, 0.05, bound - 1e-9) == "inconclusive"


def test_tost_agrees_with_statsmodels():
    """With equal covariances the analysis is the paired one, so the tests must agree at every margin."""
    base = np.linspace(0.7, 0.8, 5)
    for margin in (0.005, 0.008, 0.0095, 0.012, 0.02):
        p = ttost_paired(base + DIFFERENCES, base, -margin, margin)[0]
        assert equivalence.is_equivalent(CONTRAST, margin, 0.05) == (p < 0.05)


def test_equivalence_comes_before_a_significant_difference():
    tiny = orh.from_covariances(np.array([0.0010, 0.0011, 0.0012]), 0, 0)
    assert tiny.p_value() < 0.05
    assert verdict(tiny, tiny.p_value(), 0.05, 0.02) == "equivalent"
    assert verdict(tiny, tiny.p_value(), 0.05, None) == "helps"  # no margin declared for this metric


def test_direction_of_metrics_of_which_less_is_better():
    better = orh.from_covariances(np.array([-0.050, -0.051, -0.052]), 0, 0)
    assert verdict(better, better.p_value(), 0.05, 0.02, higher_is_better=False) == "helps"
    assert verdict(better, better.p_value(), 0.05, 0.02) == "harms"
    assert equivalence.is_noninferior(better, 0.02, 0.05, higher_is_better=False)
    assert not equivalence.is_noninferior(better, 0.02, 0.05)


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=8), st.floats(0.001, 0.1))
def test_verdicts_are_the_four_words(differences, margin):
    contrast = orh.from_covariances(np.array(differences), 1e-4, 5e-5)
    p = contrast.p_value()
    found = verdict(contrast, p, 0.05, margin)
    assert found in VERDICTS
    assert "inconclusive" in VERDICTS
    if found == "equivalent":
        assert equivalence.is_noninferior(contrast, margin, 0.05)
        assert abs(contrast.difference) < margin


def test_undefined_p_is_inconclusive():
    one = orh.compare(np.array([0.9]), np.array([0.5]), np.eye(2))
    assert verdict(one, one.p_value(), 0.05, 0.02) == "inconclusive"
    assert pytest.approx(0.4) == one.difference


def test_what_does_not_vary_is_never_equivalent():
    for differences in (np.zeros(3), np.full(3, 0.01), np.full(5, 0.01) + 1e-15 * np.arange(5)):
        still = orh.from_covariances(differences, 0.0, 1e-34)
        for p in (still.p_value(), 0.001):
            assert verdict(still, p, 0.05, 0.02) == "inconclusive"
    assert verdict(orh.from_covariances(np.zeros(3), 0, 0), 1.0, 0.05, 0.02, copies=True) == "equivalent"


def test_one_source_of_variance_is_enough():
    """Seeds that agree beside patients that vary, or the other way round: either is a measured uncertainty."""
    patients = orh.from_covariances(np.full(3, 0.05), 2e-4, 1e-4)
    assert patients.seed_variance == 0
    assert verdict(patients, patients.p_value(), 0.05, 0.02) == "helps"
    seeds = orh.from_covariances(np.array([0.050, 0.051, 0.052]), 1e-4, 2e-4)
    assert seeds.patient_variance == 0
    assert verdict(seeds, seeds.p_value(), 0.05, 0.02) == "helps"
