"""Error rates of the tests on stored-score models, and the table that docs/statistics.md prints."""

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np

from synthgain.runtime.files import read_json
from synthgain.statistics import simulation

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
