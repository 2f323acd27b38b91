"""Predict every evaluation set with the trained replicates of one model × arm × ratio."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from synthgain.command import Job, Progress, run_script
from synthgain.device import chosen_device
from synthgain.downstream.arms import fraction_positions, real_rows, split_positions
from synthgain.downstream.cell import Source, read_source
from synthgain.downstream.device import make_deterministic
from synthgain.downstream.prediction import PREDICTION_BATCH, build_network, predict_logits, prediction_table
from synthgain.downstream.tasks import Task
from synthgain.downstream.training_set import ImageStore
from synthgain.errors import SynthGainError
from synthgain.files import check_file, read_manifest, write_table

Part = tuple[Source, str, np.ndarray]


def predict_downstream(job: Job) -> None:
    """Write the long table of predictions of all replicates on all evaluation sets."""
    make_deterministic(job.threads)
    device = chosen_device()
    relative = job.inputs_below("downstream/")[0]
    folder = job.input_folder(relative)
    trained = read_manifest(job.run / relative)
    parts = evaluation_parts(job, trained)
    model, ratio = job.slice["model"], int(job.slice["ratio"])
    where = f"model {model['name']}, arm {job.slice['arm']}, ratio {ratio}"
    progress = Progress(f"predict {where}", len(parts) * len(job.slice["replicates"]))
    tables = []
    for replicate in job.slice["replicates"]:
        facts = trained["replicates"][str(replicate)]["task"]
        task = Task(facts["kind"], tuple(model["targets"]), tuple(facts["labels"]))
        network = build_network(model["network"], facts["channels"], len(task.labels), facts["image_size"], where)
        name = f"weights-{replicate}.safetensors"
        network.load_state_dict(load_file(check_file(folder, name, trained["files"][name])))
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for source, part, positions in parts:
            rows = real_rows(source.images.images, source.images.table, positions, task)
            store = ImageStore([rows], f"{where}, data set {source.name}")
            expected = (facts["image_size"], facts["image_size"], facts["channels"])
            if store.shape != expected:
                raise SynthGainError(f"datasets.{source.name}: images are {store.shape}, {where} trained on {expected}")
            batch_size = int(job.slice.get("batch_size", PREDICTION_BATCH))
            logits = predict_logits(network, store, device, model.get("precision", "float32"), batch_size)
            table = source.images.table.iloc[positions]
            tables.append(prediction_table(task, table, logits, source.name, part, ratio, replicate))
            progress.advance()
    write_table(job.outputs[0], pd.concat(tables, ignore_index=True), job.identity)


def evaluation_parts(job: Job, trained: dict[str, Any]) -> list[Part]:
    """Return (data set, part, row positions) to predict: never a training row.

    The validation part of the arm's own data set is cut as it was in training. An entry without `parts`
    gives validation and test where it has a split, else test alone. Raises SynthGainError for an empty
    part or a data set without any of the targets.
    """
    parts: list[Part] = []
    for entry in job.slice["evaluate"]:
        source = read_source(job, entry["dataset"], entry["split"])
        if not set(job.slice["model"]["targets"]) & set(source.images.table.columns):
            raise SynthGainError(
                f"datasets.{source.name}: has none of the targets {', '.join(job.slice['model']['targets'])}; "
                "map them in its table, or leave it out of evaluate_on"
            )
        for part in entry.get("parts", ["validation", "test"] if entry["split"] else ["test"]):
            table = source.images.table
            positions = split_positions(table, source.split, part)
            if part == "validation" and source.name == trained["validation"]:
                cut = (trained["real_fraction"], trained["seed"], source.name)
                positions = np.sort(fraction_positions(table, positions, source.images.columns, *cut))
            if len(positions) == 0:
                raise SynthGainError(f"datasets.{source.name}: no image in its {part} part; give its split one")
            parts.append((source, part, positions))
    return parts


if __name__ == "__main__":
    run_script(predict_downstream)
