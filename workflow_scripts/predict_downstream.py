"""Predict every evaluation set with the trained replicates of one model × arm × ratio."""

import pandas as pd
import torch
from safetensors.torch import load_file

from synthgain.device import chosen_device, make_deterministic, memory_format
from synthgain.downstream.cell import evaluation_parts, rows_at
from synthgain.downstream.options import PredictionModel
from synthgain.downstream.prediction import AtChance, Place, build_network
from synthgain.networks.options import TaskFacts
from synthgain.registry import TASKS
from synthgain.runtime.command import Job, Progress, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, write_table
from synthgain.runtime.loading import load


def predict_downstream(job: Job) -> None:
    """Write the long table of predictions of all replicates on all evaluation sets."""
    torch.set_num_threads(job.threads)
    device = chosen_device()
    make_deterministic(device)
    trained = job.inputs.trainings.only.manifest()
    folder = job.inputs.trainings.only.folder()
    parts = evaluation_parts(job, trained["validation"], trained["real_fraction"], trained["seed"])
    model, ratio = PredictionModel.model_validate(job.slice["model"]), int(job.slice["ratio"])
    module = load(TASKS, model.task_module)
    where = f"model {model.name}, arm {job.slice['arm']}, ratio {ratio}"
    progress = Progress(f"predict {where}", len(parts) * len(job.slice["replicates"]))
    tables = []
    for replicate in job.slice["replicates"]:
        facts = TaskFacts.model_validate(trained["replicates"][str(replicate)]["task"])
        task = module.trained_task(model, facts)
        size = facts.image_size
        network = build_network(model.network, facts.channels, len(task.labels), size, where)
        name = f"weights-{replicate}.safetensors"
        network.load_state_dict(load_file(check_file(folder, name, trained["files"][name])))
        if trained["replicates"][str(replicate)].get("at_chance"):  # it diverged: a model that tells nothing
            network = AtChance(network, task.chance)
        network.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
        for source, part, positions in parts:
            shape = source.images.images.shape[1:]
            expected = (*((size, size) if task.window is None else shape[:2]), facts.channels)
            if shape != expected:
                raise SynthGainError(f"datasets.{source.name}: images are {shape}, {where} trained on {expected}")
            place = Place(f"{where}, data set {source.name}", ratio, replicate, source.name, part, device)
            rows, table = rows_at(source.images, positions, task), source.images.table.iloc[positions]
            tables.append(module.predictions(network, task, rows, table, model, place))
            progress.advance()
    write_table(job.outputs[0], pd.concat(tables, ignore_index=True), job.identity)


if __name__ == "__main__":
    run_script(predict_downstream)
