"""The classification task as the scripts see it: made from a config, restored from a manifest, predicted with."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import nn

from synthgain.data.image_set import ImageSet
from synthgain.downstream.arms import Rows
from synthgain.downstream.prediction import Place, predict_logits, prediction_table
from synthgain.downstream.tasks import Task, task_of
from synthgain.downstream.training_set import ImageStore


def new_task(model: Mapping[str, Any], images: ImageSet, where: str) -> Task:
    """Return the task of a model's slice on a data set; SynthGainError where they do not fit."""
    return task_of(model["targets"], images.columns, where)


def trained_task(model: Mapping[str, Any], facts: Mapping[str, Any]) -> Task:
    """Return the task of a trained model; facts: `task` of its replicate in the manifest."""
    return Task(facts["kind"], tuple(model["targets"]), tuple(facts["labels"]))


def lacks(model: Mapping[str, Any], images: ImageSet) -> str | None:
    """Return what a data set lacks to test this model on it, in words; None where it serves."""
    if set(model["targets"]) & set(images.table.columns):
        return None
    return f"none of the targets {', '.join(model['targets'])}; map them in its table"


def predictions(
    network: nn.Module, task: Task, rows: Rows, table: pd.DataFrame, model: Mapping[str, Any], place: Place
) -> pd.DataFrame:
    """Return the long table of predictions on `rows`, whose rows of the data set's table are `table`."""
    store = ImageStore([rows], place.where)
    logits = predict_logits(network, store, place.device, model.get("precision", "float32"))
    return prediction_table(task, table, logits, place.dataset, place.part, place.ratio, place.replicate)
