"""Boundaries of planned looks, and what a plan of looks errs and costs."""

import numpy as np
import pytest

from synthgain.statistics.looks import Design, look_levels, simulated_rates


def test_one_look_is_tested_at_alpha() -> None:
    assert look_levels(0.05, (24,)) == (0.05,)


def test_levels_are_those_of_the_literature() -> None:
    """Critical z of Lan and DeMets' O'Brien–Fleming type, two-sided 0.05, at equal steps."""
    from scipy import stats

    for looks, critical in (((8, 16, 24), (3.7103, 2.5114, 1.9930)), ((5, 10), (2.9626, 1.9686))):
        assert look_levels(0.05, looks) == pytest.approx(2 * stats.norm.sf(critical), rel=2e-3)


def test_levels_rise_and_depend_on_shares_alone() -> None:
    levels = look_levels(0.05, (4, 8, 12, 16, 20))
    assert sorted(levels) == list(levels)
    assert levels[-1] < 0.05
    assert look_levels(0.05, (8, 16, 24, 32, 40)) == pytest.approx(levels)
    assert look_levels(0.1, (4, 8)) > look_levels(0.05, (4, 8))


@pytest.mark.parametrize("patients", [0.0, 1.0, 5.0])
def test_looks_keep_the_level_whatever_the_patients_share(patients: float) -> None:
    """3000 studies without a difference, and 3000 at the margin: at most 0.06 over all looks."""
    last = np.sqrt(1 / 24 + patients)
    random = np.random.default_rng(5)
    null = simulated_rates(Design((8, 16, 24), 0.0, 0.0, 1.0, patients), 3000, random)
    edge = simulated_rates(Design((8, 16, 24), 3.6 * last, 3.6 * last, 1.0, patients), 3000, random)
    assert null.rejected < 0.06
    assert edge.equivalent < 0.06


def test_a_clear_difference_ends_early_and_shared_patients_make_looks_alike() -> None:
    random = np.random.default_rng(6)
    alone, shared = (Design((8, 16, 24), 4 * np.sqrt(1 / 24 + v), 0.0, 1.0, v) for v in (0.0, 1.0))
    assert shared.correlation() > 0.9 > alone.correlation()
    found = [simulated_rates(design, 2000, random) for design in (alone, shared)]
    assert all(rates.better > 0.9 and rates.replicates < 24 for rates in found)
    assert found[1].replicates < found[0].replicates
    assert sum(found[0].ends) == pytest.approx(1)


def test_one_look_is_the_plain_test() -> None:
    """Its power is that of the noncentral t."""
    from scipy import stats

    found = simulated_rates(Design((10,), 1.0, 0.0, 1.0, 0.0), 20_000, np.random.default_rng(7))
    exact = stats.nct.sf(stats.t.ppf(0.975, 9), 9, np.sqrt(10))
    assert found.better == pytest.approx(exact, abs=0.01)
