"""Train one model in one arm at one ratio, for several replicates; finished replicates are kept as guarded state."""

import csv
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from synthgain.device import chosen_device, make_deterministic
from synthgain.downstream.arms import TrainingSet
from synthgain.downstream.augmentation import augmentation_of
from synthgain.downstream.cell import Cell, read_cell
from synthgain.downstream.options import PlannedArm, TrainingModel
from synthgain.downstream.prediction import build_network
from synthgain.downstream.training import DivergedError, Progressed, Trainer, log_columns
from synthgain.entry import checked
from synthgain.networks.pretrained import load_encoder, load_pretrained
from synthgain.runtime.checkpoints import Checkpoints, tensor_digest
from synthgain.runtime.command import Job, StopSignal, logger, part_of_job, run_script
from synthgain.runtime.files import atomic_path, read_manifest, write_manifest

FINISHED = "finished"  # a replicate's result in its state folder: weights, log and facts


def train_downstream(job: Job) -> None:
    """Train each replicate that is not finished, then publish all of them with one manifest."""
    torch.set_num_threads(job.threads)
    stop = StopSignal()
    device = chosen_device()
    make_deterministic(device)
    cell: Cell | None = None
    finished = {}
    replicates = job.slice["replicates"]
    for number, replicate in enumerate(replicates):
        identity = replicate_identity(job, replicate)
        # Next to the chunks, so that another cut of replicates into jobs finds what is finished.
        folder = job.state_folder().parents[1] / f"replicate-{replicate}"
        kept = Checkpoints(folder, identity)
        if kept.find(FINISHED) is None:
            cell = cell or read_cell(job)
            with part_of_job(number, len(replicates)):
                train_replicate(job, cell, replicate, kept, device, stop)
        finished[replicate] = folder / FINISHED
    publish(job, finished)


def replicate_identity(job: Job, replicate: int) -> str:
    """Identity of one replicate's result: it does not depend on which other replicates share the job."""
    pools = job.slice["pools"].get(str(replicate), [])
    replicas = [job.inputs.replicas[tuple(key)] for key in pools]
    inputs = [*job.inputs.datasets.values(), *job.inputs.splits.values(), *replicas]
    return job.part_identity(without=("replicates", "pools"), inputs=inputs, replicate=replicate, pool=pools)


def train_replicate(
    job: Job, cell: Cell, replicate: int, checkpoints: Checkpoints, device: torch.device, stop: StopSignal
) -> None:
    """Train one replicate from where its state is and keep its result as FINISHED.

    A training that diverges is a result, too (intention to train): `models.*.diverged` says whether it stops the study,
    counts as a model that tells nothing, or is done once more with the next seed; each is written into the facts.
    """
    failures: list[dict[str, object]] = []
    for attempt in range(2 if cell.model.diverged == "next_seed" else 1):
        kept = checkpoints.find(_diverged(attempt))
        if kept is None:
            try:
                train_attempt(job, replace(cell, attempt=attempt), replicate, checkpoints, failures, device, stop)
            except DivergedError as error:
                if cell.model.diverged == "refuse":
                    raise
                logger.warning("%s: counted as diverged", error)
                kept = {"attempt": attempt, "step": error.step}
                checkpoints.clear()
                checkpoints.keep(_diverged(attempt), lambda path: path.write_text("diverged"), **kept)
            else:
                return
        failures.append({"attempt": attempt, "step": kept["step"]})
    where = f"{cell.where}, replicate {replicate}"
    data, _ = cell.build(job, replicate)
    network, facts = new_network(cell, data, replicate, where)
    facts |= {"steps": data.steps, "batch_size": cell.model.batch_size, "selected_step": 0}
    facts |= {"diverged": failures, "at_chance": True}
    done = Progressed(best={name: value.detach().cpu().clone() for name, value in network.state_dict().items()})
    facts["weights"] = tensor_digest(done.best)
    checkpoints.keep(FINISHED, partial(write_result, done=done, columns=log_columns(cell.task)), facts=facts)


def _diverged(attempt: int) -> str:
    """Name of what is kept of an attempt that diverged."""
    return f"diverged-{attempt}.txt"


def new_network(cell: Cell, data: TrainingSet, replicate: int, where: str) -> tuple[nn.Module, dict[str, object]]:
    """Return the network at its first step, and what the manifest says of it."""
    torch.manual_seed(cell.seed_of("initialisation", replicate))
    height, _, channels = data.store.shape
    size = cell.task.window or height  # what the network sees at a time
    network = build_network(cell.model.network, channels, len(cell.task.labels), size, where)
    task = {"kind": cell.task.kind, "labels": list(cell.task.labels), "image_size": size, "channels": channels}
    facts: dict[str, object] = {**data.facts, "task": task}
    if cell.model.pretrained:
        root = Path(os.environ.get("SYNTHGAIN_DATA", "."))
        facts["pretrained"] = load_pretrained(network, root / cell.model.pretrained)
    if cell.model.pretrained_encoder:
        root = Path(os.environ.get("SYNTHGAIN_DATA", "."))
        facts["pretrained"] = load_encoder(network, root / cell.model.pretrained_encoder)
    return network, facts


def train_attempt(
    job: Job,
    cell: Cell,
    replicate: int,
    checkpoints: Checkpoints,
    failures: list[dict[str, object]],
    device: torch.device,
    stop: StopSignal,
) -> None:
    """Train one replicate once; failures: what went wrong before. Raises DivergedError."""
    where = f"{cell.where}, replicate {replicate}"
    data, validation = cell.build(job, replicate)
    network, facts = new_network(cell, data, replicate, where)
    augmentation = augmentation_of(cell.arm.augmentation, cell.model.augmentation, where)
    seed = cell.seed_of("augmentation", replicate)
    trainer = Trainer(network, cell.task, data, validation, cell.model, augmentation, seed, device, where)
    latest = checkpoints.load_latest()
    if latest is not None:
        logger.info("[%s] resuming at step %d", where, latest[0])
    done = trainer.train(checkpoints, stop)
    facts |= training_facts(cell.task.metric, done, done.step, cell.model)
    facts |= {"diverged": failures} if failures else {}
    facts["weights"] = tensor_digest(done.best)
    checkpoints.keep(FINISHED, partial(write_result, done=done, columns=log_columns(cell.task)), facts=facts)
    checkpoints.clear()


def training_facts(metric: str, done: Progressed, steps: int, recipe: TrainingModel) -> dict[str, object]:
    """Return what the manifest says about one replicate's training."""
    value = None if done.best_metric != done.best_metric else done.best_metric
    return {
        "selected_step": done.best_step,
        "selection": recipe.selection,
        "steps": steps,
        "batch_size": recipe.batch_size,
        "real_exposures": done.real_exposures,
        "synthetic_exposures": done.synthetic_exposures,
        "environments": done.environments,
        "seconds": round(done.seconds, 3),
        "images_per_second": round(steps * recipe.batch_size / max(done.seconds, 1e-9), 1),
        "validation": {"loss": done.best_loss, metric: value},
    }


def write_result(folder: Path, done: Progressed, columns: tuple[str, ...]) -> None:
    """Write weights and log of one finished replicate."""
    save_file({name: value.contiguous() for name, value in done.best.items()}, folder / "weights.safetensors")
    with (folder / "training.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(done.log)


def publish(job: Job, finished: dict[int, Path]) -> None:
    """Link or copy every replicate's result to its declared place; the manifest is written last."""
    folder = job.outputs[0].parent
    files, facts = [], {}
    for replicate, source in finished.items():
        for name, ending in (("weights", "safetensors"), ("training", "csv")):
            target = f"{name}-{replicate}.{ending}"
            with atomic_path(folder / target) as temporary:
                shutil.copyfile(source / f"{name}.{ending}", temporary)
            files.append(target)
        manifest = read_manifest(source / "manifest.json")
        facts[str(replicate)] = {**manifest["facts"], "identity": manifest["identity"]}
    write_manifest(
        job.outputs[0],
        job.identity,
        files,
        model=job.slice["model"]["name"],
        arm=job.slice["arm"]["name"],
        ratio=job.slice["ratio"],
        seed=job.slice["seed"],
        validation=job.slice["arm"]["validation"],
        real_fraction=checked(PlannedArm, job.slice["arm"], "arm", of_slice=True).fraction,
        replicates=facts,
    )


if __name__ == "__main__":
    run_script(train_downstream)
