"""Obuchowski–Rockette–Hillis: the published example, the two exact reductions, the guards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from synthgain.statistics import delong, simulation
from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.paired import paired_t

VAN_DYKE = np.array(
    [
        [0.9196457, 0.8587762, 0.9038647, 0.9731079, 0.8297907],
        [0.9478261, 0.9053140, 0.9217391, 0.9993559, 0.9299517],
    ]
)


def test_van_dyke_worked_example():
    """DeLong covariances as in MRMCaov's documentation."""
    found = orh.from_covariances(VAN_DYKE[1] - VAN_DYKE[0], 0.0003395265, 0.0002358497)
    assert found.seed_variance / 2 == pytest.approx(0.0005510306, abs=1e-9)
    assert found.difference == pytest.approx(0.04380032, abs=1e-7)
    assert found.se == pytest.approx(0.0206825, abs=1e-6)
    assert found.hillis_df == pytest.approx(15.06611, abs=1e-4)
    assert 2 * orh.t_cdf(-found.difference / found.se, found.hillis_df) == pytest.approx(0.05123303, abs=1e-6)
    assert 4 < found.df < found.hillis_df  # the correction for few seeds
    assert found.p_value() > 0.05123303


def test_equal_covariances_reduce_to_the_paired_t():
    found = orh.from_covariances(VAN_DYKE[1] - VAN_DYKE[0], 3e-4, 3e-4)
    t = paired_t(VAN_DYKE[1], VAN_DYKE[0])
    assert found.df == 4
    assert found.p_value() == pytest.approx(t.p, rel=1e-10)
    assert found.interval() == pytest.approx((t.low, t.high), rel=1e-8)


def test_copies_of_one_seed_reduce_to_delong():
    setting = simulation.Setting("one", patients=80, replicates=1, images=1, effect=0.3)
    drawn = simulation.simulate(setting, np.random.default_rng(3))
    copies = np.repeat(drawn.scores, 4, axis=1).reshape(8, -1)
    parts = delong.components(drawn.truth, copies, drawn.patient, 80)
    found = orh.compare(parts.auroc[:4], parts.auroc[4:], delong.covariance([parts]))
    difference, p = delong.delong_test(drawn.scores[0, 0], drawn.scores[1, 0], drawn.truth, drawn.patient)
    assert np.isinf(found.df)
    assert found.difference == pytest.approx(difference)
    assert found.p_value() == pytest.approx(p, rel=1e-9)


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=12), st.floats(0, 1e-3), st.floats(0, 1e-3))
def test_se_is_the_sum_of_its_two_components(differences, cov2, cov3):
    found = orh.from_covariances(np.array(differences), cov2, cov3)
    assert found.se**2 == pytest.approx(found.seed_variance / found.seeds + found.patient_variance, abs=1e-15)
    assert np.isinf(found.df) or found.df >= found.seeds - 1 - 1e-9
    p = found.p_value()
    low, high = found.interval()
    if found.se > 1e-9 and 1e-9 < p < 1:
        assert (p < 0.05) == (not low <= 0 <= high) or abs(p - 0.05) < 1e-6
        assert found.p_value("greater") + found.p_value("less") == pytest.approx(1)


def test_no_difference_and_no_spread_is_p_one_but_a_spreadless_difference_is_undefined():
    nothing = orh.from_covariances(np.zeros(3), 0.0, 0.0)
    assert nothing.p_value() == 1
    assert nothing.interval() == (0, 0)
    assert np.isnan(orh.from_covariances(np.full(3, 0.01), 0.0, 0.0).p_value())


def test_one_seed_gives_no_interval():
    found = orh.compare(np.array([0.8]), np.array([0.7]), np.eye(2) * 1e-4)
    assert np.isnan(found.p_value())
    assert np.isnan(found.interval()).all()
    assert found.difference == pytest.approx(0.1)


def test_student_t_agrees_with_scipy():
    for df in (1.5, 4, 60, np.inf):
        assert orh.t_cdf(-1.3, df) == pytest.approx(stats.t.cdf(-1.3, df))
        assert orh.t_quantile(0.975, df) == pytest.approx(stats.t.ppf(0.975, df))


def test_wrong_shapes_and_words_are_refused():
    with pytest.raises(ValueError, match="covariance of shape"):
        orh.compare(np.zeros(3), np.zeros(3), np.eye(5))
    with pytest.raises(ValueError, match="alternative"):
        orh.from_covariances(np.array([0.1, 0.2]), 0, 0).p_value("bigger")


def test_few_seeds_keep_the_level_at_any_share_of_the_patients():
    """Normal differences of S seeds beside a known patient variance: Hillis' df alone rejects .064 with 4 seeds."""
    random, runs = np.random.default_rng(5), 20_000
    for seeds in (4, 5, 10):
        for share in (0.1, 0.25, 0.5, 1, 4, 20):  # patient variance over that of the mean of seeds
            patients = share / seeds
            of_seeds = random.chisquare(seeds - 1, runs) / (seeds - 1) / seeds
            statistic = random.normal(size=runs) * np.sqrt(1 / seeds + patients) / np.sqrt(of_seeds + patients)
            df = np.array([orh.small_sample_df(part, patients, seeds - 1) for part in of_seeds])
            rejected = np.mean(2 * stats.t.sf(np.abs(statistic), df) < 0.05)
            assert rejected < 0.06 + 2 * np.sqrt(0.06 * 0.94 / runs), (seeds, share)


def test_seeds_vary_within_their_generators_where_the_claim_is_about_these():
    """Two generators far apart: the mean of both, with the spread of seeds within each, and a free seed less."""
    strata = np.array([0, 1, 0, 1, 0, 1])
    values = np.array([0.01, 0.11, 0.02, 0.12, 0.03, 0.13])
    found = orh.linear(values, np.zeros((6, 6)), strata)
    assert found.difference == pytest.approx(0.07)
    assert found.se == pytest.approx(0.01 / np.sqrt(6))
    assert found.df == pytest.approx(4)
    assert orh.linear(values, np.zeros((6, 6))).se > 4 * found.se  # as if generators were seeds
    uneven = orh.linear(values[:5], np.zeros((5, 5)), strata[:5])
    assert uneven.difference == pytest.approx((0.02 + 0.115) / 2)  # each generator counts once


def test_an_interval_grows_towards_truths_with_more_errors():
    """A count of errors: the variance at another truth is that truth's, as in a score interval; never shorter."""
    errors = np.r_[np.full(12, -1.0), np.zeros(188)] / 200
    found = orh.linear(np.full(5, errors.sum()), np.full((5, 5), float((errors**2).sum())), influence=errors)
    low, high = found.interval(0.9)
    plain = found.se * orh.t_quantile(0.95, found.df)
    assert high == pytest.approx(found.difference + plain)
    assert low < found.difference - 1.2 * plain
    t = orh.t_quantile(0.95, found.df)
    assert (found.difference - low) ** 2 == pytest.approx(t * t * (found.se**2 + (found.difference - low) * 1.5 / 200))
    assert found.p_value(null=low) == pytest.approx(0.1, abs=1e-6)
    assert found.p_value(null=high) == pytest.approx(0.1, abs=1e-6)
    few = orh.linear(np.full(5, 0.01), np.full((5, 5), 1e-4), influence=np.r_[0.01, np.zeros(99)])
    assert few.df == pytest.approx(6)  # one patient carries it all: 2·3·(Σu²)²/Σu⁴


def test_an_interval_grows_where_the_arm_that_errs_more_would_err_still_more():
    """Variances in proportion to errors: the skew of a long tail may not be drawn, the means of both arms are."""
    arm, baseline = np.full(5, 0.99), np.full(5, 0.97)
    covariance = np.kron(np.diag([1e-5, 3e-5]), np.ones((5, 5)))
    plain = orh.compare(arm, baseline, covariance)
    found = orh.compare(arm, baseline, covariance, ends=(0, 1))
    assert (found.difference, found.se, found.df) == (plain.difference, plain.se, plain.df)
    one = 4e-5 / 0.04 * 0.96 / 0.98  # e (1 − e) at the mean error of .02
    assert found.drift == pytest.approx(one**2 * 0.02 / 4e-5)
    (low, high), (plain_low, plain_high) = found.interval(), plain.interval()
    assert low == pytest.approx(plain_low)  # towards fewer errors: never shorter than the plain one
    assert high > plain_high + 0.0005
    assert found.p_value(null=high) == pytest.approx(0.05, abs=1e-6)
    assert found.p_value() == pytest.approx(plain.p_value())
    other = orh.compare(baseline, arm, np.kron(np.diag([3e-5, 1e-5]), np.ones((5, 5))), ends=(0, 1)).interval()
    assert other == pytest.approx((-high, -low))
    below = orh.compare(1 - arm, 1 - baseline, covariance, ends=(0, 1)).interval()  # errors counted, not successes
    assert below == pytest.approx((-high, -low))
    assert orh.compare(arm, arm, covariance, ends=(0, 1)).drift == 0
    distances = orh.compare(
        np.full(5, 2.0), np.full(5, 4.0), np.kron(np.diag([1.0, 3.0]), np.ones((5, 5))), ends=(0, np.inf)
    )
    assert distances.drift == pytest.approx((4 / 6) ** 2 * -2 / 4)
    shared = np.kron([[1e-5, 1.6e-5], [1.6e-5, 3e-5]], np.ones((5, 5)))
    close = orh.compare(arm, baseline, shared, ends=(0, 1))
    assert close.drift == pytest.approx(np.sqrt(one * one * 8e-6 / 4e-5))  # errors that both arms share
