"""Score segmentations that look at no image (all foreground, the mean mask) on a model's evaluation images."""

import numpy as np
import pandas as pd
import torch

from synthgain.data.image_set import job_dataset
from synthgain.downstream.cell import evaluation_parts, rows_at, rows_of
from synthgain.downstream.options import PredictionModel
from synthgain.downstream.prediction import Place
from synthgain.downstream.rows import mask_store
from synthgain.downstream.segmentation import floor_masks, mask_table
from synthgain.registry import TASKS
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import write_table
from synthgain.runtime.loading import load


def trivial_floor(job: Job) -> None:
    """Write a prediction table with the further column `floor`: all_foreground, mean_mask."""
    model, arm = PredictionModel.model_validate(job.slice["model"]), job.slice["arm"]
    where = f"trivial floors of model {model.name}"
    source = job_dataset(job, arm["real"])
    task = load(TASKS, model.task_module).new_task(model, source.images, where)
    fraction, seed = float(arm["real_fraction"]), int(job.slice["seed"])
    training, validation = (rows_of(source, part, task, fraction, seed) for part in ("train", "validation"))
    task.check([training], where)
    floors = floor_masks(training, validation, where)
    tables = []
    for tested, part, positions in evaluation_parts(job, source.name, fraction, seed):
        rows = rows_at(tested.images, positions, task)
        masks = mask_store([rows], f"{where}, data set {tested.name}")
        place = Place(where, 0, 0, tested.name, part, torch.device("cpu"))
        for name, mask in floors.items():
            predicted = [np.broadcast_to(mask, (len(rows), *mask.shape))]
            table = mask_table(predicted, masks, rows, task.labels, place, model.tolerance, keep_masks=False)
            tables.append(table.assign(floor=name))
    write_table(job.outputs[0], pd.concat(tables, ignore_index=True), job.identity)


if __name__ == "__main__":
    run_script(trivial_floor)
