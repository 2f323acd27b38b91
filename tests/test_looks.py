"""Boundaries of planned looks, and what a plan of looks errs and costs."""

from pathlib import Path

import numpy as np
import pytest

from synthgain.runtime.files import read_json
from synthgain.statistics.look_rates import LEVEL_LIMIT, PATIENTS, PLANS, RUNS, look_rates, markdown_table
from synthgain.statistics.looks import Design, look_levels, simulated_rates

DOCS = Path(__file__).parents[1] / "docs"


def test_the_document_shows_the_stored_rates_of_all_plans() -> None:
    stored = read_json(DOCS / "looks.json")
    assert stored["runs"] == RUNS
    assert [(tuple(row["looks"]), row["patients"]) for row in stored["results"]] == [
        (plan, variance) for plan in PLANS for variance in PATIENTS
    ]
    assert markdown_table(stored["results"]) in (DOCS / "protocol.md").read_text()


def test_no_plan_errs_more_than_declared_and_power_stays() -> None:
    stored = read_json(DOCS / "looks.json")["results"]
    once = {row["patients"]: row for row in stored if row["looks"] == [24]}
    for row in stored:
        assert max(row["rejected"], row["false_equivalent"]) <= LEVEL_LIMIT
        if row["looks"][-1] == 24:
            assert row["power"] > once[row["patients"]]["power"] - 0.03
            assert row["equivalent"] > once[row["patients"]]["equivalent"] - 0.03


def test_stored_rates_are_those_of_the_code() -> None:
    """A part again, with 4000 studies: within four standard errors."""
    stored = {(tuple(row["looks"]), row["patients"]): row for row in read_json(DOCS / "looks.json")["results"]}
    for row in look_rates(4000, [(8, 16, 24)], [0.2]):
        kept = stored[tuple(row["looks"]), row["patients"]]
        assert row["levels"] == pytest.approx(kept["levels"])
        for name in ("rejected", "false_equivalent", "power", "equivalent"):
            assert row[name] == pytest.approx(kept[name], abs=4 * np.sqrt(kept[name] * (1 - kept[name]) / 4000))


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
