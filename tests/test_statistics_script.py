"""compare_arms end to end on synthetic prediction tables."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from job_inputs import fields_of, new_job

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_json, write_manifest, write_table
from synthgain.runtime.ledger import read_ledger
from synthgain.seeds import random_generator
from synthgain.statistics import simulation
from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.memorisation_gate import apply_gates
from synthgain.statistics.resampling import bootstrap_covariance
from synthgain.statistics.stage import Inputs, analyse

SCRIPT = Path(__file__).parents[1] / "workflow_scripts" / "compare_arms.py"
CELLS = {
    "real": [0],
    "real_long": [0],
    "real_strong": [0],
    "repeated": [100, 300, 1000],
    "supplemented": [100, 300, 1000],
    "synthetic_only": [100, 300],
}
SETTING = simulation.Setting(
    "toy", patients=120, images=3, signal=1.0, seed_sd=0.03, residual_sd=0.2, arm_patient_sd=0.1
)


def arm(role: str, baseline: str | None, **keys) -> dict:
    plain = {"real": "hospital_a", "synthetic": None, "repeat": False, "steps_factor": 1.0, "real_fraction": 1.0}
    return {**plain, "role": role, "baseline": baseline, "match": "steps", "borrowed": False, "ratios": [], **keys}


def arms() -> dict:
    return {
        "real": arm("baseline", None),
        "real_long": arm("real_long", "real", steps_factor=2.0),
        "real_strong": arm("real_strong", "real", augmentation="strong"),
        "repeated": arm("repeated", "real", repeat=True, ratios=CELLS["repeated"]),
        "supplemented": arm("supplemented", "real", synthetic="drawn", ratios=CELLS["supplemented"]),
        "synthetic_only": arm("synthetic_only", "real", real=None, synthetic="drawn", ratios=CELLS["synthetic_only"]),
    }


def job_slice(**analysis) -> dict:
    primary = {"arm": "supplemented", "ratio": 300, "metric": "auroc", "labels": "macro", "test_set": "hospital_a"}
    return {
        "model": "cnn",
        "task": "classification",
        "targets": ["opacity"],
        "arms": arms(),
        "analysis": {"primary": primary, "alpha": 0.05, "margin": 0.02, "bootstrap": 300, "subgroups": ["sex", "age"]}
        | analysis,
        "replicates": {"count": 5, "generators": 1, "pools": 1},
        "rehearsal": False,
        "test_sets": [{"dataset": "hospital_a", "split": True}, {"dataset": "hospital_b", "split": False}],
        "seed": 0,
    }


def predictions(
    effects: dict[tuple[str, int], float], setting: simulation.Setting = SETTING
) -> dict[str, pd.DataFrame]:
    """Tables per arm: every cell is an arm of one simulation with its own added signal."""
    cells = [(name, ratio) for name, ratios in CELLS.items() for ratio in ratios]
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in CELLS}
    for dataset, part in [("hospital_a", "validation"), ("hospital_a", "test"), ("hospital_b", "test")]:
        random = random_generator(test=1, dataset=dataset, part=part)
        scores = simulation.simulate(setting, random, arms=len(cells))
        for position, (name, ratio) in enumerate(cells):
            scores.scores[position] += effects.get((name, ratio), 0.0) * scores.truth
            tables[name].append(simulation.prediction_table(scores, position, dataset, "opacity", ratio, part))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in tables.items()}


def patient_table(tables: dict[str, pd.DataFrame], dataset: str) -> pd.DataFrame:
    rows = tables["real"].query("dataset == @dataset").drop_duplicates("image_id")
    sex = [("F", "M")[int(name.rsplit("p", 1)[1]) % 2] for name in rows["patient_id"]]
    age = [20 + 7 * (int(name.rsplit("p", 1)[1]) % 9) for name in rows["patient_id"]]
    return rows[["image_id", "patient_id"]].assign(sex=sex, age=np.array(age, dtype=np.float32)).reset_index(drop=True)


def quick_slice(**analysis) -> dict:
    """AUROC on one test set: enough where only the primary comparison is looked at."""
    fields = job_slice(**({"metrics": ["auroc"], "subgroups": [], "bootstrap": 100} | analysis))
    return fields | {"test_sets": fields["test_sets"][:1]}


def run(tables: dict[str, pd.DataFrame], fields: dict | None = None) -> dict:
    fields = fields or quick_slice()
    datasets = {entry["dataset"]: patient_table(tables, entry["dataset"]) for entry in fields["test_sets"]}
    inputs = Inputs(tables, fields["test_sets"], fields["targets"], {}, datasets)
    return analyse(inputs, read_analysis(fields), 0)


@pytest.fixture(scope="module")
def gain() -> dict:
    return run(predictions({("supplemented", 300): 0.5, ("supplemented", 1000): 0.5}), job_slice())


def test_a_planted_gain_is_found(gain):
    verdict = gain["verdict.json"]
    assert verdict["verdict"] == "helps"
    assert "helps" in verdict["sentence"]
    assert "helps, for this generator:" in verdict["sentence"]
    assert not verdict["alarms"]["a_a"]["raised"]
    assert not verdict["alarms"]["under_trained"]["raised"]


def test_families_are_as_declared(gain):
    table = gain["comparisons.csv"]
    primary = table[table["family"] == "primary"]
    assert len(primary) == 1
    assert primary.iloc[0]["p_adjusted"] == primary.iloc[0]["p"] == primary.iloc[0]["p_bonferroni"]
    secondary = table[table["family"] == "secondary"]
    assert sorted(secondary["ratio"]) == [100, 1000]
    small, large = sorted(secondary["p"])
    np.testing.assert_allclose(sorted(secondary["p_adjusted"]), sorted([min(2 * small, 1), max(2 * small, large)]))
    aa = table[(table["family"] == "control") & (table["role"] == "repeated")]
    assert sorted(aa["ratio"]) == [100, 300, 1000]
    exploratory = table[table["family"] == "exploratory"]
    assert (exploratory["p_adjusted"] >= exploratory["p"] - 1e-12).all()


def test_null_study_says_no_evidence_and_never_comparable():
    """Method test 15."""
    noisy = replace(SETTING, arm_patient_sd=0.4, seed_sd=0.1)
    fields = quick_slice(margin=0.001)
    result = run(predictions({}, noisy), fields)
    sentence = result["verdict.json"]["sentence"]
    assert result["verdict.json"]["verdict"] == "inconclusive"
    assert "no evidence of a difference" in sentence
    assert "the interval allows from" in sentence
    assert "comparable" not in sentence
    assert "equivalent" not in sentence
    assert "helps" not in sentence


def test_label_shuffled_control_does_not_gain():
    """Method test 14's statistic: scores that lost their signal never come out better."""
    fields = quick_slice()
    fields["arms"]["supplemented"]["role"] = "negative_control"
    result = run(predictions({("supplemented", ratio): -0.6 for ratio in CELLS["supplemented"]}), fields)
    row = result["verdict.json"]["primary"]
    assert row["difference"] <= 0
    assert result["verdict.json"]["verdict"] == "harms"
    assert not result["verdict.json"]["alarms"]["negative_control"]["raised"]


def test_an_under_trained_baseline_takes_helps_back():
    effects = {("supplemented", 300): 0.5, ("real_long", 0): 0.6}
    verdict = run(predictions(effects))["verdict.json"]
    assert verdict["alarms"]["under_trained"]["raised"]
    assert verdict["verdict"] == "inconclusive"
    assert "under-trained" in verdict["sentence"]
    assert " helps:" not in verdict["sentence"]


def test_a_helping_repeat_is_said_with_its_difference():
    effects = {("supplemented", 300): 0.5, ("repeated", 300): 0.6}
    verdict = run(predictions(effects))["verdict.json"]
    assert verdict["alarms"]["a_a"]["raised"]
    assert "The A/A control failed: repeated at 300 % differs from real by +" in verdict["sentence"]


def test_match_epochs_needs_repeated_beaten_too():
    fields = quick_slice()
    for spec in fields["arms"].values():
        spec["match"] = "epochs"
    effects = {("supplemented", 300): 0.5, ("repeated", 300): 0.5}
    verdict = run(predictions(effects), fields)["verdict.json"]
    assert verdict["verdict"] == "inconclusive"
    assert verdict["alarms"]["step_matched_control"]["raised"]
    assert not verdict["alarms"]["a_a"]["checked"]
    better = run(predictions({("supplemented", 300): 0.5}), fields)["verdict.json"]
    assert better["verdict"] == "helps"


def test_strong_augmentation_that_gains_as_much_is_said():
    verdict = run(predictions({("supplemented", 300): 0.5, ("real_strong", 0): 0.7}))["verdict.json"]
    assert verdict["verdict"] == "helps"
    assert "Heavier classical augmentation gained as much" in verdict["sentence"]


def test_a_copier_is_equivalent_to_repeated():
    tables, fields = predictions({}), quick_slice()
    tables["supplemented"] = tables["repeated"]
    fields["arms"]["supplemented"]["copies"] = True
    table = run(tables, fields)["comparisons.csv"]
    row = table.query("arm == 'supplemented' and baseline == 'repeated' and ratio == 300").iloc[0]
    assert row["difference"] == 0
    assert row["p"] == 1
    assert row["verdict"] == "equivalent"


def test_rehearsal_gives_no_verdict():
    fields = quick_slice(primary=None)
    fields["rehearsal"] = True
    result = run(predictions({}), fields)
    assert result["verdict.json"]["verdict"] is None
    assert "Rehearsal" in result["verdict.json"]["sentence"]
    assert set(result["comparisons.csv"]["verdict"]) == {""}


def test_a_model_without_a_primary_is_all_exploratory():
    result = run(predictions({("supplemented", 300): 0.9}), quick_slice(primary=[]))
    assert result["verdict.json"]["verdict"] is None
    assert "No primary comparison" in result["verdict.json"]["sentence"]
    assert set(result["comparisons.csv"]["family"]) == {"exploratory"}
    assert "helps" in set(result["comparisons.csv"]["verdict"])


def test_one_replicate_is_a_pilot_without_interval():
    tables = {name: table[table["replicate"] == 0] for name, table in predictions({}).items()}
    fields = quick_slice()
    fields["replicates"]["count"] = 1
    verdict = run(tables, fields)["verdict.json"]
    assert verdict["verdict"] == "no verdict"
    assert verdict["pilot"]
    assert "not estimable" in verdict["sentence"]


def test_claims_follow_the_number_of_generators():
    """One to three generators: seeds within them, said in the word; four and more: generators are the units."""
    tables = predictions({("supplemented", 300): 0.5}, replace(SETTING, replicates=8))
    found = {}
    for generators in (1, 3, 4, 8):
        fields = quick_slice()
        fields["replicates"] = {"count": 8, "generators": generators, "pools": 1}
        found[generators] = run(tables, fields)["verdict.json"]
    rows = {generators: verdict["primary"] for generators, verdict in found.items()}
    claims = {1: "for this generator", 3: "for these 3 generators", 4: "", 8: ""}
    assert {generators: row["claim"] for generators, row in rows.items()} == claims
    assert [(row["unit"], row["units"]) for row in rows.values()] == [
        ("seeds", 8), ("seeds", 8), ("generators", 4), ("generators", 8),
    ]  # fmt: skip
    assert "Supplemented at 300 % helps, for this generator:" in found[1]["sentence"]
    assert "helps, for these 3 generators:" in found[3]["sentence"]
    assert "helps:" in found[4]["sentence"]
    assert {row["verdict"] for row in rows.values()} == {"helps"}


def test_real_arms_have_no_generator_to_be_conditional_on():
    table = run(predictions({}))["comparisons.csv"]
    assert set(table.query("arm == 'real_long'")["claim"]) == {""}
    assert set(table.query("arm == 'real_long'")["unit"]) == {"seeds"}


def test_fewer_than_four_units_get_numbers_and_no_word():
    tables = predictions({("supplemented", 300): 0.9}, replace(SETTING, replicates=3))
    fields = quick_slice()
    fields["replicates"]["count"] = 3
    result = run(tables, fields)
    verdict, row = result["verdict.json"], result["verdict.json"]["primary"]
    assert (row["verdict"], row["reason"]) == ("no verdict", "3 seeds, at least 4 are needed")
    assert np.isfinite([row["low"], row["high"], row["p"]]).all()
    assert "No verdict on supplemented at 300 %" in verdict["sentence"]
    assert set(result["comparisons.csv"]["verdict"]) == {"no verdict"}
    assert " helps" not in verdict["sentence"]


def test_excluded_images_are_left_out():
    tables = predictions({})
    fields = job_slice(metrics=["auroc"])
    gone = [f"hospital_a-test-{position}" for position in range(20)]
    inputs = Inputs(tables, fields["test_sets"], fields["targets"], {"hospital_a": gone})
    with_gap = analyse(inputs, read_analysis(fields), 0)["metrics.parquet"]
    whole = run(tables, fields)["metrics.parquet"]
    at = (whole["dataset"] == "hospital_a") & (whole["metric"] == "auroc")
    assert not np.allclose(whole[at]["value"], with_gap[at.to_numpy()]["value"])
    rest = (whole["dataset"] == "hospital_b") & (whole["metric"] == "auroc")
    np.testing.assert_array_equal(whole[rest]["value"], with_gap[rest.to_numpy()]["value"])


def test_rare_label_is_a_dash_in_every_arm():
    setting = replace(SETTING, positive_share=0.03)
    result = run(predictions({}, setting))
    assert result["metrics.parquet"].query("dataset == 'hospital_a'")["value"].isna().all()
    assert result["verdict.json"]["verdict"] is None
    assert "not estimable" in result["verdict.json"]["sentence"]


def test_missing_image_is_one_clear_line():
    tables = predictions({})
    tables["supplemented"] = tables["supplemented"].drop(index=tables["supplemented"].query("part == 'test'").index[3])
    with pytest.raises(SynthGainError, match="is missing in the predictions of arm supplemented"):
        run(tables)


def test_truth_that_differs_is_refused():
    tables = predictions({})
    tables["real_long"] = tables["real_long"].assign(truth=1 - tables["real_long"]["truth"])
    with pytest.raises(SynthGainError, match="truth of arm"):
        run(tables)


def test_unknown_label_and_metric_are_refused():
    primary = quick_slice()["analysis"]["primary"]
    with pytest.raises(SynthGainError, match="no label 'nodule'"):
        run(predictions({}), quick_slice(primary=primary | {"labels": "nodule"}))
    with pytest.raises(SynthGainError, match="not computed"):
        read_analysis(quick_slice(primary=primary | {"metric": "dice"}))


def test_everything_behind_the_verdict_is_there(gain):
    verdict = gain["verdict.json"]
    resampled = verdict["patient_bootstrap"][0]
    row = verdict["primary"]
    assert resampled["low"] == pytest.approx(row["patient_low"], abs=0.004)  # clustered DeLong beside the bootstrap
    assert row["low"] < row["patient_low"]  # seeds add to what patients vary
    power = gain["power.json"][0]
    assert power["detectable"] > 0
    se = power["seed_sd"] ** 2 / power["seeds"] + power["patient_sd"] ** 2 / power["patients"]
    assert power["se"] ** 2 == pytest.approx(se)
    slopes = {(fit["arm"], fit["dataset"]): fit["slope"]["mean"] for fit in gain["dose_response.json"]}
    assert slopes["supplemented", "hospital_a"] > abs(slopes["repeated", "hospital_a"])
    points = gain["dose_response.csv"]
    assert sorted(points.query("arm == 'supplemented'")["ratio"].unique()) == [0, 100, 300, 1000]
    assert 0 not in set(points.query("arm == 'synthetic_only'")["ratio"])
    policies = gain["thresholds.csv"].query("arm == 'supplemented' and label == 'opacity' and metric == 'f1'")
    assert set(policies["policy"]) == {"fixed_0.5", "f1_max", "target_sensitivity"}
    assert set(gain["calibration.csv"]["correction"]) == {"none", "prior"}
    assert set(gain["subgroups.csv"]["column"]) == {"sex", "age"}


def test_one_sided_on_request_has_the_two_sided_beside():
    fields = quick_slice(alternative="greater", metrics=["auroc", "brier"])
    table = run(predictions({("supplemented", 300): 0.2}), fields)["comparisons.csv"]
    row = table.query("family == 'primary'").iloc[0]
    assert row["p"] == pytest.approx(row["p_two_sided"] / 2)
    lower = table.query("metric == 'brier' and difference < 0").iloc[0]
    assert lower["p"] == pytest.approx(lower["p_two_sided"] / 2)  # greater means better: a smaller Brier score


def test_a_list_of_primaries_is_judged_one_by_one():
    one = quick_slice()["analysis"]["primary"]
    fields = quick_slice(primary=[one, one | {"arm": "synthetic_only"}])
    result = run(predictions({("supplemented", 300): 0.5, ("synthetic_only", 300): -0.5}), fields)["verdict.json"]
    assert [entry["verdict"] for entry in result["comparisons"]] == ["helps", "harms"]
    assert result["verdict"] == "helps"


def multi(labels: int, one_hot: bool) -> tuple[dict, dict]:
    """Tables of several labels: independent, or levels of one target."""
    names = [f"finding_{k}" for k in range(labels)]
    arms_used = ("real", "supplemented")
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in arms_used}
    setting = replace(SETTING, replicates=3, positive_share=0.5)
    for part in ("validation", "test"):
        drawn = simulation.simulate(setting, random_generator(test=2, part=part), arms=2)
        level = random_generator(test=3, part=part).integers(0, labels, len(drawn.truth))
        for k, label in enumerate(names):
            noise = random_generator(test=4, part=part, k=k).normal(size=(2, 3, len(level)))
            truth = (level == k).astype(float)
            scores = simulation.Scores(truth, drawn.patient, 1.5 * truth + noise)
            for position, name in enumerate(arms_used):
                ratio = 300 * position
                tables[name].append(simulation.prediction_table(scores, position, "hospital_a", label, ratio, part))
    fields = quick_slice(metrics=["auroc", "f1", "sensitivity"])
    fields["arms"] = {name: fields["arms"][name] for name in arms_used}
    fields["replicates"]["count"] = 3
    fields["targets"] = ["level"] if one_hot else names
    return {name: pd.concat(frames) for name, frames in tables.items()}, fields


def test_multi_class_takes_the_largest_score():
    tables, fields = multi(3, one_hot=True)
    result = run(tables, fields)
    assert "pilot" in result["verdict.json"]["sentence"].lower()
    levels = result["metrics.parquet"].query("arm == 'real' and replicate == 0 and metric == 'sensitivity'")
    test = tables["real"].query("part == 'test' and replicate == 0")
    wide = test.pivot(index="image_id", columns="label", values="score")
    truth = test.pivot(index="image_id", columns="label", values="truth").idxmax(axis=1)
    expected = np.mean([(wide.idxmax(axis=1) == truth)[truth == name].mean() for name in wide.columns])
    assert levels.query("label == 'macro'")["value"].item() == pytest.approx(expected)


def test_multi_label_macro_is_the_mean_over_labels_with_thresholds_per_label():
    tables, fields = multi(3, one_hot=False)
    result = run(tables, fields)
    values = result["metrics.parquet"].query("arm == 'real' and replicate == 0 and metric == 'auroc'")
    by_label = values.query("label != 'macro'")["value"]
    assert len(by_label) == 3
    assert values.query("label == 'macro'")["value"].item() == pytest.approx(by_label.mean())
    chosen = result["thresholds.csv"].query("arm == 'real' and policy == 'f1_max' and metric == 'f1'")
    assert chosen["threshold"].nunique() == 3
    exploratory = result["comparisons.csv"].query("metric == 'auroc' and family == 'exploratory'")
    assert set(exploratory["label"]) == {"finding_0", "finding_1", "finding_2"}


def test_segmentation_is_averaged_per_patient_and_empty_truth_is_left_out():
    random = np.random.default_rng(0)
    frames = {"real": [], "supplemented": []}
    patient = np.repeat(np.arange(40), 2)
    for position, name in enumerate(frames):
        for replicate in range(5):
            dice = np.clip(0.7 + 0.1 * position + 0.05 * random.normal(size=80), 0, 1)
            empty = np.arange(80) % 8 == 0
            frames[name].append(
                pd.DataFrame(
                    {
                        "ratio": 300 * position,
                        "replicate": replicate,
                        "dataset": "hospital_a",
                        "part": "test",
                        "image_id": [f"i{k}" for k in range(80)],
                        "patient_id": [f"p{k}" for k in patient],
                        "label": "lung",
                        "truth": np.nan,
                        "score": np.nan,
                        "dice": np.where(empty, np.nan, dice),
                        "truth_empty": empty,
                        "predicted_empty": empty & (np.arange(80) % 16 == 0),
                    }
                )
            )
    primary = quick_slice()["analysis"]["primary"] | {"metric": "dice", "labels": "lung"}
    fields = quick_slice(primary=primary, metrics=["dice", "failure_rate", "empty_false_positive_rate"])
    fields |= {"task": "segmentation", "targets": ["lung"]}
    fields["arms"] = {name: fields["arms"][name] for name in frames}
    tables = {name: pd.concat(parts) for name, parts in frames.items()}
    result = run(tables, fields)
    assert result["verdict.json"]["verdict"] == "helps"
    first = tables["real"].query("replicate == 0")
    expected = first.groupby("patient_id")["dice"].mean().mean()
    values = result["metrics.parquet"].query("arm == 'real' and replicate == 0 and label == 'lung'").set_index("metric")
    assert values.loc["dice", "value"] == pytest.approx(expected, rel=1e-6)
    assert values.loc["empty_false_positive_rate", "value"] == pytest.approx(0.5)


def distances(arm: str, missed: int, seed: int) -> pd.DataFrame:
    """HD95 of 60 images that hold a lung; the first `missed`, the hardest, are not found."""
    found = np.arange(60) >= missed
    frames = []
    for replicate in range(5):
        noise = np.random.default_rng([seed, replicate]).normal(0, 0.5, 60)
        hard = np.where(np.arange(60) < 20, 12.0, 4.0) + noise
        frames.append(
            pd.DataFrame(
                {
                    "ratio": 300 if arm == "supplemented" else 0, "replicate": replicate, "dataset": "hospital_a",
                    "part": "test", "image_id": [f"i{k}" for k in range(60)],
                    "patient_id": [f"p{k}" for k in range(60)],
                    "label": "lung", "truth": np.nan, "score": np.nan, "dice": np.where(found, 0.8 + noise / 100, 0.0),
                    "hd95": np.where(found, hard, np.nan), "truth_empty": False, "predicted_empty": ~found,
                }
            )
        )  # fmt: skip
    return pd.concat(frames)


def test_a_structure_that_is_not_found_is_as_far_as_an_image_is_wide():
    """To leave missed images out would reward the arm that misses, and move the comparison of two others."""
    primary = quick_slice()["analysis"]["primary"] | {"metric": "hd95", "labels": "lung"}
    fields = quick_slice(primary=primary, metrics=["hd95"], margin=1.0)
    fields |= {"task": "segmentation", "targets": ["lung"]}
    fields["arms"] = {name: fields["arms"][name] for name in ("real", "real_long", "supplemented")}

    def judged(missed: int) -> pd.DataFrame:
        tables = {name: distances(name, 0, seed) for seed, name in enumerate(("real", "real_long"))}
        tables["supplemented"] = distances("supplemented", missed, 2)
        inputs = Inputs(tables, fields["test_sets"], ["lung"], diagonal=45.0)
        return analyse(inputs, read_analysis(fields), 0)["comparisons.csv"].set_index("arm")

    all_found, some_missed = judged(0), judged(16)
    assert all_found.loc["supplemented", "verdict"] == "equivalent"
    assert some_missed.loc["supplemented", "verdict"] == "harms"
    assert some_missed.loc["supplemented", "difference"] == pytest.approx(16 / 60 * 33, abs=0.5)
    columns = ["difference", "low", "high", "p", "verdict"]
    pd.testing.assert_series_equal(all_found.loc["real_long", columns], some_missed.loc["real_long", columns])


def test_a_run_without_a_value_leaves_the_others_alone():
    draws = np.random.default_rng(0).normal(size=(100, 3))
    whole = bootstrap_covariance(draws[:, :2])
    found = bootstrap_covariance(np.where(np.arange(3) == 2, np.nan, draws))
    np.testing.assert_allclose(found[:2, :2], whole)
    assert np.isnan(found[2]).all()


def test_script_writes_the_declared_files(tmp_path):
    tables = predictions({("supplemented", 300): 0.5})
    fields = job_slice()
    primary = [fields["analysis"]["primary"]]
    fields["analysis"] |= {"primary": primary, "alternative": "two-sided", "thresholds": {"primary": "f1_max"}}
    inputs = {}
    for name, table in tables.items():
        path = f"predictions/cnn/{name}.parquet"
        write_table(tmp_path / path, table, f"id-{name}")
        inputs[path] = f"id-{name}"
    for dataset in ("hospital_a", "hospital_b"):
        write_table(tmp_path / f"datasets/{dataset}/table.parquet", patient_table(tables, dataset), "d")
        write_json(tmp_path / f"datasets/{dataset}/manifest.json", {"identity": "d"})
        inputs[f"datasets/{dataset}/manifest.json"] = "d"
    write_json(tmp_path / "audit/audit.json", {"identity": "a", "excluded": {"hospital_a": ["hospital_a-test-0"]}})
    inputs["audit/audit.json"] = "a"
    place = "memorisation/drawn/0/manifest.json"
    gate = {"excess": 0.2, "low": 0.1, "high": 0.3, "limit": 0.01, "exceeded": True, "barred_sets": []}
    write_json(tmp_path / "memorisation/drawn/0/gate.json", gate | {"sentence": "Memorisation warning: copies."})
    write_manifest(tmp_path / place, "g", ["gate.json"])
    inputs[place], fields["gates"] = "g", {"supplemented": [["drawn", 0]]}
    job = json.dumps(fields_of(new_job(fields, inputs, "c", "me", tmp_path, [])))
    output = tmp_path / "statistics/cnn/manifest.json"
    command = [sys.executable, str(SCRIPT), "--job", job, "--run", str(tmp_path), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(output.read_text())
    assert manifest["identity"] == "me"
    assert {"metrics.parquet", "summary.csv", "comparisons.csv", "verdict.json"} <= set(manifest["files"])
    text = (output.parent / "comparisons.csv").read_text().splitlines()
    low = text[0].split(",").index("low")
    decimals = [len(line.split(",")[low].split(".")[-1]) for line in text[1:] if "." in line.split(",")[low]]
    assert np.mean([count >= 4 for count in decimals]) > 0.95  # method test 8: no rounding to two decimals
    verdict = json.loads((output.parent / "verdict.json").read_text())
    assert verdict["verdict"] == "helps"
    (line,) = read_ledger(tmp_path).entries
    assert (line["kind"], line["verdict"], line["p"]) == ("look", "helps", verdict["primary"]["p"])
    assert manifest["ledger"] == [{"line": 0, "hash": line["hash"]}]
    assert verdict["alarms"]["memorisation"]["raised"]
    assert "Memorisation warning: copies." in verdict["sentence"]


def gate(**changes) -> dict:
    state = {"excess": 0.0, "low": -0.01, "high": 0.005, "limit": 0.01, "exceeded": False, "barred_sets": []}
    return state | {"state": "within limit", "copies": 0, "images": 400, "sentence": "None."} | changes


def gated(gates: list[dict], arm: str = "supplemented", **spec) -> tuple[pd.DataFrame, dict]:
    """What the gates of one arm do to a table of two comparisons."""
    rows = [("supplemented", "real", "helps"), ("other", "supplemented", "helps")]
    table = pd.DataFrame(rows, columns=["arm", "baseline", "verdict"])
    table = table.assign(ratio=300, dataset="hospital_a", label="macro", metric="auroc")
    fields = quick_slice()
    fields["arms"][arm] |= spec
    return apply_gates(table, {arm: gates}, read_analysis(fields))


def test_any_draw_with_a_copy_or_a_barred_set_speaks():
    copied = gate(exceeded=True, state="copies found", copies=1, sentence="Copies.")
    _, alarm = gated([gate(excess=0.009), copied, gate()])
    assert alarm["rows"][0]["sentence"] == "In draw 1, the worst of 3 draws of the pool (1 above the limit): Copies."
    assert (alarm["rows"][0]["copies"], alarm["rows"][0]["images"]) == (1, 400)
    large = gate(exceeded=True, state="exceeded", excess=0.2, sentence="Excess.")
    table, alarm = gated([large, gate(barred_sets=["hospital_a/test"])], cleaned=True)
    assert alarm["raised"]  # the draw that bars the set is not the one of the largest excess
    assert table["verdict"].tolist() == ["barred", "barred"]  # also where the copying pool is on the baseline's side
    unknown = gate(excess=None, low=None, high=None, state="undecided", sentence="Not known.")
    assert not gated([unknown, gate()])[1]["raised"]
    assert gated([unknown, copied])[1]["rows"][0]["sentence"].endswith("Copies.")
