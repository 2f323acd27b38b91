"""The training loop of every family: order of the rows, log, snapshots, saves and signals.

What a step does is the family's (`Run.take_step`). Everything random at a step comes from (seed, generator, index,
step) and the slot in the global batch, so that an interrupted run goes on to the same weights.
"""

import os
import shutil
import time
from collections.abc import Callable

import torch
from torch import Tensor

from synthgain.data.batch_order import PassOrder
from synthgain.generators.publishing import write_generator
from synthgain.generators.run_state import Run, check_agreement, resume, state_of
from synthgain.generators.snapshots import write_snapshot
from synthgain.runtime.checkpoints import Checkpoints
from synthgain.runtime.command import Job, Progress, StopSignal, Terminated
from synthgain.runtime.energy import EnergyMeter, total_energy
from synthgain.runtime.environment import environment, note_environment
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.finished import keep_manifest, put_manifest_back

CHECK_STEPS = 10  # between looks at losses, clock and signals, where a look costs time


def train_family(job: Job, prepare: Callable[[Job], Run]) -> None:
    """Train, snapshot and publish; resumes from the job's state. Raises Terminated after a signal, state saved."""
    if put_manifest_back(job):
        return
    stop = StopSignal()
    torch.set_num_threads(max(1, job.threads // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    run = prepare(job)
    main = run.accelerator.is_main_process
    if main:
        Checkpoints(job.state_folder(), job.identity)  # removes another job's state before anyone reads it
    run.accelerator.wait_for_everyone()
    checkpoints = Checkpoints(job.state_folder(), job.identity)
    resume(run, checkpoints, job)
    check_agreement(run)
    now = environment(run.accelerator.device, processes=run.accelerator.num_processes, precision=run.options.precision)
    note_environment(run.environments, now, from_step=run.step)
    train_steps(run, checkpoints, job, stop)
    if main:
        write_generator(run, job)
        keep_manifest(job)
        checkpoints.clear()
        shutil.rmtree(job.state_folder() / "snapshots", ignore_errors=True)
    run.accelerator.wait_for_everyone()
    run.accelerator.end_training()


def train_steps(run: Run, checkpoints: Checkpoints, job: Job, stop: StopSignal) -> None:
    """Run the remaining steps, with the log, snapshots, saves and signals in between."""
    options, device, processes = run.options, run.accelerator.device, run.accelerator.num_processes
    run.start()
    order = PassOrder(len(run.data), options.batch_size, run.seed_keys)
    own = torch.arange(run.accelerator.process_index, options.batch_size, processes)
    snapshots = set(options.snapshot_steps())
    check_every = steps_between_looks(device, processes)
    unchecked: list[Tensor] = []
    progress = Progress(f"generator {job.slice['generator']}", options.steps, run.step)
    meter = started_meter(run)
    saved_at, clock, logged_at = time.monotonic(), time.monotonic(), (run.step, run.seconds)
    while run.step < options.steps:
        rate = options.learning_rate_at(run.step)
        unchecked.append(run.take_step(torch.from_numpy(order.batch(run.step))[own], own))
        run.step += 1
        notes = [f"loss {run.losses[-1][0]:.4f}"] if run.losses else []
        told = stop.requested and processes == 1  # the flag alone costs no look at the GPU
        due = options.save_every is not None and run.step % options.save_every == 0
        if told or due or run.step % check_every == 0 or run.step % options.log_every == 0 or run.step in snapshots:
            run.losses += finite_losses(run, unchecked, rate)
            unchecked = []
            now = time.monotonic()
            run.seconds, clock = run.seconds + now - clock, now
            run.energy_joules = total_energy(run.energy_joules, meter.since_last())
            if run.step % options.log_every == 0 or run.step == options.steps:
                logged_at = add_log_row(run, rate, logged_at)
            if run.step in snapshots and run.accelerator.is_main_process:
                write_snapshot(job.state_folder() / "snapshots", run.step, job.identity, run.save_parts)
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


def started_meter(run: Run) -> EnergyMeter:
    """Return a meter that counts from now, and note what it reads."""
    count = run.accelerator.num_processes if run.accelerator.device.type == "cuda" else 0
    if count > max(torch.cuda.device_count(), 1):  # processes on several machines: the others' GPUs cannot be read
        run.energy_joules = None
        count = 1
    meter = EnergyMeter([torch.device("cuda", number) for number in range(count)])
    if meter.source is not None and meter.source not in run.energy_sources:
        run.energy_sources.append(meter.source)
    return meter


def finite_losses(run: Run, unchecked: list[Tensor], rate: float) -> list[list[float]]:
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


def add_log_row(run: Run, rate: float, logged_at: tuple[int, float]) -> tuple[int, float]:
    """Add a row to the log: mean losses and throughput since the last; returns where this one stands."""
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


def agreed(run: Run, requested: bool) -> bool:
    """True if any process was asked to stop."""
    if run.accelerator.num_processes == 1:
        return requested
    flag = torch.tensor(float(requested), device=run.accelerator.device)
    return bool(run.accelerator.reduce(flag, "sum") > 0)
