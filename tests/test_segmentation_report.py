"""Segmentation from predictions to the report: spread, floors, verdict in Dice, families, pairs, the right words."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_run import IDENTITY, make_job
from hypothesis import given
from hypothesis import strategies as st
from simulated_run import STRUCTURE, config, figures_job, job_of, make_run, report_job

import draw_figures
from relate_fidelity import relate_fidelity
from synthgain.data.image_set import read_image_set
from synthgain.report.blocks import Table
from synthgain.report.evidence import gather
from synthgain.report.facts import StyledFacts
from synthgain.report.floors import best_floors, with_floor
from synthgain.report.sections.families import families_section
from synthgain.report.sections.methods import methods
from synthgain.report.sections.segmentation import styling_blocks
from synthgain.runtime.files import read_json, read_table, write_manifest, write_table
from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.segmentation import size_terciles, weighted_quantiles
from synthgain.statistics.sentences import verdict_sentence
from synthgain.study.schema import Study
from write_report import write_report

MODEL, RATIOS = "unet", (100, 300)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("pairs"), "polyps")
    write_report(report_job(folder))
    return folder


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / "statistics" / MODEL / f"{name}.csv")


def words(html: str) -> str:
    body = re.sub(r"<style.*?</style>|<script.*?</script>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_verdict_speaks_of_dice_and_its_floor(run: Path) -> None:
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    row = verdict["primary"]
    levels = f"mean Dice on hospital_a {row['mean']:.4f} against {row['baseline_mean']:.4f} (trivial floor"
    assert verdict["verdict"] == "helps"
    assert levels in verdict["sentence"]
    assert row["floor"]["floor"] == "mean_mask"
    assert not verdict["alarms"]["negative_control"]["raised"]
    assert verdict["alarms"]["negative_control"]["checked"]


def test_a_baseline_below_the_floor_has_learned_nothing(run: Path) -> None:
    verdict = read_json(run / "statistics" / MODEL / "verdict.json")
    analysis = read_analysis(job_of(run, "compare_arms", model=MODEL).slice)
    low = verdict["primary"] | {"floor": {"floor": "all_foreground", "value": 0.9}}
    sentence = verdict_sentence(low, analysis, verdict["alarms"])
    assert "The baseline does not beat the trivial floor (all foreground)" in sentence
    assert "trivial floor" in verdict["sentence"]
    assert "does not beat" not in verdict["sentence"]
    equal = low | {"verdict": "equivalent", "floor": None}
    assert "lies within ±0.02 Dice" in verdict_sentence(equal, analysis, verdict["alarms"])


def test_spread_is_that_of_patients(run: Path) -> None:
    predictions = pd.read_parquet(run / "predictions" / MODEL / "real.parquet")
    own = predictions[(predictions["dataset"] == "hospital_b") & (predictions["part"] == "test")]
    patients = own.dropna(subset=["dice"]).groupby(["replicate", "patient_id"])["dice"].mean()
    spread = table(run, "spread").query("arm == 'real' and dataset == 'hospital_b'").set_index("statistic")
    for name, share in (("5th percentile", 0.05), ("median", 0.5)):
        expected = patients.groupby("replicate").quantile(share, interpolation="lower").mean()
        assert spread.loc[name, "value"] == pytest.approx(expected, abs=0.02)
        assert spread.loc[name, "low"] <= spread.loc[name, "value"] <= spread.loc[name, "high"]
    assert set(spread.index) >= {"smallest third", "middle third", "largest third"}
    changed = table(run, "spread").query("arm == 'diffusion' and ratio == 300 and dataset == 'hospital_a'")
    assert (changed["difference"] > 0).all()
    assert (changed["difference"] - (changed["value"] - changed["baseline_value"])).abs().max() < 1e-6


def test_absent_structures_are_counted_not_averaged(run: Path) -> None:
    coverage = table(run, "coverage").query("metric == 'dice' and dataset == 'hospital_a'").iloc[0]
    assert coverage["used"] + coverage["empty_truth"] + coverage["undefined"] == coverage["images"]
    images = read_image_set(run / "datasets" / "hospital_a")
    tested = read_table(run / "splits" / "hospital_a" / "split.parquet").query("part == 'test'")["image_id"]
    assert images.masks is not None
    absent = ~images.masks[..., images.mask_names.index(STRUCTURE)].any(axis=(1, 2))
    assert coverage["empty_truth"] == absent[images.table["image_id"].isin(tested)].sum() > 0


def test_curves_equivalents_and_power_are_of_dice(run: Path) -> None:
    folder = run / "statistics" / MODEL
    assert {fit["metric"] for fit in read_json(folder / "dose_response.json")} == {"dice"}
    worth = {
        (e["arm"], e["ratio"]): e for e in read_json(folder / "learning_curve.json") if e["dataset"] == "hospital_a"
    }
    assert worth["diffusion", 300]["fraction"] > 1
    [power] = read_json(folder / "power.json")
    assert power["metric"] == "dice"
    assert 0 < power["detectable"] < 0.2


@given(st.lists(st.integers(0, 20), min_size=1, max_size=25), st.sampled_from([0.05, 0.25, 0.5, 0.75]))
def test_weighted_quantiles_are_those_of_repeated_values(values: list[int], share: float) -> None:
    array = np.array(values, dtype=float)
    counts = np.arange(len(array)) % 3 + 1
    found = weighted_quantiles(array, np.stack([np.ones(len(array)), counts.astype(float)]), share)
    expected = [np.quantile(x, share, method="inverted_cdf") for x in (array, np.repeat(array, counts))]
    assert found == pytest.approx(expected)


def test_terciles_hold_a_third_each() -> None:
    assert np.bincount(size_terciles(np.random.default_rng(0).random(300))).tolist() == [100, 100, 100]
    assert set(size_terciles(np.ones(9))) == {0}  # equal sizes stay together


def test_the_best_floor_is_best_in_the_metric_s_own_direction() -> None:
    rows = [("a", STRUCTURE, "flat", "dice", 0.2), ("a", STRUCTURE, "mean", "dice", 0.3)]
    rows += [("a", STRUCTURE, "flat", "hd95", 9.0), ("a", STRUCTURE, "mean", "hd95", 12.0)]
    floors = pd.DataFrame(rows, columns=["dataset", "label", "floor", "metric", "value"])
    assert best_floors(floors).set_index("metric")["floor"].to_dict() == {"dice": "mean", "hd95": "flat"}
    shown = with_floor(floors[["dataset", "label", "metric"]].drop_duplicates(), floors)
    assert shown["floor"].tolist() == [0.3, 9.0]
    assert "floor" not in with_floor(shown[["metric"]], pd.DataFrame())


def test_figures_of_segmentation(run: Path) -> None:
    manifest = read_json(run / "figures" / MODEL / "manifest.json")
    files = {entry["file"]: entry for entry in manifest["figures"]}
    assert {"mask_agreement.svg", "dose_response.svg", "sample_sheet-pairs-0.svg"} <= set(files)
    text = (run / "figures" / MODEL / "dose_response.svg").read_text()
    assert "trivial floor (mean mask)" in text or "floor: mean mask" in text
    assert "whose mask was used or transformed" in draw_figures._kinship("parent of\nthe mask")
    assert "training images of other patients" in files["sample_sheet-gan_pairs-0.svg"]["caption"]


def test_a_pair_is_shown_with_the_real_image_behind_it(tmp_path: Path) -> None:
    pools = [{"pool": "pairs", "rows_of": "hospital_a", "parent": "parent_image_id"}]
    job = figures_job(make_run(tmp_path, "polyps"), pools=pools)
    draw_figures.draw_figures(job)
    sheets = {entry["file"]: entry for entry in read_json(job.outputs[0])["figures"] if entry["section"] == "samples"}
    assert "the real parent image, in which the region was drawn, with" in sheets["sample_sheet-pairs-0.svg"]["caption"]
    assert "parent" in (job.outputs[0].parent / "sample_sheet-pairs-0.svg").read_text()


def test_report_speaks_of_segmentation(html: str) -> None:
    text = words(html)
    assert "classifier" not in text.lower()
    for wanted in (
        "5 training seeds",
        "Spread, small structures, floors",
        "Shape of the masks",
        "masks follow the object less",
        "Structures and other metrics",
        "mean Dice on hospital_a",
        "noise, masks of other images",
    ):
        assert wanted in text, wanted
    assert "Thresholds and calibration</h2>" not in html
    assert html.count("Trivial floor") >= 4


def test_families_stand_side_by_side_with_their_cost(run: Path, html: str) -> None:
    section = words(html.split('<section id="families"')[1].split("</section>")[0])
    assert "ddpm and style saw the same images, for as many steps" in section
    assert "GAN generators took 1.33 times as long as diffusion; energy was not read for all of them" in section
    assert "not measured" in section
    assert "58.3 Wh" in section
    evidence = gather(report_job(run))
    changed = config("polyps")
    changed["generators"]["style"]["training"] = {"steps": 500, "batch_size": 16}
    unequal = families_section(replace(evidence, study=Study.model_validate(changed)))
    assert unequal is not None
    assert "ddpm and style differ in steps" in unequal.blocks[0].text
    changed["pools"]["gan_pairs"]["from"] = "ddpm"
    assert families_section(replace(evidence, study=Study.model_validate(changed))) is None


def test_filter_yield_is_accounted(html: str) -> None:
    section = words(html.split('<section id="arms"')[1].split("</section>")[0])
    assert "Filter yield" in section
    found = re.search(r"mask agreement, dice above its quantile 0.25 (\d+) (\d+) ([\d.]+) %", section)
    assert found is not None
    whole, kept, share = map(float, found.groups())
    assert share == pytest.approx(100 * kept / whole, abs=0.05)
    assert share == pytest.approx(75, abs=1)
    assert "thinned at random to the size of kept" in section


def test_styling_says_how_much_nearer_its_images_are(run: Path) -> None:
    evidence = gather(report_job(run))
    assert styling_blocks(evidence) == []
    changed = config("polyps")
    changed["pools"]["pairs"] = changed["pools"]["pairs"] | {"styling": {"strength": 0.4}}
    found = {"features": StyledFacts(images=50, drawn=20.0, styled=5.0)}
    pools = {place: pool.model_copy(update={"styled": found}) for place, pool in evidence.pools.items()}
    (block,) = styling_blocks(replace(evidence, study=Study.model_validate(changed), pools=pools))
    assert isinstance(block, Table)
    assert [str(cell) for cell in block.rows[0]] == ["pairs", "40.0 %", "50", "0.4000", "0.1000", "−75.0 %"]
    assert len(block.rows) == 1


def test_methods_name_structures_and_masks(run: Path) -> None:
    text = " ".join(methods(gather(report_job(run))))
    assert f"segmentation of {STRUCTURE}" in text
    assert "Generator style (GAN, image and mask together)" in text
    assert "Masks were exchanged among its images: a negative control." in text
    assert "Mask agreement is the Dice" in text
    assert "relativistic loss with R1 and R2 penalties, Adam, learning rate 0.0002" in text
    assert "?" not in text


def test_fidelity_meets_the_gain_in_dice(tmp_path: Path) -> None:
    keys = {"dataset": "a", "part": "test", "label": "macro", "metric": "dice"}
    values = [("real", 0, 0.6), ("with_p", 100, 0.65)]
    rows = [{"arm": a, "ratio": r, "replicate": k, "value": v, **keys} for a, r, v in values for k in range(3)]
    write_table(tmp_path / "statistics" / "net" / "metrics.parquet", pd.DataFrame(rows), IDENTITY)
    write_manifest(tmp_path / "statistics" / "net" / "manifest.json", IDENTITY, ["metrics.parquet"])
    folder = tmp_path / "fidelity" / "p" / "0"
    folder.mkdir(parents=True)
    line = {"space": "mask", "reference": "held_out", "group": "all", "metric": "area_share:polyp", "excess": 0.1}
    pd.DataFrame([line]).to_csv(folder / "fidelity.csv", index=False)
    write_manifest(folder / "manifest.json", IDENTITY, ["fidelity.csv"], pool="p", index=0)
    settings = {"model": "net", "test_set": "a", "label": "macro", "metric": "dice", "seed": 0}
    arms = [{"name": "with_p", "baseline": "real", "pool": "p", "indices": 1}]
    inputs = ("statistics/net/manifest.json", "fidelity/p/0/manifest.json")
    job = make_job(tmp_path, "fidelity_utility/net/manifest.json", settings | {"arms": arms}, None, *inputs)
    relate_fidelity(job)
    assert pd.read_csv(job.outputs[0].parent / "points.csv")["gain"].mean() == pytest.approx(0.05)
    assert set(pd.read_csv(job.outputs[0].parent / "relation.csv")["metric"]) == {"area_share:polyp"}


def test_every_ratio_stands_beside_the_floor(html: str) -> None:
    dose = words(html.split('<section id="dose"')[1].split("</section>")[0])
    assert all(f"diffusion {ratio} 0." in dose for ratio in RATIOS)
