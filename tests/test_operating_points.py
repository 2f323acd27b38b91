"""A moved operating point is no gain: planted shifts and gains are told apart; rare findings, outside sites."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from simulated_run import make_run, report_job
from test_statistics_script import job_slice, patient_table, predictions

from synthgain.report.evidence import ModelEvidence
from synthgain.report.sections.operating_points import finding_blocks, shift_sentence, tail_sentence
from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.inputs import Inputs
from synthgain.statistics.metric_registry import MainEndpoint
from synthgain.statistics.operating_points import reading_of
from synthgain.statistics.readings import GAIN, GAIN_AND_SHIFT, LOSS, NEITHER, SHIFT, UNKNOWN
from synthgain.statistics.stage import Results, analyse
from write_report import write_report

DECLARED = {"arm": "supplemented", "ratio": 300, "metric": "auroc", "labels": "macro", "test_set": "hospital_a"}


def analysed(tables: dict[str, pd.DataFrame], fields: dict[str, Any], splits: Any = None) -> Results:
    datasets = {entry["dataset"]: patient_table(tables, entry["dataset"]) for entry in fields["test_sets"]}
    inputs = Inputs(tables, fields["test_sets"], fields["targets"], {}, datasets, splits or {})
    return analyse(inputs, read_analysis(fields), 0)


def moved(tables: dict[str, pd.DataFrame], by: float) -> dict[str, pd.DataFrame]:
    """The supplemented arm with all its logits moved by a constant, in validation as in test."""
    own = tables["supplemented"]
    score = np.clip(own["score"].to_numpy(dtype=np.float64), 1e-6, 1 - 1e-6)
    return tables | {"supplemented": own.assign(score=expit(logit(score) + by).astype(np.float32))}


def cell(table: pd.DataFrame, **place: object) -> pd.Series:
    for name, value in (DECLARED | place).items():
        column = {"labels": "label", "test_set": "dataset"}.get(name, name)
        table = table[table[column] == value] if column in table else table
    (row,) = [row for _, row in table.iterrows()]
    return row


@pytest.fixture(scope="module")
def shifted() -> Results:
    fields = job_slice(metrics=["auroc", "sensitivity", "specificity"], subgroups=[], bootstrap=200)
    return analysed(moved(predictions({}), 1.5), fields)


def test_logits_moved_by_a_constant_are_a_shift_and_no_gain(shifted: Results) -> None:
    row = cell(shifted["shift_or_gain.csv"])
    assert row["reading"] == SHIFT
    assert abs(row["auroc"]) < 0.02
    assert row["sensitivity_low"] > 0.1
    assert row["specificity_high"] < -0.1
    # thresholds fitted on its own validation images take the shift back
    assert row["fitted_sensitivity_low"] < 0 < row["fitted_sensitivity_high"]
    assert row["fitted_specificity_low"] < 0 < row["fitted_specificity_high"]
    said = shift_sentence(row)
    assert "its operating point has moved, and a gain in ranking is not shown" in said
    assert "supplemented at 300 %" in said or "supplemented" in said


def test_a_planted_gain_is_a_gain_and_with_a_moved_threshold_both_are_said() -> None:
    fields = job_slice(metrics=["auroc", "sensitivity", "specificity"], subgroups=[], bootstrap=200)
    fields["test_sets"] = fields["test_sets"][:1]
    better = predictions({("supplemented", 300): 1.2})
    # signal is added to positives alone; half of it is taken off everybody, so that both rates rise
    own = better["supplemented"]
    score = logit(np.clip(own["score"].to_numpy(dtype=np.float64), 1e-6, 1 - 1e-6))
    level = np.where(own["ratio"] == 300, 0.6, 0.0)
    balanced = better | {"supplemented": own.assign(score=expit(score - level).astype(np.float32))}
    assert cell(analysed(balanced, fields)["shift_or_gain.csv"])["reading"] == GAIN
    assert cell(analysed(moved(balanced, 2.5), fields)["shift_or_gain.csv"])["reading"] == GAIN_AND_SHIFT


@pytest.mark.parametrize(
    ("auroc", "p", "sensitivity", "specificity", "reading"),
    [
        (0.02, 0.01, (0.01, 0.05), (-0.01, 0.03), GAIN),
        (0.02, 0.01, (0.1, 0.2), (-0.2, -0.1), GAIN_AND_SHIFT),
        (0.02, 0.20, (0.1, 0.2), (-0.2, -0.1), SHIFT),
        (0.02, 0.20, (-0.2, -0.1), (0.1, 0.2), SHIFT),
        (0.02, 0.20, (0.1, 0.2), (-0.2, 0.1), NEITHER),
        (0.02, 0.20, (0.1, 0.2), (0.1, 0.2), NEITHER),
        (-0.02, 0.01, (-0.2, -0.1), (-0.2, -0.1), LOSS),
        (np.nan, np.nan, (0.1, 0.2), (-0.2, -0.1), UNKNOWN),
        (0.02, 0.20, (np.nan, np.nan), (-0.2, -0.1), NEITHER),
    ],
)
def test_readings(auroc: float, p: float, sensitivity: Any, specificity: Any, reading: str) -> None:
    rates = [{"difference": sum(ends) / 2, "low": ends[0], "high": ends[1]} for ends in (sensitivity, specificity)]
    assert reading_of(auroc, p, rates[0], rates[1], 0.05) == reading  # type: ignore[arg-type]


def test_without_a_fixed_threshold_or_with_classes_there_is_no_such_table(shifted: Results) -> None:
    fields = job_slice(metrics=["auroc", "sensitivity"], subgroups=[], bootstrap=50)
    fields["test_sets"] = fields["test_sets"][:1]
    assert not len(analysed(predictions({}), fields)["shift_or_gain.csv"]), "specificity is not measured"
    fields["analysis"] |= {"metrics": None, "thresholds": {"policies": ["f1_max"], "primary": "f1_max"}}
    assert not len(analysed(predictions({}), fields)["shift_or_gain.csv"])


def rare(positives: int) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame]:
    """Two findings of 60 test patients; the second is there in `positives` of them, and in 2 of 100 trained ones."""
    common = predictions({})
    tables = {}
    for arm, table in common.items():
        people = sorted(table["patient_id"].unique())
        chosen = {name for name in people if int(name.rsplit("p", 1)[1]) < positives}
        second = table.assign(label="nodule", truth=table["patient_id"].isin(chosen).astype(np.float32))
        tables[arm] = pd.concat([table, second], ignore_index=True)
    images = [f"t{n}" for n in range(100)]
    own = pd.DataFrame(
        {"image_id": images, "patient_id": images, "opacity": 0.0, "nodule": 0.0, "sex": "F", "age": 50.0}
    )
    own.loc[:39, "opacity"], own.loc[:1, "nodule"], own.loc[90:, "nodule"] = 1.0, 1.0, np.nan
    split = own[["image_id", "patient_id"]].assign(part="train")
    return tables, own, split


@pytest.mark.parametrize(("positives", "told"), [(30, True), (4, False)])
def test_each_finding_has_its_counts_and_the_rare_one_says_too_few(positives: int, told: bool) -> None:
    tables, own, split = rare(positives)
    fields = job_slice(metrics=["auroc"], subgroups=[], bootstrap=50) | {"targets": ["opacity", "nodule"]}
    fields["test_sets"] = fields["test_sets"][:1]
    inputs = Inputs(tables, fields["test_sets"], fields["targets"], {}, {"hospital_a": own}, {"hospital_a": split})
    table = analyse(inputs, read_analysis(fields), 0)["findings.csv"]
    assert table["label"].iloc[0] == "nodule", "the rarest stands first"
    nodule, opacity = cell(table[table["label"] == "nodule"], labels="nodule"), cell(table, labels="opacity")
    assert (nodule["trained_positives"], nodule["trained_patients"]) == (2, 90)
    assert (opacity["trained_positives"], opacity["trained_patients"], opacity["share"]) == (40, 100, 0.4)
    assert (nodule["positives"], nodule["rare"], opacity["rare"]) == (positives, True, False)
    assert np.isfinite(nodule["low"]) == told
    assert (nodule["reason"] if not told else "") == (
        "" if told else f"too few: {positives} test patients have it, 10 are needed"
    )
    main = table[(table["arm"] == "supplemented") & (table["ratio"] == 300)]
    said = tail_sentence(main)
    assert said.startswith("1 of 2 findings are rare (fewer than 5% of the training patients)")
    assert ("1 with too few patients to tell" in said) != told
    model = ModelEvidence("cnn", tables={"findings": table})
    blocks = finding_blocks(model, MainEndpoint("auroc", "macro", "hospital_a", "supplemented", 300), "95 %")
    assert len(blocks) == 3


def test_one_finding_is_no_tail(shifted: Results) -> None:
    assert not len(shifted["findings.csv"])


def test_outside_sites_together_are_the_mean_over_sites_and_one_is_no_summary(shifted: Results) -> None:
    assert not len(shifted["sites.csv"]), "one outside site"
    both = predictions({("supplemented", 300): 1.0})
    third = {}
    for arm, table in both.items():
        other = table[table["dataset"] == "hospital_b"].assign(dataset="hospital_c")
        other["image_id"], other["patient_id"] = "c" + other["image_id"], "c" + other["patient_id"]
        third[arm] = pd.concat([table, other], ignore_index=True)
    fields = job_slice(metrics=["auroc"], subgroups=[], bootstrap=50)
    fields["test_sets"] = [*fields["test_sets"], {"dataset": "hospital_c", "split": False}]
    found = analysed(third, fields)
    row, alone = cell(found["sites.csv"], test_set=None), cell(found["comparisons.csv"], test_set="hospital_b")
    assert row["sites"] == "hospital_b, hospital_c"
    assert row["difference"] == pytest.approx(alone["difference"])  # c repeats b
    assert row["high"] - row["low"] < alone["high"] - alone["low"], "patients of two sites say more than those of one"
    assert row["lowest"] <= row["difference"] <= row["highest"]
    assert not found["failed.json"]


def test_the_report_shows_shifts_and_findings(tmp_path: Path) -> None:
    job = report_job(make_run(tmp_path))
    write_report(job)
    page = job.outputs[0].read_text(encoding="utf-8")
    for words in (
        "Shift or gain, hospital_a",
        "at the threshold of 0.5",
        "Training patients with it",
        "of each finding",
        "interactions tested",
    ):
        assert words in page, words
