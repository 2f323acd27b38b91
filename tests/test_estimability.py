"""What cannot be estimated is inconclusive, and says why: no verdict comes out of scores that do not vary."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from test_statistics_script import quick_slice

from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.delong import components
from synthgain.statistics.information import of_auroc, of_ratios
from synthgain.statistics.stage import Inputs, analyse

PATIENTS, REPLICATES = 60, 4
Scores = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def noisy(signal: float = 1.0) -> Scores:
    return lambda random, truth: signal * truth + random.normal(size=len(truth))


def constant(random: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    return np.full(len(truth), 0.3)


def nearly_constant(random: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    return np.float32(0.3) + np.float32(3e-8) * random.integers(0, 2, len(truth))


def perfect(random: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    return 10 * truth + random.normal(size=len(truth))


def table(make: Scores, ratio: int, seed: int, positives: int = 30, label: str = "opacity") -> pd.DataFrame:
    """One arm's predictions on validation and test, one image per patient."""
    frames = []
    for part in ("validation", "test"):
        truth = (np.arange(PATIENTS) < positives).astype(np.float32)
        for replicate in range(REPLICATES):
            scores = make(np.random.default_rng([seed, replicate, part == "test"]), truth).astype(np.float32)
            ids = [f"{part}-{number}" for number in range(PATIENTS)]
            place = {"ratio": ratio, "replicate": replicate, "dataset": "hospital_a", "part": part, "label": label}
            frames.append(pd.DataFrame({**place, "image_id": ids, "patient_id": ids, "truth": truth, "score": scores}))
    return pd.concat(frames, ignore_index=True)


def compared(arm: pd.DataFrame, real: pd.DataFrame, metric: str = "auroc", **arm_keys) -> dict:
    """The whole analysis of supplemented at 300 % against real."""
    primary = quick_slice()["analysis"]["primary"] | {"metric": metric}
    fields = quick_slice(primary=primary, metrics=list(dict.fromkeys(["auroc", metric])))
    fields["arms"] = {name: fields["arms"][name] for name in ("real", "supplemented")}
    fields["arms"]["supplemented"] |= arm_keys
    fields["replicates"]["count"] = REPLICATES
    inputs = Inputs({"real": real, "supplemented": arm}, fields["test_sets"], fields["targets"])
    return analyse(inputs, read_analysis(fields), 0)


def said(result: dict) -> tuple[str, str, str]:
    verdict = result["verdict.json"]
    row = verdict["primary"]
    assert verdict["comparisons"][0]["reason"] == verdict["reason"] == row["reason"]
    if row["reason"] and row["verdict"] == "inconclusive":
        assert np.isnan([row["p"], row["p_adjusted"], row["low"], row["high"], row["equivalence_low"]]).all()
        assert not row["noninferior"]
        assert row["reason"] in verdict["sentence"]
        assert "no evidence of a difference" not in verdict["sentence"]
    return row["verdict"], row["reason"], verdict["sentence"]


@pytest.mark.parametrize(
    ("arm", "real", "metric", "why"),
    [
        (constant, constant, "auroc", "the scores of real and supplemented do not vary"),
        (constant, noisy(), "auroc", "the scores of supplemented do not vary"),
        (noisy(), constant, "auroc", "the scores of real do not vary"),
        (nearly_constant, nearly_constant, "auroc", "the scores of real and supplemented do not vary"),
        (constant, constant, "brier", "the scores of real and supplemented do not vary"),
        (constant, constant, "average_precision", "the scores of real and supplemented do not vary"),
        (constant, constant, "sensitivity", "the scores of real and supplemented do not vary"),
        (perfect, perfect, "auroc", "no patient shows an error"),
        (perfect, perfect, "average_precision", "no patient shows an error"),
        (perfect, perfect, "f1", "no patient shows an error"),
        (noisy(3.5), noisy(3.5), "auroc", "too few informative patients"),
    ],
)
def test_no_information_is_inconclusive_and_says_why(arm: Scores, real: Scores, metric: str, why: str) -> None:
    word, reason, _ = said(compared(table(arm, 300, 1), table(real, 0, 2), metric))
    assert word == "inconclusive"
    assert why in reason


def test_sensitivity_of_0_in_both_arms_is_not_equivalent() -> None:
    low = lambda random, truth: 0.1 * random.random(len(truth))  # noqa: E731
    fields = compared(table(low, 300, 1), table(low, 0, 2), "sensitivity")
    row = fields["thresholds.csv"].query("policy == 'fixed_0.5' and metric == 'sensitivity' and arm == 'supplemented'")
    assert row["p"].isna().all()
    assert row["low"].isna().all()
    assert row["reason"].str.contains("no patient shows a success").all()


def test_one_positive_patient_is_too_few_whatever_the_minimum() -> None:
    tables = table(noisy(), 300, 1, positives=1), table(noisy(), 0, 2, positives=1)
    fields = quick_slice(minimum={"positives": 1, "patients": 1})
    fields["arms"] = {name: fields["arms"][name] for name in ("real", "supplemented")}
    inputs = Inputs({"supplemented": tables[0], "real": tables[1]}, fields["test_sets"], fields["targets"])
    word, reason, _ = said(analyse(inputs, read_analysis(fields), 0))
    assert (word, "too few informative patients" in reason) == ("inconclusive", True)


def test_a_gain_that_reaches_the_ceiling_still_helps() -> None:
    """The baseline's errors are the information: only two arms at the ceiling cannot be told apart."""
    assert said(compared(table(perfect, 300, 1), table(noisy(), 0, 2)))[:2] == ("helps", "")


def test_equal_predictions_of_other_images_mean_that_the_images_did_not_reach_the_model() -> None:
    real = table(noisy(), 0, 2)
    result = compared(real.assign(ratio=300), real)
    word, reason, _ = said(result)
    assert word == "inconclusive"
    assert "the images did not reach the model" in reason
    alarm = result["verdict.json"]["alarms"]["unreached"]
    assert (alarm["checked"], alarm["raised"]) == (True, True)
    some = table(noisy(), 300, 1)
    some.loc[some["replicate"] == 1, "score"] = real.loc[real["replicate"] == 1, "score"].to_numpy()
    assert "in 1 of 4 replicates" in said(compared(some, real))[1]


def test_equal_predictions_of_declared_copies_are_equivalent() -> None:
    real = table(noisy(), 0, 2)
    result = compared(real.assign(ratio=300), real, copies=True)
    word, reason, sentence = said(result)
    assert word == "equivalent"
    assert "copies of the same training images" in reason
    assert "equivalent" in sentence
    assert not result["verdict.json"]["alarms"]["unreached"]["raised"]
    still = table(constant, 0, 2)
    assert said(compared(still.assign(ratio=300), still, copies=True))[0] == "inconclusive"


def test_replicates_that_are_copies_of_one_run_are_no_replicates() -> None:
    arm = table(noisy(), 300, 1)
    first = arm[arm["replicate"] == 0]
    copied = pd.concat([first.assign(replicate=number) for number in range(REPLICATES)], ignore_index=True)
    word, reason, _ = said(compared(copied, table(noisy(), 0, 2)))
    assert (word, reason) == ("inconclusive", "the replicates of supplemented are copies of one another")


def test_a_single_replicate_has_its_reason() -> None:
    one = [table(noisy(), ratio, seed).query("replicate == 0") for ratio, seed in ((300, 1), (0, 2))]
    word, reason, sentence = said(compared(*one))
    assert (word, reason) == ("no verdict", "two replicates are needed")
    assert "not estimable: two replicates are needed" in sentence


def test_subgroups_and_levels_without_spread_have_no_interval() -> None:
    fields = quick_slice(subgroups=["sex"], minimum={"positives": 2, "patients": 4})
    fields["arms"] = {name: fields["arms"][name] for name in ("real", "supplemented")}
    arm, real = table(perfect, 300, 1), table(perfect, 0, 2)
    who = real.query("part == 'test' and replicate == 0")[["image_id", "patient_id"]]
    people = {"hospital_a": who.assign(sex=["F", "M"] * (PATIENTS // 2))}
    inputs = Inputs({"real": real, "supplemented": arm}, fields["test_sets"], fields["targets"], {}, people)
    result = analyse(inputs, read_analysis(fields), 0)
    groups = result["subgroups.csv"].query("arm == 'supplemented'")
    assert len(groups)
    assert groups[["p", "difference_low", "low"]].isna().all(axis=None)
    assert (groups["reason"] != "").all()
    assert result["summary.csv"]["low"].isna().all()
    assert result["power.json"][0]["note"]


def segmented(dice: dict[str, float], spread: float, metric: str) -> dict:
    """Dice (and HD95) of two arms: everywhere the same, or with some spread."""
    random, tables = np.random.default_rng(5), {}
    for ratio, (name, level) in zip((0, 300), dice.items(), strict=True):
        frames = []
        for replicate in range(REPLICATES):
            ids = [f"i{number}" for number in range(PATIENTS)]
            values = np.clip(level + spread * random.normal(size=PATIENTS), 0, 1)
            place = {"ratio": ratio, "replicate": replicate, "dataset": "hospital_a", "part": "test", "label": "lung"}
            scores = {"truth": np.nan, "score": np.nan, "dice": values, "hd95": np.full(PATIENTS, 3.0)}
            empty = {"truth_empty": False, "predicted_empty": level == 0}
            frames.append(pd.DataFrame({**place, "image_id": ids, "patient_id": ids, **scores, **empty}))
        tables[name] = pd.concat(frames, ignore_index=True)
    primary = quick_slice()["analysis"]["primary"] | {"metric": metric, "labels": "lung"}
    fields = quick_slice(primary=primary, metrics=["dice", "hd95", "failure_rate"])
    fields |= {"task": "segmentation", "targets": ["lung"]}
    fields["arms"] = {name: fields["arms"][name] for name in tables}
    inputs = Inputs(tables, fields["test_sets"], fields["targets"])
    return analyse(inputs, read_analysis(fields), 0)


@pytest.mark.parametrize(
    ("dice", "spread", "metric", "why"),
    [
        ({"real": 0.0, "supplemented": 0.0}, 0.0, "dice", "the scores of real and supplemented do not vary"),
        ({"real": 0.7, "supplemented": 0.71}, 0.0, "dice", "the scores of real and supplemented do not vary"),
        ({"real": 0.7, "supplemented": 0.71}, 0.01, "hd95", "neither seeds nor patients vary"),
        ({"real": 0.9, "supplemented": 0.91}, 0.01, "failure_rate", "no patient shows an error"),
    ],
)
def test_masks_without_spread_are_not_equivalent(dice: dict, spread: float, metric: str, why: str) -> None:
    word, reason, _ = said(segmented(dice, spread, metric))
    assert word == "inconclusive"
    assert why in reason


def test_informative_patients_by_hand() -> None:
    truth, patient = np.array([1, 1, 1, 0, 0, 0]), np.array([0, 0, 1, 2, 3, 3])
    scores = np.array([[0.9, 0.2, 0.8, 0.1, 0.3, 0.4], [0.9, 0.8, 0.7, 0.1, 0.2, 0.3]])
    kinds = of_auroc(components(truth, scores, patient, 4), truth, patient, 4)
    assert [name for name, _ in kinds] == ["an error", "a success"] * 2
    assert kinds[0][1].tolist() == [[True, False, False, False], [False] * 4]  # one film of patient 0 lies below two
    assert kinds[2][1].tolist() == [[False, False, False, True], [False] * 4]  # and these are of patient 3
    assert kinds[1][1].tolist() == [[True, True, False, False]] * 2
    sums = [(np.array([[2.0, 0.0, 1.0]]), np.array([[2.0, 1.0, 3.0]]))]
    who = {name: found.tolist() for name, found in of_ratios(sums)}
    assert who == {"an error": [[False, True, True]], "a success": [[True, False, True]]}
    turned = {name: found.tolist() for name, found in of_ratios(sums, higher_is_better=False)}
    assert turned == {"an error": who["a success"], "a success": who["an error"]}


def test_one_flat_label_of_two_leaves_the_mean_estimable() -> None:
    arms = {"supplemented": (300, 1), "real": (0, 2)}
    tables = {
        name: pd.concat([table(noisy(), *cell), table(constant, *cell, label="effusion")])
        for name, cell in arms.items()
    }
    fields = quick_slice() | {"targets": ["opacity", "effusion"]}
    fields["arms"] = {name: fields["arms"][name] for name in tables}
    rows = analyse(Inputs(tables, fields["test_sets"], fields["targets"]), read_analysis(fields), 0)["comparisons.csv"]
    reasons = rows.query("metric == 'auroc'").set_index("label")["reason"]
    assert reasons.to_dict() == {
        "macro": "", "opacity": "", "effusion": "the scores of real and supplemented do not vary",
    }  # fmt: skip
