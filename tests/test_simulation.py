"""Error rates of the tests on stored-score models, and the table that docs/statistics.md prints."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synthgain.runtime.files import read_json
from synthgain.statistics import error_cases, error_rates, simulation
from synthgain.statistics.predictions import build_panel

DOCS = Path(__file__).parents[1] / "docs"
STORED = DOCS / "statistics_errors.json"


def test_type_one_error_of_the_primary_test():
    """Method test 4: at most 0.07 over 1000 small runs, seed fixed; a lower rate is allowed."""
    setting = simulation.Setting("null", patients=80, images=3)
    found = simulation.rejection_rates(setting, 1000, np.random.default_rng(11))
    rate = found["tests"]["orh"]
    assert rate["rate"] <= simulation.TYPE_ONE_LIMIT
    assert rate["low"] <= rate["rate"] <= rate["high"]
    # what the report's tests would do alone: ignoring patients, or ignoring seeds and clusters
    assert found["tests"]["paired_t"]["rate"] > 0.1
    assert found["tests"]["delong"]["rate"] > 0.1


def test_power_rises_with_the_effect():
    random = np.random.default_rng(12)
    rates = [
        simulation.rejection_rates(simulation.Setting("p", effect=effect), 60, random)["tests"]["orh"]["rate"]
        for effect in (0.0, 0.6)
    ]
    assert rates[1] > 0.9 > rates[0]


def test_simulated_structure():
    drawn = simulation.simulate(simulation.Setting("s", patients=50, images=4, replicates=3), np.random.default_rng(0))
    images = np.bincount(drawn.patient)
    assert (images.min(), images.max()) == (1, 4)
    assert drawn.scores.shape == (2, 3, len(drawn.truth))
    again = simulation.simulate(simulation.Setting("s", patients=50, replicates=3), np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.scores, again.scores)


def test_stored_rates_show_no_defect():
    stored = read_json(STORED)["results"]
    null = [result for result in stored if result["setting"]["effect"] == 0]
    assert len(null) >= 5
    for result in null:
        assert result["runs"] >= 4000
        assert result["tests"]["orh"]["rate"] <= simulation.TYPE_ONE_LIMIT
    assert [result["setting"]["name"] for result in stored] == [setting.name for setting in simulation.SETTINGS]


def test_the_document_shows_the_stored_rates():
    text = (DOCS / "statistics.md").read_text(encoding="utf-8")
    assert simulation.markdown_table(read_json(STORED)["results"]) in text


def test_stored_settings_are_those_of_the_code():
    stored = read_json(STORED)["results"]
    for result, setting in zip(stored, simulation.SETTINGS, strict=True):
        assert result["setting"] == asdict(setting)


def test_the_document_names_tests_that_exist():
    folder = Path(__file__).parent
    rows = [line for line in (folder.parent / "docs" / "statistics.md").read_text().splitlines() if "::test_" in line]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 17))
    for row in rows:
        file = ""
        for named, test in re.findall(r"`(test_\w+\.py|…)::(test_\w+)`", row):
            file = file if named == "…" else named
            assert f"def {test}(" in (folder / file).read_text(), f"{file}::{test}"


def test_the_verdict_keeps_its_rates_in_every_stored_case():
    """Rejection and false *equivalent* at most .06, coverage at least .93, beyond the error of so many studies."""
    stored = read_json(STORED)["verdict"]
    cases = {case.name: case for case in error_cases.CASES}
    assert {case.name for case in (error_cases.BASE, *error_cases.ONE_FACTOR, *error_cases.CORNERS)} <= {
        result["case"]["name"] for result in stored
    }
    for result in stored:
        assert result["case"] == asdict(cases[result["case"]["name"]])
        assert error_rates.misses(result) == [], result["case"]["name"]
    assert stored[0]["runs"] >= 4000
    assert stored[0]["truths"]["null"]["rejected"] <= error_rates.REJECTED_AT_MOST
    assert error_rates.markdown_table(stored) in (DOCS / "statistics.md").read_text(encoding="utf-8")


def test_a_part_of_the_stored_rates_comes_out_again():
    """Few studies of the base setting, of one at the ceiling, and one with three seeds, which gets no word."""
    stored = {result["case"]["name"]: result["truths"]["null"] for result in read_json(STORED)["verdict"]}
    for case in (error_cases.BASE, next(case for case in error_cases.ONE_FACTOR if case.name == "AUROC .97")):
        found = error_rates.error_rates(case, 60, np.random.default_rng(5))["truths"]["null"]
        share = stored[case.name]["covered"]
        assert abs(found["covered"] - share) < 4 * np.sqrt(share * (1 - share) / 60)
    three = next(case for case in error_cases.ONE_FACTOR if case.name == "3 seeds")
    assert error_rates.error_rates(three, 5, np.random.default_rng(0))["truths"]["null"]["judged"] == 0


def test_simulated_panels_are_those_of_their_prediction_tables():
    setting = simulation.Setting("p", patients=12, replicates=2)
    scores = simulation.simulate(setting, np.random.default_rng(3))
    tables = [simulation.prediction_table(scores, arm, "a", "finding").assign(arm=f"arm_{arm}") for arm in (0, 1)]
    direct, built = error_rates.panel_of(scores, "test"), build_panel(pd.concat(tables), "a", "test")
    order = np.array([int(str(name).rpartition("-")[2]) for name in built.image_ids])
    np.testing.assert_array_equal(direct.scores[:, :, order], built.scores)
    np.testing.assert_array_equal(direct.truth[:, order], built.truth)
    pd.testing.assert_frame_equal(direct.runs, built.runs)
    names = np.array([int(str(name).rpartition("p")[2]) for name in built.patient_ids])
    np.testing.assert_array_equal(direct.patient[order], names[built.patient])


def test_simulated_spreads_are_those_asked_for():
    setting = simulation.Setting("s", patients=400, replicates=40, mixed_share=0.5, tails=5, common_seed_sd=1.0)
    drawn = simulation.simulate(setting, np.random.default_rng(4))
    shares = np.bincount(drawn.patient, drawn.truth) / np.bincount(drawn.patient)
    assert 0.1 < ((shares > 0) & (shares < 1)).mean() < 0.4  # of the mixed half, those with images of both kinds
    signal = drawn.scores[:, :, drawn.truth == 1].mean(axis=2)
    assert np.corrcoef(signal)[0, 1] > 0.95  # the seeds' effects are those of both arms
    heavy = simulation._effects(5, (200_000,), np.random.default_rng(5))
    assert heavy.std() == pytest.approx(1, abs=0.03)
    assert stats.kurtosis(heavy) > 2


def test_the_truth_of_a_claim_is_that_of_its_generators():
    case = next(case for case in error_cases.ONE_FACTOR if case.name.startswith("2 generators"))
    signal, noise = 1.0, error_rates.noise_of(case.setting)
    case = replace(case, level=float(stats.norm.cdf(signal / noise)))
    shift = error_rates._generator_shift(case, signal, 0.02, np.random.default_rng(1))
    mean = stats.norm.cdf((signal + np.unique(shift)) / noise).mean()
    assert len(np.unique(shift)) == 2
    assert mean == pytest.approx(case.level + 0.02)
