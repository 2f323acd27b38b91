"""Subgroups: minimum counts, gaps, the permutation null, the paired change of a gap."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from synthgain.statistics import simulation, subgroups
from synthgain.statistics.analysis import read_analysis
from synthgain.statistics.endpoints import Resamples
from synthgain.statistics.pairs import planned_pairs
from synthgain.statistics.predictions import build_panel

ARMS = {
    "real": {"baseline": None, "real": "a", "role": "baseline"},
    "supplemented": {"baseline": "real", "real": "a", "synthetic": "drawn", "role": "supplemented"},
}
MEASURED = ("auroc", "tpr", "fpr")


def study(penalty: float, recovered: float, patients: int = 300):
    """Two arms; the group M has a weaker signal by `penalty` in both, of which the second arm recovers a part."""
    setting = simulation.Setting("s", patients=patients, images=2, seed_sd=0.02, arm_patient_sd=0.1, residual_sd=0.2)
    scores = simulation.simulate(setting, np.random.default_rng(4))
    weak = (scores.patient % 2 == 0) * scores.truth
    scores.scores[0] -= penalty * weak
    scores.scores[1] -= (penalty - recovered) * weak
    tables = [simulation.prediction_table(scores, k, "a", "opacity").assign(arm=name) for k, name in enumerate(ARMS)]
    panel = build_panel(pd.concat(tables), "a", "test")
    sex = ["M" if int(str(name).rsplit("p", 1)[1]) % 2 == 0 else "F" for name in panel.patient_ids]
    age = np.array([20.0 + (int(str(name).rsplit("p", 1)[1]) * 7) % 60 for name in panel.patient_ids])
    covariates = pd.DataFrame(
        {"image_id": panel.image_ids, "sex": np.array(sex)[panel.patient], "age": age[panel.patient]}
    )
    return panel, covariates


def table_of(panel, covariates, columns=("sex",), minimum=None):
    declared = {"alpha": 0.05, "margin": 0.02, "subgroups": list(columns), "minimum": minimum or {}}
    analysis = read_analysis({"analysis": declared, "task": "classification", "arms": ARMS})
    resamples = Resamples.of(panel.patients, 500, np.random.default_rng(1))
    decided = panel.scores >= 0.5
    pairs = planned_pairs(panel.runs, analysis)
    random = np.random.default_rng(2)
    return subgroups.subgroup_table(panel, [0], decided, covariates, pairs, analysis, resamples, random)


def pick(table, **keys):
    chosen = table
    for name, value in keys.items():
        chosen = chosen[chosen[name] == value]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_group_values_are_those_of_scikit_learn():
    panel, covariates = study(1.0, 0.0)
    row = pick(table_of(panel, covariates), arm="real", group="M", metric="auroc")
    chosen = (covariates["sex"] == "M").to_numpy()
    runs = panel.run_positions("real", 0)
    expected = np.mean([roc_auc_score(panel.truth[0][chosen], panel.scores[run, 0][chosen]) for run in runs])
    assert row["mean"] == pytest.approx(expected)
    flagged = panel.scores[runs, 0][:, chosen & (panel.truth[0] == 1)] >= 0.5
    assert pick(table_of(panel, covariates), arm="real", group="M", metric="tpr")["mean"] == pytest.approx(
        flagged.mean()
    )


def test_a_planted_gap_is_found_and_its_closing_too():
    panel, covariates = study(1.0, 0.8)
    table = table_of(panel, covariates)
    baseline = pick(table, arm="real", group="gap", metric="auroc")
    assert baseline["permutation_p"] < 0.05
    change = pick(table, arm="supplemented", group="gap", metric="auroc")
    assert change["difference"] < 0
    assert change["bootstrap_high"] < 0
    assert change["p"] < 0.05
    assert change["p_adjusted"] >= change["p"]


def test_a_gain_in_one_group_alone_is_an_interaction_and_an_equal_gain_is_none():
    panel, covariates = study(1.0, 0.8)
    table = table_of(panel, covariates)
    men, women = (pick(table, arm="supplemented", group=group, metric="auroc") for group in "MF")
    assert men["interaction"] == pytest.approx(men["difference"] - women["difference"])
    assert women["interaction"] == pytest.approx(-men["interaction"])
    assert men["interaction_low"] > 0
    assert men["interaction_p"] < 0.05
    assert men["interaction_p_adjusted"] >= men["interaction_p"]
    # a group's own interval is no test of it: that of the difference rests on both groups' patients
    assert men["interaction_high"] - men["interaction_low"] > men["difference_high"] - men["difference_low"]
    panel, covariates = study(0.0, 0.0)
    assert pick(table_of(panel, covariates), arm="supplemented", group="M", metric="auroc")["interaction_p"] > 0.05


def test_no_gap_is_not_significant_though_the_gap_is_above_zero():
    panel, covariates = study(0.0, 0.0)
    row = pick(table_of(panel, covariates), arm="real", group="gap", metric="auroc")
    assert row["mean"] > 0
    assert row["permutation_p"] > 0.05


def test_permutation_p_is_uniform_under_the_null():
    panel, _ = study(0.0, 0.0, patients=100)
    random = np.random.default_rng(3)
    found = []
    for _ in range(60):
        codes = random.integers(0, 3, panel.patients)
        found.append(subgroups.permutation_p(panel, 0, panel.scores[:5, 0], codes, [0, 1, 2], random))
    assert 0.3 < np.mean(found) < 0.7
    assert np.mean(np.array(found) < 0.05) < 0.17


def test_small_groups_keep_their_counts_and_get_no_number():
    panel, covariates = study(0.0, 0.0)
    covariates.loc[panel.patient < 5, "sex"] = "X"
    table = table_of(panel, covariates)
    small = pick(table, arm="real", group="X", metric="auroc")
    assert small["patients"] == 5
    assert np.isnan(small["mean"])
    assert np.isnan(pick(table, arm="supplemented", group="X", metric="auroc")["interaction"])
    assert np.isfinite(pick(table, arm="supplemented", group="M", metric="auroc")["interaction"])
    alone = table_of(panel, covariates, minimum={"patients": 1000, "positives": 10})
    assert "gap" not in set(alone["group"])


def test_continuous_covariates_are_cut_at_tertiles_and_unknown_is_no_group():
    panel, covariates = study(0.0, 0.0)
    covariates.loc[panel.patient == 0, "age"] = np.nan
    codes, names = subgroups.group_codes(panel, covariates, "age")
    assert len(names) == 3
    assert codes[0] == -1
    assert np.bincount(codes[1:]).min() > 90
    assert set(table_of(panel, covariates, ("age", "no_such_column"))["column"]) == {"age"}
