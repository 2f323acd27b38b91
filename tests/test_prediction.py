"""The prediction table and the check before tables are joined."""

import numpy as np
import pandas as pd
import pytest
import torch
from downstream_jobs import COLUMNS, table_of

from collect_predictions import same_images
from synthgain.downstream.classification import PREDICTION_COLUMNS, prediction_table, task_of
from synthgain.runtime.errors import SynthGainError


def test_long_table_of_a_multi_class_task() -> None:
    task, table = task_of(["kind"], COLUMNS, "m"), table_of(6)
    table.loc[0, "kind"] = None
    table.loc[1, "kind"] = "fungal"  # never trained on: nothing can be said about these three labels
    found = prediction_table(task, table, torch.randn(6, 3), "a", "test", 300, 2)
    assert tuple(found.columns) == PREDICTION_COLUMNS
    assert list(found["label"][:3]) == ["bacterial", "normal", "viral"]
    assert found["truth"][:6].isna().all()
    assert found.groupby("image_id")["score"].sum().to_numpy() == pytest.approx(np.ones(6), abs=1e-6)
    assert found["truth"].dtype == found["score"].dtype == np.float32
    rest = found[found["image_id"] == "a-0004"]
    assert list(rest.loc[rest["truth"] == 1, "label"]) == ["viral"]


def test_binary_and_multi_label_keep_unknown_truth_and_absent_columns() -> None:
    task, table = task_of(["opacity", "nodule"], COLUMNS, "m"), table_of(12)
    logits = torch.zeros(12, 2)
    found = prediction_table(task, table.drop(columns="opacity"), logits, "a", "test", 0, 0)
    assert found.loc[found["label"] == "opacity", "truth"].isna().all()
    nodule = found.loc[found["label"] == "nodule", "truth"].to_numpy()
    assert np.array_equal(nodule, table["nodule"].to_numpy(), equal_nan=True)
    assert (found["score"] == 0.5).all()


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(SynthGainError, match="not finite"):
        prediction_table(task_of(["opacity"], COLUMNS, "m"), table_of(2), torch.full((2, 1), np.nan), "a", "test", 0, 0)


def cell(replicate: int) -> pd.DataFrame:
    task = task_of(["opacity"], COLUMNS, "m")
    return prediction_table(task, table_of(4), torch.zeros(4, 1), "a", "test", 0, replicate)


def test_cells_with_other_images_are_not_joined() -> None:
    both = pd.concat([cell(0), cell(1)])
    same_images({"one": both, "two": cell(2).iloc[::-1]})
    with pytest.raises(SynthGainError, match=r"two \(ratio 0, replicate 2\): 3 rows, other images"):
        same_images({"one": both, "two": cell(2).iloc[1:]})
    with pytest.raises(SynthGainError, match="predicted twice"):
        same_images({"one": pd.concat([cell(0), cell(0)])})
