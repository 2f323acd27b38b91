"""Figures: the right numbers, real text, the same bytes for the same data, no crash on what may be missing."""

import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.collections
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_run import figures_job, make_run
from studies import tiny

from draw_figures import draw_figures
from synthgain.report.figures import detail, utility
from synthgain.report.figures.detail import running_median
from synthgain.report.figures.plan import main_arm, statistics_plans, subgroup_rows
from synthgain.report.figures.sheets import conditions, first_images
from synthgain.report.figures.style import PALETTE, ArmStyles, save_svg, style_context
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table, write_manifest
from synthgain.statistics.metric_registry import MainEndpoint
from synthgain.study.load import parse_study
from synthgain.study.roles import main_endpoint

MODEL = "cnn"
ARMS = ["real", "real_half", "real_long", "real_strong", "repeated", "supplemented", "synthetic_only"]
COLUMNS = {"opacity": {"kind": "binary"}, "effusion": {"kind": "binary"}, "view": {"kind": "category"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("figures"))


def tables(run: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    folder = run / "statistics" / MODEL
    comparisons = pd.read_csv(folder / "comparisons.csv")
    return read_table(folder / "metrics.parquet"), pd.read_csv(folder / "summary.csv"), comparisons


def test_manifest_lists_every_figure_with_words(run: Path) -> None:
    manifest = json.loads((run / f"figures/{MODEL}/manifest.json").read_text())
    files = {entry["file"] for entry in manifest["figures"]}
    assert files == set(manifest["files"])
    assert {"dose_response.svg", "paired_differences.svg", "forest.svg", "subgroups.svg"} <= files
    assert {"generator_loss.svg", "sample_sheet-drawn-0.svg"} <= files
    assert all(entry["title"] and entry["caption"] and entry["section"] for entry in manifest["figures"])


def test_text_stays_text_and_no_date(run: Path) -> None:
    for path in (run / f"figures/{MODEL}").glob("*.svg"):
        text = path.read_text()
        assert "<text" in text, path.name
        assert "<dc:date>" not in text
    assert "supplemented" in (run / f"figures/{MODEL}/forest.svg").read_text()


def test_drawing_again_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    folder = run / f"figures/{MODEL}"
    before = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    draw_figures(figures_job(run))
    assert {path.name: path.read_bytes() for path in folder.glob("*.svg")} == before


def test_replicate_differences_are_paired(run: Path) -> None:
    metrics, _, comparisons = tables(run)
    found = utility.replicate_differences(metrics, ("real", 0), "hospital_a", "auroc", "macro")
    own = found[(found["arm"] == "supplemented") & (found["ratio"] == 300)]
    row = comparisons[comparisons["family"] == "primary"].iloc[0]
    assert len(own) == 5
    assert own["difference"].mean() == pytest.approx(row["difference"])
    # Paired: the replicates' own spread, and not that of two sets of patients.
    assert own["difference"].std() < 0.012


def test_dose_response_shows_the_table(run: Path) -> None:
    _, summary, _ = tables(run)
    with style_context():
        figure = utility.dose_response(summary, "auroc", "macro", "real", ArmStyles(ARMS, "real"), 0.02)
    axes = figure.axes[0]
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["hospital_a", "hospital_b"]
    lines = {line.get_label(): line for line in axes.get_lines()}
    own = summary[
        (summary["arm"] == "supplemented")
        & (summary["dataset"] == "hospital_a")
        & (summary["metric"] == "auroc")
        & (summary["label"] == "macro")
    ]
    bars = [c for c in axes.containers if c.get_label() == "supplemented"]
    np.testing.assert_allclose(bars[0][0].get_ydata(), own.sort_values("ratio")["mean"])
    assert "real (baseline)" in lines
    assert axes.get_xticklabels()[1].get_text() == "100"


def test_single_replicate_without_intervals_draws(run: Path) -> None:
    metrics, summary, comparisons = tables(run)
    metrics = metrics[metrics["replicate"] == 0]
    summary = summary.assign(low=np.nan, high=np.nan, sd=np.nan)
    comparisons = comparisons.assign(low=np.nan, high=np.nan, p=np.nan)
    styles = ArmStyles(ARMS, "real")
    with style_context():
        utility.dose_response(summary, "auroc", "macro", "real", styles, 0.02).draw_without_rendering()
        utility.forest(comparisons, "auroc", "macro", styles, 0.02).draw_without_rendering()
        figure = utility.paired_differences(metrics, comparisons, "hospital_a", "auroc", "macro", styles, 0.02)
        figure.draw_without_rendering()
    assert not any("nan" in text.get_text() for axes in figure.axes for text in axes.texts)


def test_dose_response_ends_where_the_metric_ends(run: Path) -> None:
    """Two replicates give intervals many times as wide as the metric's scale."""
    _, summary, _ = tables(run)
    wide = summary.assign(low=summary["mean"] - 9, high=summary["mean"] + 9)
    with style_context():
        figure = utility.dose_response(wide, "auroc", "macro", "real", ArmStyles(ARMS, "real"), 0.02)
    assert all(axes.get_ylim()[0] > -0.1 and axes.get_ylim()[1] < 1.1 for axes in figure.axes)


def test_differences_end_where_the_metric_s_scale_does(run: Path) -> None:
    metrics, _, comparisons = tables(run)
    wide = comparisons.assign(low=comparisons["difference"] - 9, high=comparisons["difference"] + 9)
    one = pd.DataFrame({"label": "macro", "column": "sex", "group": ["F"], "metric": "auroc", "patients": 9.0,
                        "difference": 0.0, "difference_low": -9.0, "difference_high": 9.0})  # fmt: skip
    styles = ArmStyles(ARMS, "real")
    with style_context():
        for figure in (
            utility.forest(wide, "auroc", "macro", styles, 0.02),
            utility.paired_differences(metrics, wide, "hospital_a", "auroc", "macro", styles, 0.02),
            detail.subgroup_effects(one, 0.02),
        ):
            assert all(-1.1 < axes.get_xlim()[0] < axes.get_xlim()[1] < 1.1 for axes in figure.axes)


def test_figures_show_the_main_arm_alone_against_controls(run: Path) -> None:
    metrics, summary, comparisons = tables(run)
    names = {"summary.csv": summary, "comparisons.csv": comparisons, "metrics.parquet": metrics}
    chosen = MainEndpoint("auroc", "macro", "hospital_a", "supplemented", 300)
    plans = {plan.file: plan for plan in statistics_plans(names, chosen, 0.02, ARMS)}
    with style_context():
        figure = plans["paired_differences.svg"].draw()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    others = [text for text in labels if " − " in text]
    assert others
    assert all(text.startswith("supplemented 300") for text in others)
    assert {"real_long", "supplemented 100\u00a0%"} <= set(labels)


def test_control_rows_name_their_reference(run: Path) -> None:
    metrics, _, comparisons = tables(run)
    extra = comparisons[comparisons["family"] == "primary"].assign(
        baseline="repeated", baseline_ratio=300, family="control"
    )
    rows = pd.concat([comparisons, extra])
    with style_context():
        figure = utility.paired_differences(
            metrics, rows, "hospital_a", "auroc", "macro", ArmStyles(ARMS, "real"), None
        )
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[-1] == "supplemented 300\u00a0% − repeated"
    rings = [c for c in figure.axes[0].collections if isinstance(c, matplotlib.collections.PathCollection)]
    assert len(rings[-1].get_offsets()) == 5


def test_arm_styles_are_stable_and_distinct() -> None:
    styles = ArmStyles(ARMS, "real")
    looks = [(styles(arm)["color"], styles(arm)["marker"]) for arm in ARMS]
    assert len(set(looks)) == len(ARMS)
    assert ArmStyles(reversed(ARMS), "real")("real") == styles("real")
    many = ArmStyles([f"arm{n}" for n in range(3 * len(PALETTE))])
    assert len({tuple(map(str, many(f"arm{n}").values())) for n in range(3 * len(PALETTE))}) == 3 * len(PALETTE)


def test_dollar_signs_and_markup_in_names_stay_text(tmp_path: Path) -> None:
    rows = [("a $x$ <script>alert(1)</script>", np.zeros((1, 8, 8, 1), np.uint8), np.zeros((0, 8, 8, 1), np.uint8))]
    with style_context():
        save_svg(detail.sample_sheet(rows), tmp_path / "sheet.svg")
    text = (tmp_path / "sheet.svg").read_text()
    assert "<script" not in text
    assert re.search(r"\$x\$", text)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=200))
@settings(deadline=None, max_examples=50)
def test_running_median_stays_inside_the_data(values: list[float]) -> None:
    smooth = running_median(np.array(values))
    assert len(smooth) == len(values)
    assert min(values) <= smooth.min()
    assert smooth.max() <= max(values)


def test_conditions_leave_unknown_labels_out() -> None:
    table = pd.DataFrame(
        {"opacity": [0, 1, np.nan, 0], "effusion": [0, 0, 0, 1], "view": ["AP", "PA", None, "AP"]}
    ).astype({"opacity": "float32", "effusion": "float32"})
    found = conditions(table, COLUMNS, ["opacity", "effusion", "view"])
    assert list(found) == ["no finding", "opacity", "effusion", "view: AP", "view: PA"]
    assert found["no finding"].tolist() == [True, False, False, False]
    assert found["effusion"].tolist() == [False, False, False, True]
    assert list(conditions(table, COLUMNS, ["opacity"])) == ["no opacity", "opacity"]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_first_images_prefer_new_patients(patients: list[int], count: int) -> None:
    table = pd.DataFrame({"patient_id": patients})
    images = np.arange(len(patients), dtype=np.uint8).reshape(-1, 1, 1, 1)
    shown = first_images(images, table, pd.Series(True, table.index), count).ravel()
    assert len(shown) == min(count, len(patients))
    assert len(set(shown.tolist())) == len(shown)
    assert len({patients[row] for row in shown}) == min(len(set(patients)), count)


def test_sample_sheet_shows_training_rows_only(run: Path) -> None:
    text = (run / f"figures/{MODEL}/sample_sheet-drawn-0.svg").read_text()
    assert text.count("<image") == 36  # three conditions, six real and six synthetic each


def test_endpoint_falls_back_without_a_primary() -> None:
    two = {"models__other": {"targets": ["opacity"], "steps": 6}}
    masks = {"models__net": {"task": "segmentation", "structures": ["lungs"], "steps": 6}, "arms__supplemented": ...}
    masks |= {"arms__synthetic_only": ..., "analysis__primary__arm": "real_long", "analysis__primary__ratio": 0}
    declared = {"model": "cnn", "arm": "supplemented", "ratio": 100, "metric": "f1", "labels": "opacity"}
    margin = {"analysis__margin": 0.05, "analysis__margin_reason": "a fall that readers of films would see"}
    study = parse_study(tiny(**two, **margin, analysis__primary={**declared, "test_set": "hospital_b"}))
    assert main_endpoint(study, "other") == MainEndpoint("auroc", "macro", "hospital_a")
    assert main_endpoint(study, "cnn") == MainEndpoint("f1", "opacity", "hospital_b", "supplemented", 100)
    assert main_endpoint(parse_study(tiny(**masks)), "net") == MainEndpoint("dice", "macro", "hospital_a")


def test_main_arm_prefers_the_declared_one() -> None:
    rows = pd.DataFrame({"arm": ["a", "b"], "ratio": [100, 300], "family": ["exploratory", "secondary"]})
    undeclared = MainEndpoint("auroc", "macro", "x")
    assert main_arm(rows, undeclared) == ("b", 300.0)
    assert main_arm(rows, replace(undeclared, arm="a", ratio=100)) == ("a", 100.0)
    assert main_arm(rows.head(0), undeclared) is None


def test_subgroup_rows_without_gaps(run: Path) -> None:
    table = pd.read_csv(run / "statistics" / MODEL / "subgroups.csv")
    chosen = MainEndpoint("auroc", "macro", "hospital_a")
    rows = subgroup_rows(table, chosen, ("supplemented", 300.0))
    assert "gap" not in set(rows["group"])
    assert set(rows["label"]) == {"opacity", "effusion"}
    assert set(subgroup_rows(table, replace(chosen, labels="effusion"), ("supplemented", 300.0))["label"]) == {
        "effusion"
    }
    assert len(subgroup_rows(None, chosen, ("supplemented", 300.0))) == 0


def test_missing_statistics_is_one_clear_line(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    folder = run / "statistics" / MODEL
    (folder / "comparisons.csv").write_text("")
    with pytest.raises(SynthGainError, match=r"comparisons\.csv: missing or empty"):
        draw_figures(figures_job(run))


def test_another_identity_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_manifest(run / "statistics" / MODEL / "manifest.json", "0" * 32, [])
    with pytest.raises(SynthGainError, match="another config or code"):
        draw_figures(figures_job(run))
