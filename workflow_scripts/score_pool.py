"""Scores a pool with the real-only model of its replicate: do labels or masks hold? Also the table that a filter reads.

Slice: {pool, index, rows_of, model: {name, task, targets, structures, network}, trained, replicate, by, minimum, seed};
of a segmentation model also `check`, the module of the mask agreement, and model: {task_module, window}: no other job
loads these.
"""

import numpy as np
import pandas as pd
import torch

from synthgain.device import chosen_device
from synthgain.downstream.classification import probabilities, target_matrix, trained_task
from synthgain.downstream.options import PredictionModel
from synthgain.downstream.prediction import build_network
from synthgain.evaluation.agreement import COLUMNS, agreement, consistency_rows, logits_of
from synthgain.evaluation.features import trained_weights
from synthgain.evaluation.inputs import Images, groups_of, median_cuts, parents, read_pool, read_real
from synthgain.networks.extractors import load_state_dict
from synthgain.registry import MASK_CHECKS, TASKS
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import write_manifest, write_table, write_text
from synthgain.runtime.loading import load
from synthgain.seeds import random_generator


def score_pool(job: Job) -> None:
    """Write label_consistency/<pool>/<index>/, by the task of the model, and its manifest.json."""
    torch.set_num_threads(job.threads)
    settings = job.slice
    files, images = _score_masks(job) if "check" in settings else _score_labels(job)
    names = {name: settings[name] for name in ("pool", "index", "replicate")}
    source = settings.get("check", "label_consistency")
    write_manifest(
        job.outputs[0], job.identity, files, source=source, **names, model=settings["model"]["name"], images=images
    )


def _score_labels(job: Job) -> tuple[list[str], int]:
    """Write label_consistency.csv and scores.parquet: image_id, score_<label> (probability), `agreement`."""
    settings, folder = job.slice, job.outputs[0].parent
    model = PredictionModel.model_validate(settings["model"])
    real = read_real(job, [settings["rows_of"]])
    pool = read_pool(job, settings["pool"], settings["index"], real.columns)
    validation = real.subset(real.rows_of("validation"))
    weights, facts = trained_weights(job, settings["trained"], settings["replicate"])
    task = trained_task(model, facts)
    where = f"label consistency of {settings['pool']}"
    network = build_network(model.network, facts.channels, len(task.labels), facts.image_size, where)
    load_state_dict(network, weights)
    device, found = chosen_device(), []
    for images in (pool, validation):
        scores = probabilities(task, logits_of(network, images.pixels(), device)).numpy()
        found.append((target_matrix(task, images.table), scores))
    cuts = median_cuts(real.table, settings["by"], real.columns, "evaluation.fidelity")
    units = (parents(pool.table), validation.patients)
    rows = []
    for column, label in enumerate(task.labels):
        sides = [
            (truth[:, column], score[:, column], unit, _groups(images, settings["by"], cuts))
            for (truth, score), unit, images in zip(found, units, (pool, validation), strict=True)
        ]
        rng = random_generator(study=settings["seed"], step="label consistency", pool=settings["pool"], label=label)
        rows += consistency_rows(label, sides[0], sides[1], settings["minimum"], rng)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(folder / "label_consistency.csv", table.to_csv(index=False))
    truth, scores = found[0]
    columns = {f"score_{label}": scores[:, column] for column, label in enumerate(task.labels)}
    columns["agreement"] = agreement(truth, scores, task.kind == "multi-class")
    write_table(folder / "scores.parquet", pd.DataFrame({"image_id": pool.table["image_id"], **columns}), job.identity)
    return ["label_consistency.csv", "scores.parquet"], len(pool)


def _score_masks(job: Job) -> tuple[list[str], int]:
    """Write mask_agreement.csv, scores.parquet, and the scores of the real validation images, real_scores.parquet.

    Scores: image_id, dice_<structure> and empty_<structure> per structure, `dice` (their mean).
    """
    settings, folder = job.slice, job.outputs[0].parent
    model = PredictionModel.model_validate(settings["model"])
    check = load(MASK_CHECKS, settings["check"])
    weights, facts = trained_weights(job, settings["trained"], settings["replicate"])
    structures = list(facts.labels)
    where = f"mask agreement of {settings['pool']}"
    network = build_network(model.network, facts.channels, len(structures), facts.image_size, where)
    load_state_dict(network, weights)
    device = chosen_device()
    network.eval().to(device)
    task = load(TASKS, model.task_module).trained_task(model, facts)
    predict = check.predictor(lambda images: task.logits(network, images), device)
    real = read_real(job, [settings["rows_of"]])
    pool = read_pool(job, settings["pool"], settings["index"], real.columns)
    validation = real.subset(real.rows_of("validation"))
    cuts = median_cuts(real.table, settings["by"], real.columns, "evaluation.fidelity")
    units = (parents(pool.table), validation.patients)
    masks = check.masks_of(job, settings["pool"], settings["index"], settings["rows_of"])
    sides = [
        (check.dice_scores(predict, images, own, structures), unit, _groups(images, settings["by"], cuts))
        for images, own, unit in zip((pool, validation), masks, units, strict=True)
    ]
    rows = []
    for name in structures:
        rng = random_generator(study=settings["seed"], step="mask agreement", pool=settings["pool"], structure=name)
        rows += check.agreement_rows(name, sides[0], sides[1], settings["minimum"], rng)
    write_text(folder / "mask_agreement.csv", pd.DataFrame(rows, columns=list(check.COLUMNS)).to_csv(index=False))
    write_table(folder / "scores.parquet", sides[0][0], job.identity)
    write_table(folder / "real_scores.parquet", sides[1][0], job.identity)
    return ["mask_agreement.csv", "real_scores.parquet", "scores.parquet"], len(pool)


def _groups(images: Images, by: list[str], cuts: dict[str, float]) -> dict[str, np.ndarray]:
    return groups_of(images.table, by, images.columns, cuts)


if __name__ == "__main__":
    run_script(score_pool)
