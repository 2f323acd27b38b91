"""The training of every family: its loop with log, snapshots, saves and signals, and the folder that it publishes.

A family says how a step is taken (`Run.take_step`). Everything random at a step comes from (seed, generator, index,
step) and the slot in the global batch, so that an interrupted run goes on to the same weights and any number of
processes draws the same batch. Snapshots are kept in the state first and linked to their declared places at the end:
Snakemake deletes the declared outputs of a failed or restarted job, and must not delete these.
"""

import csv
import io
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from synthgain.data.batch_order import PassOrder
from synthgain.generators.options import DataSlice
from synthgain.generators.run import LoopRun, check_agreement, resume, snapshots_of, state_of
from synthgain.generators.snapshots import average_folder
from synthgain.generators.training_data import training_slice
from synthgain.registry import FAMILY_TRAINING
from synthgain.runtime.checkpoints import Checkpoints
from synthgain.runtime.command import Job, Progress, StopSignal, Terminated, logger
from synthgain.runtime.energy import EnergyMeter, total_energy
from synthgain.runtime.environment import environment, note_environment
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import atomic_path, files_below, write_manifest, write_text
from synthgain.runtime.guarded import GuardedFolder, keep_manifest, put_manifest_back
from synthgain.runtime.loading import load
from synthgain.runtime.processes import is_one_of_several, launch, leave_with_launcher
from synthgain.runtime.settings import settings

TAIL_SHARE = 0.1  # of the logged rows: the loss that the manifest calls final
PARTS = ("network", "condition_encoder", "control_network", "text_encoder", "autoencoder")  # folders that may be there
CHECK_STEPS = 10  # between looks at losses, clock and signals, where a look costs time


def train_in_processes(job: Job, prepare: Callable[[Job], LoopRun] | None = None) -> None:
    """Train in as many processes as `compute.generator_processes` says; `prepare` as of `train_family`."""
    count = int(settings("compute").get("generator_processes", 1))
    if count > 1 and not is_one_of_several():
        launch([sys.executable, *sys.argv], count, job.threads)
        return
    leave_with_launcher()
    train_family(job, prepare)


def train_family(job: Job, prepare: Callable[[Job], LoopRun] | None = None) -> None:
    """Train, snapshot and publish; resumes from the job's state. Raises Terminated after a signal, state saved.

    prepare: builds the run of a job; None: that of the family in the job's slice.
    """
    if put_manifest_back(job):
        return
    stop = StopSignal()
    torch.set_num_threads(max(1, job.threads // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    run = (prepare or load(FAMILY_TRAINING, job.slice["module"]).prepare_run)(job)
    main = run.accelerator.is_main_process
    with run.accelerator.main_process_first():  # it removes another job's state before anyone reads it
        checkpoints, snapshots = Checkpoints(job.state_folder(), job.identity), snapshots_of(job)
    resume(run, checkpoints, snapshots)
    check_agreement(run)
    now = environment(run.accelerator.device, processes=run.accelerator.num_processes, precision=run.options.precision)
    note_environment(run.environments, now, from_step=run.step)
    train_steps(run, checkpoints, snapshots, stop)
    if main:
        write_generator(run, job)
        keep_manifest(job)
        checkpoints.clear()
        snapshots.clear()
    run.accelerator.wait_for_everyone()
    run.accelerator.end_training()


def train_steps(run: LoopRun, checkpoints: Checkpoints, snapshots: GuardedFolder, stop: StopSignal) -> None:
    """Run the remaining steps, with the log, snapshots, saves and signals in between."""
    options, device, processes = run.options, run.accelerator.device, run.accelerator.num_processes
    run.start()
    order = PassOrder(len(run.data), options.batch_size, run.seed_keys)
    own = torch.arange(run.accelerator.process_index, options.batch_size, processes)
    kept_steps = set(run.kept_steps)
    check_every = steps_between_looks(device, processes)
    unchecked: list[Tensor] = []
    progress = Progress(run.title, options.steps, run.step)
    meter = started_meter(run)
    saved_at, clock, logged_at = time.monotonic(), time.monotonic(), (run.step, run.seconds)
    while run.step < options.steps:
        rate = run.learning_rate_at(run.step)
        unchecked.append(run.take_step(torch.from_numpy(order.batch(run.step))[own], own))
        run.step += 1
        notes = [f"loss {run.losses[-1][0]:.4f}"] if run.losses else []
        told = stop.requested and processes == 1  # the flag alone costs no look at the GPU
        due = options.save_every is not None and run.step % options.save_every == 0
        if told or due or run.step % check_every == 0 or run.step % options.log_every == 0 or run.step in kept_steps:
            run.losses += finite_losses(run, unchecked, rate)
            unchecked = []
            now = time.monotonic()
            run.seconds, clock = run.seconds + now - clock, now
            run.energy_joules = total_energy(run.energy_joules, meter.since_last())
            if run.step % options.log_every == 0 or run.step == options.steps:
                logged_at = add_log_row(run, rate, logged_at)
            if run.step in kept_steps and run.accelerator.is_main_process:
                snapshots.keep(str(run.step), run.save_parts, step=run.step)
            stopping = agreed(run, stop.requested) and run.step < options.steps
            due |= time.monotonic() - saved_at >= options.save_every_seconds
            if (due or stopping or run.step == options.steps) and run.accelerator.is_main_process:
                checkpoints.save(run.step, state_of(run))
                saved_at = time.monotonic()
            if stopping:
                run.accelerator.wait_for_everyone()
                raise Terminated(f"state saved at step {run.step} of {options.steps}")
        if run.log:
            notes.append(f"{run.log[-1]['images_per_second']:.0f} images/s")
        if run.accelerator.is_main_process:
            progress.advance(1, ", ".join(notes))


def steps_between_looks(device: torch.device, processes: int) -> int:
    """Return after how many steps the loop looks at losses and clock; reading a loss stops a GPU's queue."""
    return 1 if device.type == "cpu" and processes == 1 else CHECK_STEPS


def started_meter(run: LoopRun) -> EnergyMeter:
    """Return a meter that counts from now, and note what it reads."""
    count = run.accelerator.num_processes if run.accelerator.device.type == "cuda" else 0
    if count > max(torch.cuda.device_count(), 1):  # processes on several machines: the others' GPUs cannot be read
        run.energy_joules = None
        count = 1
    meter = EnergyMeter([torch.device("cuda", number) for number in range(count)])
    if meter.source is not None and meter.source not in run.energy_sources:
        run.energy_sources.append(meter.source)
    return meter


def finite_losses(run: LoopRun, unchecked: list[Tensor], rate: float) -> list[list[float]]:
    """Return the losses of the last steps; SynthGainError if one, or a gradient, is not finite."""
    numbers = run.accelerator.reduce(torch.stack(unchecked), "mean").cpu()
    bad = (~torch.isfinite(numbers).all(dim=1)).nonzero()
    if len(bad):
        step = run.step - len(unchecked) + int(bad[0]) + 1
        raise SynthGainError(
            f"loss not finite at step {step} (learning rate {rate:.3g}): lower training.learning_rate, lengthen "
            "warmup_steps or use precision float32; the last good state is kept"
        )
    losses: list[list[float]] = numbers[:, : len(run.loss_names)].tolist()
    return losses


def add_log_row(run: LoopRun, rate: float, logged_at: tuple[int, float]) -> tuple[int, float]:
    """Add a row to the log: mean losses and throughput since the last; returns where this one is."""
    steps, seconds = run.step - logged_at[0], run.seconds - logged_at[1]
    columns = zip(*run.losses, strict=True)
    run.log.append(
        {
            "step": run.step,
            **{name: sum(column) / len(column) for name, column in zip(run.loss_names, columns, strict=True)},
            "learning_rate": rate,
            "images_per_second": steps * run.options.batch_size / max(seconds, 1e-9),
            "seconds": run.seconds,
        }
    )
    run.losses = []
    return run.step, run.seconds


def agreed(run: LoopRun, requested: bool) -> bool:
    """True if any process was asked to stop."""
    if run.accelerator.num_processes == 1:
        return requested
    flag = torch.tensor(float(requested), device=run.accelerator.device)
    return bool(run.accelerator.reduce(flag, "sum") > 0)


def write_generator(run: LoopRun, job: Job) -> None:
    """Write the parts, the family's extras, snapshots/, training.csv and, last, manifest.json.

    run: at its last step. Raises SynthGainError if a snapshot in the state is damaged.
    """
    target, kept = job.outputs[0].parent, snapshots_of(job)
    steps = run.kept_steps
    damaged = [step for step in steps if kept.find(str(step)) is None]
    if damaged:
        raise SynthGainError(f"{kept.folder}/{damaged[0]}: snapshot missing or damaged; run snakemake again to train")
    files = publish(kept.folder, steps, target)
    write_text(target / "training.csv", log_table(run.log))
    files += [*run.save_extras(target), "training.csv"]
    write_manifest(target / "manifest.json", job.identity, files, **facts_of(run, job, steps))
    logger.info("%s written to %s", run.title, target)


def facts_of(run: LoopRun, job: Job, steps: list[int]) -> dict[str, object]:
    """Return the manifest's facts: what it is, what it saw, what it cost, how the loss fell."""
    seen = run.step * run.options.batch_size
    losses = [row[run.loss_names[0]] for row in run.log]
    tail = losses[-max(1, round(TAIL_SHARE * len(losses))) :]
    shape = list(run.data.images.shape[1:])
    entry = training_slice(DataSlice, job)
    return {
        **run.described(job),
        "image_shape": shape,
        "image_channels": shape[0] - (0 if entry.output == "image" else len(entry.structures)),
        "output": entry.output,
        "structures": entry.structures,
        "steps": run.step,
        "snapshots": steps,
        "final": steps[-1],
        "images_seen": seen,
        "epochs": seen / len(run.data),
        "saw": run.data.saw(),
        "train_on": job.slice["train_on"],
        "environments": run.environments,
        "loss": {"first": losses[0], "lowest": min(losses), "final": sum(tail) / len(tail)},
        "seconds": round(run.seconds, 3),
        "energy_joules": None if run.energy_joules is None else round(run.energy_joules, 3),
        "energy_source": "; ".join(run.energy_sources) or None,
        "images_per_second": seen / max(run.seconds, 1e-9),
        **run.facts(),
    }


def log_table(log: list[dict[str, float]]) -> str:
    """Return the training log as CSV: step, the losses, learning_rate, images_per_second, seconds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(log[0])
    writer.writerows([int(row["step"]), *(f"{row[key]:.6g}" for key in row if key != "step")] for row in log)
    return text.getvalue()


def publish(folder: Path, steps: list[int], target: Path) -> list[str]:
    """Link the snapshots below `target/snapshots` and the last one's parts into `target`; return the files' names."""
    for part in (target / "snapshots", *(target / name for name in PARTS), *target.glob(average_folder("*"))):
        shutil.rmtree(part, ignore_errors=True)
    names = []
    for step in steps:
        source = folder / str(step)
        places = [f"snapshots/{step}/", *([""] if step == steps[-1] else [])]
        for name in files_below(source):
            for place in places:
                link(source / name, target / f"{place}{name}")
                names.append(f"{place}{name}")
    return names


def link(source: Path, target: Path) -> None:
    """Hard-link where the file system can, else copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
