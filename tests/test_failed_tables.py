"""What is not the primary comparison cannot stop an analysis: it says that it failed, and the report is written."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from simulated_run import figures_job, job_of, make_run, report_job, restate
from test_dose_response import worth
from test_statistics_script import SETTING, arm, job_slice, patient_table, predictions

import draw_figures
import relate_fidelity
from compare_arms import compare_arms
from synthgain.report import page
from synthgain.report.evidence import gather
from synthgain.report.figures import utility
from synthgain.report.sections import study as study_sections
from synthgain.runtime.command import Terminated
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, write_json, write_manifest
from synthgain.statistics import inputs, segmentation, stage
from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.readings import UNBOUNDED
from synthgain.statistics.stage import Inputs, analyse

MODEL = "cnn"
SMALL = replace(SETTING, patients=60, images=1)
# Function of the stage → name of the table that it makes.
TABLES = {
    "dose_response_of": "dose_response",
    "real_equivalents_of": "learning_curve",
    "power_of": "power",
    "patient_bootstrap": "patient_bootstrap",
    "threshold_rows": "thresholds",
    "calibration_table": "calibration",
    "subgroup_table": "subgroups",
    "summary_rows": "summary",
}


def broken(error: type[BaseException] = OverflowError) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error("cannot convert float infinity to integer")

    return fail


def fields(**analysis: Any) -> dict[str, Any]:
    declared = {"bootstrap": 100, "metrics": ["auroc", "brier", "f1"], "subgroups": ["sex"]} | analysis
    return job_slice(**declared, minimum={"patients": 10, "positives": 5})


def run(fields: dict[str, Any]) -> dict[str, Any]:
    tables = predictions({("supplemented", 300): 0.5}, SMALL)
    datasets = {entry["dataset"]: patient_table(tables, entry["dataset"]) for entry in fields["test_sets"]}
    return analyse(Inputs(tables, fields["test_sets"], fields["targets"], {}, datasets), read_analysis(fields), 0)


def declared(found: dict[str, Any]) -> str:
    """The declared comparisons as text, in which a number that is not there equals itself."""
    return json.dumps(found["verdict.json"]["comparisons"])


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return run(fields())


def test_nothing_failed_where_nothing_is_broken(whole: dict[str, Any]) -> None:
    assert whole["failed.json"] == {}
    assert whole["verdict.json"]["verdict"]


def test_no_secondary_table_stops_the_verdict(
    whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for function in TABLES:
        monkeypatch.setattr(stage, function, broken())
    logging.getLogger("synthgain").propagate = True
    found = run(fields())
    assert declared(found) == declared(whole)
    pd.testing.assert_frame_equal(found["comparisons.csv"], whole["comparisons.csv"])
    assert set(found["failed.json"]) == set(TABLES.values())
    reason = "hospital_a: OverflowError: cannot convert float infinity to integer"
    assert all(reason in reasons for reasons in found["failed.json"].values())
    for name in ("dose_response.csv", "thresholds.csv", "calibration.csv", "subgroups.csv", "summary.csv"):
        assert list(found[name].columns) == list(whole[name].columns)
        assert not len(found[name])
    assert "learning_curve failed on hospital_a: OverflowError" in caplog.text


def test_one_test_set_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = stage.threshold_rows

    def fail_on_b(found: list[Any], *arguments: Any) -> Any:
        return usual(found, *arguments) if found[0].dataset == "hospital_a" else broken()()

    monkeypatch.setattr(stage, "threshold_rows", fail_on_b)
    found = run(fields())
    assert set(found["thresholds.csv"]["dataset"]) == {"hospital_a"}
    assert [reason.split(":")[0] for reason in found["failed.json"]["thresholds"]] == ["hospital_b"]


def test_a_secondary_metric_that_fails_is_left_out(whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    usual = stage.endpoints

    def without_brier(panel: Any, names: list[str], *arguments: Any) -> Any:
        return broken(ZeroDivisionError)() if "brier" in names else usual(panel, names, *arguments)

    monkeypatch.setattr(stage, "endpoints", without_brier)
    found = run(fields())
    assert declared(found) == declared(whole)
    assert "brier" not in set(found["comparisons.csv"]["metric"])
    assert found["failed.json"]["metrics"][0].startswith("hospital_a, brier: ZeroDivisionError")


def test_thresholds_that_cannot_be_fitted_leave_the_metrics_without_any(
    whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "fit_thresholds", broken(FloatingPointError))
    found = run(fields())
    assert declared(found) == declared(whole)
    assert "f1" not in set(found["comparisons.csv"]["metric"])
    assert "thresholds" in found["failed.json"]
    primary = {"arm": "supplemented", "ratio": 300, "metric": "f1", "labels": "macro", "test_set": "hospital_a"}
    with pytest.raises(FloatingPointError):
        run(fields(primary=primary))


@pytest.mark.parametrize("function", ["endpoints", "comparison_rows", "finish", "guard", "apply_gates", "verdict_of"])
def test_an_error_in_the_primary_comparison_is_an_error(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, function, broken(ArithmeticError))
    with pytest.raises(ArithmeticError):
        run(fields(metrics=["auroc"], subgroups=[]))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, Terminated, SystemExit])
def test_a_stop_or_lack_of_memory_is_no_failed_table(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "power_of", broken(error))
    with pytest.raises(error):
        run(fields(metrics=["auroc"], subgroups=[]))


def test_tables_that_only_segmentation_has_are_guarded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_run(tmp_path, "polyps")  # shared by the session: made whole, before anything is broken
    for function in ("spread_table", "coverage_table", "floor_table"):
        monkeypatch.setattr(segmentation, function, broken())
    compare_arms(job_of(made, "compare_arms", model="unet"))
    folder = made / "statistics" / "unet"
    assert read_json(folder / "verdict.json")["verdict"] == "helps"
    assert set(read_json(folder / "failed.json")) == {"spread", "coverage", "floor"}
    html = page.render(gather(report_job(made)))
    assert f"Spread over patients failed: {REASON}" in section_of(html, "spread")
    assert f"Trivial floors failed: {REASON}" in section_of(html, "spread")


# --- real-image equivalents

HALVES = np.array([0.5, 1.0])


def equivalents(slope: float, gain: float, at: float = 1.0) -> dict[str, Any]:
    values = 0.8 + slope * np.log2(HALVES) + np.array([[0.0], [0.01], [-0.01]])
    position = int(np.flatnonzero(at == HALVES)[0])
    return worth(values, values[:, position] + gain, HALVES, at, 200)


@pytest.mark.parametrize("slope", [2e-12, 1e-9, 1e-6, 1e-4, 3e-4])
@pytest.mark.parametrize("gain", [0.05, 0.4])
def test_a_curve_that_hardly_rises_has_no_exchange_rate(slope: float, gain: float) -> None:
    found = equivalents(slope, gain)
    assert np.isnan(found["fraction"])
    assert found["extra_patients"] is None
    assert found["note"].startswith("not estimable: more than 100 times the real patients")


@pytest.mark.parametrize("gain", [-0.4, -0.05])
def test_a_loss_on_a_flat_curve_is_no_error_either(gain: float) -> None:
    found = equivalents(1e-9, gain)
    assert found["fraction"] == 0
    assert found["extra_patients"] == -200


def test_a_falling_or_flat_curve_says_so() -> None:
    for slope in (0.0, -0.01):
        found = equivalents(slope, 0.05)
        assert np.isnan(found["fraction"])
        assert found["note"] == "not estimable: no positive slope, more real patients do not raise the metric here"


def test_a_slope_that_cannot_be_told_from_0_leaves_the_range_open() -> None:
    values = 0.8 + np.array([[0.0, 0.02], [0.0, -0.01], [0.0, 0.005]])
    found = worth(values, values[:, 1] + np.array([0.009, 0.01, 0.011]), HALVES, 1.0, 200)
    assert found["fraction"] == pytest.approx(4.0)
    assert found["low"] == 0
    assert np.isinf(found["high"])
    assert found["note"] == UNBOUNDED


def test_a_study_with_a_flat_real_curve_is_analysed() -> None:
    """As the audit met it: the whole analysis ended with an OverflowError."""
    declared = fields(metrics=["auroc"], subgroups=[])
    tables = predictions({("supplemented", 300): 0.5}, SMALL)
    half = tables["real"].copy()
    half["score"] += 1e-7 * np.random.default_rng(0).normal(size=len(half))
    declared["arms"] = {**declared["arms"], "half": arm("baseline", None, real_fraction=0.5)}
    found = analyse(
        Inputs({**tables, "half": half.assign(arm="half")}, declared["test_sets"], declared["targets"]),
        read_analysis(declared),
        0,
    )
    assert found["failed.json"] == {}
    assert found["learning_curve.json"]
    assert all(entry["note"].startswith("not estimable") for entry in found["learning_curve.json"])


# --- the report

REASON = "hospital_a: OverflowError: cannot convert float infinity to integer"
PLACES = {
    "dose_response": ("dose", "Dose–response, fitted"),
    "learning_curve": ("dose", "Real-image equivalents"),
    "power": ("dose", "Power"),
    "subgroups": ("subgroups", "Subgroups"),
    "thresholds": ("calibration", "Operating points"),
    "calibration": ("calibration", "Calibration"),
    "summary": ("result", "Means of arms"),
    "metrics": ("labels", "Other metrics"),
    "comparisons": ("labels", "Other comparisons"),
    "patient_bootstrap": ("result", "Patient bootstrap of the primary difference"),
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def failing(run_folder: Path, failed: dict[str, list[str]]) -> None:
    folder = run_folder / "statistics" / MODEL
    write_json(folder / "failed.json", failed)
    for name in ("learning_curve.json", "power.json", "dose_response.json"):
        if name.removesuffix(".json") in failed:
            write_json(folder / name, [])
    manifest = read_json(folder / "manifest.json")
    write_manifest(folder / "manifest.json", manifest["identity"], sorted({*manifest["files"], "failed.json"}))


def section_of(html: str, name: str) -> str:
    return html.split(f'id="{name}"', 1)[1].split("</section>", 1)[0]


def test_the_report_says_what_failed_and_why_where_it_would_stand(made: Path) -> None:
    assert "failed:" not in page.render(gather(report_job(made)))
    failing(made, {name: [REASON] for name in PLACES})
    html = page.render(gather(report_job(made)))
    for section, title in PLACES.values():
        assert f"{title} failed: {REASON}." in section_of(html, section), title
    assert "Real-image equivalents: not done" not in html
    assert "Subgroups: not done" not in html


def test_not_estimable_equivalents_say_why(made: Path) -> None:
    folder = made / "statistics" / MODEL
    entry = read_json(folder / "learning_curve.json")[0]
    note = "not estimable: more than 100 times the real patients, far beyond the measured curve"
    empty = {"fraction": None, "low": None, "high": None, "extra_patients": None, "note": note}
    restate(folder, "learning_curve.json", [{**entry, "ratio": 300, **empty}])
    html = page.render(gather(report_job(made)))
    assert f"worth in real patients {note}." in html


def test_a_section_that_cannot_be_written_says_so(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "methods", broken(AttributeError))
    monkeypatch.setattr(study_sections, "cost_section", broken(KeyError))
    html = page.render(gather(report_job(made)))
    assert "failed: AttributeError: cannot convert" in section_of(html, "methods")
    assert "failed: KeyError" in section_of(html, "cost")


def test_a_figure_that_cannot_be_drawn_says_so(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utility, "dose_response", broken(ValueError))
    draw_figures.draw_figures(figures_job(made))
    manifest = read_json(made / "figures" / MODEL / "manifest.json")
    assert "dose_response.svg" not in manifest["files"]
    html = page.render(gather(report_job(made)))
    assert "Dose–response failed: ValueError: cannot convert" in section_of(html, "dose")


def test_the_relation_of_fidelity_and_gain_cannot_stop_a_study(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = job_of(made, "relate_fidelity", model=MODEL)
    monkeypatch.setattr(relate_fidelity, "relate", broken(FloatingPointError))
    relate_fidelity.relate_fidelity(work)
    html = page.render(gather(report_job(made)))
    assert "Does fidelity predict usefulness here? failed: FloatingPointError: cannot convert" in html
    monkeypatch.undo()
    work.slice["metric"] = "dice"  # nothing of it was estimated
    relate_fidelity.relate_fidelity(work)
    assert "no dice of arm supplemented" in page.render(gather(report_job(made)))
    (made / "fidelity" / "drawn" / "0" / "manifest.json").unlink()
    with pytest.raises(SynthGainError):  # an input that is not there is no failed table
        relate_fidelity.relate_fidelity(work)
