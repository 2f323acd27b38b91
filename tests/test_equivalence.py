"""The verdict: its order, its margin, its words."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_paired

from synthgain.statistics import equivalence
from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.equivalence import VERDICTS, Rules, judge, judge_runs, verdict
from synthgain.statistics.units import Design, units_of

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


RULES = Rules(0.05, 0.02)


def test_the_order_of_a_verdict():
    """Too few units, not estimable, ceiling, equivalent, helps or harms, inconclusive."""
    tiny = orh.from_covariances(np.array([0.0010, 0.0011, 0.0012, 0.0011]), 0, 0)
    wide = orh.from_covariances(np.array([0.10, 0.11, 0.12, 0.11]), 0, 0)
    assert judge(tiny, (0.8, 0.8), RULES, "3 seeds").verdict == "no verdict"
    assert judge(tiny, (0.8, 0.8), RULES, "3 seeds", copies=True, reason="copies").verdict == "no verdict"
    assert judge(replace(tiny, se=np.nan), (0.8, 0.8), RULES, reason="flat").verdict == "inconclusive"
    assert judge(tiny, (0.8, 0.8), RULES).verdict == "equivalent"
    near = judge(tiny, (0.97, 0.97), RULES)
    assert near.verdict == "inconclusive"
    assert near.reason.startswith("ceiling: the margin of 0.02 is more than 40 % of the 0.03")
    assert judge(tiny, (0.97, 0.97), replace(RULES, margin=0.01)).verdict == "equivalent"
    assert judge(wide, (0.99, 0.88), RULES).verdict == "helps"  # a ceiling forbids *equivalent* alone
    assert judge(wide, (0.8, 0.7), RULES, p_adjusted=0.2).verdict == "inconclusive"
    distance = replace(RULES, margin=1.0, higher_is_better=False, ends=(0.0, np.inf))
    assert judge(tiny, (12.0, 12.0), distance).verdict == "equivalent"
    assert "the best value" in judge(tiny, (1.2, 1.2), distance).reason


def test_one_comparison_from_its_runs():
    arm, baseline = np.array([0.86, 0.87, 0.85, 0.88, 0.86, 0.87]), np.full(6, 0.80) + 0.001 * np.arange(6)
    covariance = np.full((12, 12), 1e-4) + 1e-5 * np.eye(12)
    one = judge_runs(arm, baseline, covariance, RULES, Design())
    assert one.verdict == "helps"
    assert one.p == orh.compare(arm, baseline, covariance).p_value()
    assert judge_runs(arm[:3], baseline[:3], covariance[np.ix_([0, 1, 2, 6, 7, 8], [0, 1, 2, 6, 7, 8])], RULES,
                      Design()).verdict == "no verdict"  # fmt: skip
    two = judge_runs(arm, baseline, covariance, RULES, Design(generators=2))
    assert two.contrast.seeds == 6
    four = judge_runs(arm, baseline, covariance, RULES, Design(generators=6))
    assert four.contrast.seeds == 6


@pytest.mark.parametrize(
    ("count", "design", "unit", "units", "claim", "few"),
    [
        (5, Design(), "seeds", 5, "for this generator", False),
        (3, Design(), "seeds", 3, "for this generator", True),
        (10, Design(2), "seeds", 10, "for these 2 generators", False),
        (4, Design(3), "seeds", 4, "for these 3 generators", True),  # one seed is left to tell the spread of seeds
        (8, Design(4), "generators", 4, "", False),
        (3, Design(8), "seeds", 3, "for these 3 generators", True),
        (10, Design(1, 5), "pool draws", 5, "for this generator", False),
        (10, Design(1, 2), "seeds", 10, "for this generator", False),
        (10, Design(1, 1, "drawn"), "seeds", 10, "for this pool", False),
        (10, Design(1, 5, "drawn"), "pool draws", 5, "", False),
        (2, Design(4, 4, "real"), "seeds", 2, "", True),
    ],
)
def test_units_of_a_comparison(count, design, unit, units, claim, few):
    found = units_of(np.arange(count), design)
    assert (found.unit, found.count, found.claim, bool(found.too_few)) == (unit, units, claim, few)
    np.testing.assert_allclose(found.averaging.sum(axis=1), 1)


def test_replicates_of_a_generator_are_averaged():
    found = units_of(np.arange(9), Design(4))
    np.testing.assert_allclose(found.averaging @ np.arange(9.0), [4, 3, 4, 5])
