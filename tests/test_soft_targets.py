"""Votes of readers as soft targets: the loss takes their share, all that is counted or tested takes the majority."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from downstream_jobs import COLUMNS, images_of, table_of
from studies import tiny
from test_chest_layouts import read

from synthgain.data.image_set import read_image_set, write_image_set
from synthgain.datasets.known_layouts import KNOWN_LAYOUTS
from synthgain.datasets.miniatures import write_miniature
from synthgain.downstream.arms import arm_phases, training_set
from synthgain.downstream.cell import rows_at
from synthgain.downstream.classification import (
    Task,
    balance_weights,
    new_task,
    prediction_table,
    soft_matrix,
)
from synthgain.downstream.options import PredictionModel
from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study

SOFT = Task("binary", ("edema",), ("edema",), soft=True)
VOTES = {"role": "covariate", "kind": "continuous"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vindr")
    write_miniature("vindr_cxr", folder, KNOWN_LAYOUTS["vindr_cxr"].folder, patients=8)
    return folder


def test_the_majority_is_the_label_and_the_share_of_readers_stands_beside_it(root: Path) -> None:
    """Of the first film one of three readers says cardiomegaly, two say lung opacity."""
    got = read(root, "vindr_cxr", labels={"votes": "soft"}, findings=["cardiomegaly", "lung_opacity"])
    table = got.table.set_index("image_id")
    first = table.loc[f"{0:032x}"]
    assert (first["cardiomegaly"], first["lung_opacity"]) == (0, 1)
    assert first["cardiomegaly_votes"] == pytest.approx(1 / 3)
    assert first["lung_opacity_votes"] == pytest.approx(2 / 3)
    assert got.columns["cardiomegaly_votes"]["role"] == "covariate"
    others = table.drop(index=f"{0:032x}")
    assert (others["cardiomegaly_votes"] == others["cardiomegaly"]).all()  # agreed, or the consensus of the test part
    assert "cardiomegaly_votes" not in read(root, "vindr_cxr", findings=["cardiomegaly"]).table


def test_what_the_loss_is_taught_by_hand() -> None:
    table = pd.DataFrame({"edema": [1.0, 0.0, np.nan, 1.0], "edema_votes": [2 / 3, np.nan, 1 / 3, 1.0]})
    taught = soft_matrix(SOFT, table)[:, 0]
    assert taught == pytest.approx([2 / 3, 0.0, np.nan, 1.0], nan_ok=True)
    assert SOFT.truth(table)[:, 0] == pytest.approx([1.0, 0.0, np.nan, 1.0], nan_ok=True)
    logits, targets = torch.tensor([[2.0], [0.0], [5.0]]), torch.tensor([[2 / 3], [0.0], [np.nan]])
    # -(2/3 ln σ(2) + 1/3 ln σ(-2)) = 2/3 · 0.126928 + 1/3 · 2.126928; -ln σ(-0) = 0.693147; the third is unknown
    expected = ((2 / 3) * 0.126928 + (1 / 3) * 2.126928 + 0.693147) / 2
    assert float(SOFT.loss(logits, targets, torch.ones(3))) == pytest.approx(expected, abs=1e-5)


def test_training_takes_the_share_and_all_that_is_counted_takes_the_label(tmp_path: Path) -> None:
    table = table_of(12)[["image_id", "patient_id", "site", "origin", "opacity"]]
    table["opacity_votes"] = np.where(table["opacity"] == 1, np.float32(2 / 3), np.float32(1 / 3))
    columns = {"opacity": COLUMNS["opacity"], "opacity_votes": VOTES}
    write_image_set(tmp_path / "set", images_of(table), table, columns, "i" * 32)
    images = read_image_set(tmp_path / "set")
    model = PredictionModel(name="cnn", targets=["opacity"], soft_targets=True)
    task = new_task(model, images, "model cnn")
    rows = rows_at(images, np.arange(12), task)
    assert set(np.unique(rows.targets)) == {0.0, 1.0}
    task.check([rows], "here")  # both classes are there
    assert balance_weights(task, rows.targets, {"opacity": 0.5}, "here") == pytest.approx(np.ones(12))
    chosen = rows.take(np.arange(2, 12))
    data = training_set(chosen, None, arm_phases(chosen, None, 3, 0), None, "here")
    assert data.targets == pytest.approx(table["opacity_votes"].to_numpy()[2:, None])
    said = prediction_table(task, table, torch.zeros(12, 1), "a", "test", 0, 0)
    assert set(said["truth"]) == {0.0, 1.0}, "tested by the majority"
    plain = new_task(model.model_copy(update={"soft_targets": False}), images, "model cnn")
    assert rows_at(images, np.arange(12), plain).taught is None


def test_votes_that_cannot_be_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match=r"'edema_votes' holds 3; a share of readers lies in 0 to 1"):
        soft_matrix(SOFT, pd.DataFrame({"edema": [1.0], "edema_votes": [3.0]}))
    write_image_set(tmp_path / "set", images_of(table_of(12)), table_of(12), COLUMNS, "i" * 32)
    images = read_image_set(tmp_path / "set")
    for targets, said in ((["opacity"], "no column 'opacity_votes'"), (["kind"], "votes are of binary labels")):
        with pytest.raises(SynthGainError, match=said):
            new_task(PredictionModel(name="cnn", targets=targets, soft_targets=True), images, "model cnn")


def vindr(votes: str, **model: Any) -> dict[str, Any]:
    dataset = {"adapter": "published", "layout": "vindr_cxr", "findings": ["cardiomegaly"], "labels": {"votes": votes}}
    return {
        "study": "votes",
        "datasets": {"vindr": dataset | {"split": {"train": 0.6, "validation": 0.2, "test": 0.2}}},
        "models": {"cnn": {"targets": ["cardiomegaly"], "steps": 10, **model}},
        "arms": {"real": {"real": "vindr"}},
        "evaluate_on": ["vindr"],
        "analysis": {},
        "rehearsal": True,
    }


def test_a_study_that_learns_from_votes_must_have_some_and_who_does_not_plans_as_before() -> None:
    assert parse_study(vindr("soft", soft_targets=True)).models["cnn"].soft_targets
    with pytest.raises(SynthGainError, match=r"models\.cnn\.soft_targets: data set 'vindr' has no column") as error:
        parse_study(vindr("majority", soft_targets=True))
    assert "\n" not in str(error.value)
    assert "soft_targets" not in parse_study(tiny()).models["cnn"].dump()
