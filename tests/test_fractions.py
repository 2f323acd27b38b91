"""The same patients for the same fraction, in generators and in arms; smaller fractions lie in larger ones."""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from downstream_jobs import COLUMNS, model_slice, table_of, train_job, write_dataset, write_pool
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import tiny

from synthgain.data.image_set import open_dataset
from synthgain.data.order import joint_levels, training_order
from synthgain.downstream.cell import read_cell, rows_of
from synthgain.downstream.classification import Task
from synthgain.downstream.options import Arm
from synthgain.generators.options import TrainOn
from synthgain.generators.training_data import read_training_data
from synthgain.report.sections.study import pretraining_blocks
from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study
from synthgain.study.roles import baseline_of, borrowed, total_steps

TASK = Task("binary", ("opacity",), ("opacity",))
SHARES = st.floats(0.03, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    folder = tmp_path_factory.mktemp("fractions")
    inputs = write_dataset(folder, "a", count=120)
    return folder, inputs, write_pool(folder, "copier", "a", 3)


def generator_sees(run: Any, real: float, labels: float) -> tuple[set[str], set[str]]:
    """Return the images that a generator trains on, and those whose conditions it is told."""
    folders = {"a": (run[0] / "datasets" / "a", run[0] / "splits" / "a")}
    data = read_training_data(folders, real, labels, study_seed=0)
    return set(data.table["image_id"]), set(data.table.loc[data.labelled, "image_id"])


def arm_learns(run: Any, real: float, labels: float) -> set[str]:
    """Return the images that an arm of real images learns from."""
    data = replace(open_dataset(run[0] / "datasets" / "a", run[0] / "splits" / "a"), name="a")
    recipe = Arm(real="a", real_fraction=real, label_fraction=labels)
    return set(rows_of(data, "train", TASK, recipe.fraction, 0).image_ids)


@given(SHARES, SHARES, SHARES)
@settings(deadline=None, max_examples=25)
def test_generators_and_arms_choose_the_same_patients_and_smaller_fractions_lie_in_larger(
    run: Any, real: float, labels: float, more: float
) -> None:
    seen, told = generator_sees(run, real, labels)
    assert seen == arm_learns(run, real, 1.0)
    assert told == arm_learns(run, real, labels) == arm_learns(run, real * labels, 1.0)
    assert told <= seen
    wider = max(labels, more)
    assert told <= generator_sees(run, real, wider)[1]
    assert seen <= generator_sees(run, max(real, more), labels)[0]
    assert arm_learns(run, real, labels) <= arm_learns(run, max(real, more), wider)


def test_with_a_label_fraction_an_arm_takes_children_of_its_labelled_rows_only(run: Any) -> None:
    folder, inputs, pool = run
    half = arm_learns(run, 1.0, 0.5)
    for real in ("a", None):
        arm = {"name": "sup", "real": real, "synthetic": "copier", "source": "a", "label_fraction": 0.5}
        cell = read_cell(train_job(folder, inputs, arm, 200, model_slice(), (0,), pool))
        own = rows_of(cell.real, "train", cell.task, cell.fraction, 0) if real else None
        job = train_job(folder, inputs, arm, 200, model_slice(), (0,), pool)
        added = cell._added(job, 0, own, "w")
        assert added is not None
        assert set(added.source_ids) == half
        assert len(added) == 2 * len(half), "200 % of the rows whose labels the arm has"


def test_a_patient_whose_label_nobody_knows_has_a_place_in_the_order() -> None:
    table = table_of(60)
    table.loc[table["patient_id"] == "a-p0003", "nodule"] = np.nan
    order = training_order(table, COLUMNS, 0, "a")
    assert sorted(order) == list(range(60))


def test_an_unknown_label_is_a_level_of_its_own_wherever_rows_are_grouped() -> None:
    table = pd.DataFrame({"edema": [1.0, np.nan, 0.0], "sex": pd.Series(["F", "M", None], dtype="str")})
    assert joint_levels(table, ["edema", "sex"]).tolist() == ["1.0|F", "unknown|M", "0.0|unknown"]
    assert joint_levels(table, []).tolist() == ["", "", ""]


def test_the_baseline_has_the_same_labels_and_a_generator_that_saw_more_labels_is_borrowed() -> None:
    def study(label_fraction: float) -> Any:
        return parse_study(
            tiny(
                generators__ddpm__train_on={"datasets": ["hospital_a"], "label_fraction": label_fraction},
                arms__real_half={"real": "hospital_a", "label_fraction": 0.5},
                arms__half={"real": "hospital_a", "label_fraction": 0.5, "synthetic": "drawn", "ratios": [100]},
                arms__only={"synthetic": "drawn", "label_fraction": 0.5, "ratios": [100]},
            )
        )

    for name in ("half", "only"):
        assert baseline_of(study(0.5), name) == "real_half"
        assert [borrowed(study(share), name) for share in (0.25, 0.5, 0.75)] == [False, False, True]


def test_an_unlabelled_share_of_rows_that_no_set_has_is_refused() -> None:
    pool = {"imported": {"adapter": "table", "table": "t.csv", "patient_id": None}}
    arm = {"synthetic": "ours", "label_fraction": 0.5, "ratios": [100], "baseline": "real"}
    with pytest.raises(SynthGainError, match=r"arms\.only_half\.label_fraction: pool 'ours' copies no rows"):
        parse_study(tiny(pools__ours=pool, arms__only_half=arm))


def test_the_label_fraction_is_no_part_of_a_slice_where_all_labels_are_known() -> None:
    assert "label_fraction" not in Arm(real="a").dump()
    assert TrainOn(datasets=["a"], real_fraction=0.5, label_fraction=0.5).labelled == 0.25


def pretrained(steps: int) -> Any:
    base = tiny()["generators"]["ddpm"]
    unlabelled = {**base, "train_on": {"datasets": ["hospital_a"], "label_fraction": 0}, "training": {"steps": 4}}
    tuned = {**base, "init_from": "unlabelled", "training": {"steps": steps}}
    return parse_study(tiny(generators__unlabelled=unlabelled, generators__tuned=tuned))


@pytest.mark.parametrize(("steps", "fair"), [(2, True), (6, False)])
def test_the_report_says_the_steps_in_all_and_whether_pretraining_stands_beside_as_many(steps: int, fair: bool) -> None:
    study = pretrained(steps)
    assert total_steps(study, "tuned") == steps + 4
    table, words = pretraining_blocks(study)
    rows = pd.read_csv(StringIO(table.csv)).set_index("generator")
    assert rows.loc["tuned", ["steps", "total", "labels"]].tolist() == [steps, steps + 4, 100]
    assert rows.loc["unlabelled", "labels"] == 0
    assert ("from random weights of equal steps" in words.text) is fair
    assert (words.tone == "warning") is not fair
    assert pretraining_blocks(parse_study(tiny())) == []
