"""The training loop of the diffusion family.

Everything random at a step comes from (seed, generator, index, step) and the slot in the global batch, so that an
interrupted run goes on to the same weights and any number of processes draws the same batch.
"""

import copy
import importlib
import shutil
import time
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from synthgain.checkpoints import Checkpoints
from synthgain.command import Job, Progress, StopSignal, Terminated, logger
from synthgain.device import chosen_device
from synthgain.errors import SynthGainError
from synthgain.generators.condition_encoder import ConditionEncoder, column_specs
from synthgain.generators.diffusion import ConditionalNetwork, fitting_weights, load, save_parts
from synthgain.generators.formulations import formulation_from
from synthgain.generators.options import PRECISIONS, TrainingOptions, training_options
from synthgain.generators.publishing import write_generator
from synthgain.generators.run_state import Run, note_environment, resume, state_of
from synthgain.generators.snapshots import write_snapshot
from synthgain.generators.training_data import (
    PassOrder,
    TrainingData,
    measure_sigma_data,
    place,
    read_training_data,
    to_unit_range,
)
from synthgain.networks.unet import condition_dimension, prepare_memory_format
from synthgain.seeds import integer_seed

LEVEL_MARGIN = 1e-6  # keeps ln sigma finite: the normal quantile of 0 is minus infinity
LOG_COLUMNS = ("step", "loss", "learning_rate", "images_per_second", "seconds")


def train_diffusion(job: Job) -> None:
    """Train, snapshot and publish; resumes from the job's state. Raises Terminated after a signal, state saved."""
    stop = StopSignal()
    torch.set_num_threads(job.threads)
    torch.set_float32_matmul_precision("high")
    run = prepare_run(job)
    main = run.accelerator.is_main_process
    if main:
        Checkpoints(job.state_folder(), job.identity)  # removes another job's state before anyone reads it
    run.accelerator.wait_for_everyone()
    checkpoints = Checkpoints(job.state_folder(), job.identity)
    resume(run, checkpoints, job)
    note_environment(run, job.threads)
    train_steps(run, checkpoints, job, stop)
    if main:
        write_generator(run, job)
        checkpoints.clear()
        shutil.rmtree(job.state_folder() / "snapshots", ignore_errors=True)
    run.accelerator.wait_for_everyone()


def prepare_run(job: Job) -> Run:
    """Read the data and build network, encoder, average and optimiser as the slice says."""
    entry = job.slice
    options = training_options(entry["training"])
    if entry.get("output", "image") != "image":
        raise SynthGainError(f"generators.{entry['generator']}.output {entry['output']!r}: known is 'image'")
    accelerator = Accelerator(cpu=chosen_device().type == "cpu", mixed_precision=PRECISIONS[options.precision])
    if options.batch_size % accelerator.num_processes:
        raise SynthGainError(
            f"training.batch_size {options.batch_size}: not a multiple of the {accelerator.num_processes} processes"
        )
    train_on = entry["train_on"]
    folders = {
        name: (job.input_folder(f"datasets/{name}/manifest.json"), job.input_folder(f"splits/{name}/manifest.json"))
        for name in train_on["datasets"]
    }
    data = read_training_data(
        folders, train_on.get("real_fraction", 1.0), train_on.get("label_fraction", 1.0), entry["seed"]
    )
    formulation = formulation_from(entry.get("formulation") or {"kind": "edm"}, measure_sigma_data(data.images))
    keys = {"study": entry["seed"], "generator": entry["generator"], "index": entry["index"]}
    torch.manual_seed(integer_seed(**keys, step="initial weights"))
    module = build_module(entry, options, data)
    if entry.get("init_from"):
        load_initial_weights(module, job, entry["init_from"])
    prepare_memory_format(module.to(accelerator.device))
    average = EMAModel(
        module.parameters(),
        decay=options.ema_decay,
        use_ema_warmup=True,
        inv_gamma=options.ema_inv_gamma,
        power=options.ema_power,
        foreach=True,
    )
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
    )
    averaged = copy.deepcopy(module)
    return Run(options, data, formulation, module, averaged, average, optimizer, accelerator, keys)


def build_module(entry: dict[str, Any], options: TrainingOptions, data: TrainingData) -> ConditionalNetwork:
    """Return network and condition encoder with fresh weights from torch's global seed."""
    channels, size = data.images.shape[1], data.images.shape[-1]
    network_options = {"dropout": options.dropout, **entry["network"].get("options", {})}
    build = importlib.import_module(entry["network"]["module"]).build
    network: UNet2DModel = build(network_options, size, channels)
    specs = column_specs(entry["condition_on"], data.columns, data.table[data.labelled])
    return ConditionalNetwork(network, ConditionEncoder(specs, condition_dimension(network)))


def load_initial_weights(module: ConditionalNetwork, job: Job, manifest: str) -> None:
    """Take over the averaged weights of another generator that fit by name and shape, and its conditions by column."""
    start = load(job.input_folder(manifest))
    fitting = fitting_weights(module.network, start.network.state_dict())
    if not fitting:
        raise SynthGainError(f"init_from {manifest}: none of its network's weights fit; use the same network options")
    module.network.load_state_dict(fitting, strict=False)
    shared = module.encoder.take_over(start.encoder)
    total = len(module.network.state_dict())
    logger.info(
        "started from %s: %d of %d tensors fit, conditions %s",
        manifest,
        len(fitting),
        total,
        ", ".join(shared) or "none",
    )


def train_steps(run: Run, checkpoints: Checkpoints, job: Job, stop: StopSignal) -> None:
    """Run the remaining steps, with the log, snapshots, saves and signals in between."""
    options, device, processes = run.options, run.accelerator.device, run.accelerator.num_processes
    model = torch.compile(run.module) if options.compile else run.module
    forward, optimizer = run.accelerator.prepare(model, run.optimizer)
    run.forward = forward
    forward.train()
    images = place(run.data.images, device)
    values, null = (torch.from_numpy(array).to(device) for array in run.module.encoder.encode_table(run.data.table))
    null |= ~torch.from_numpy(run.data.labelled).to(device)[:, None]
    order = PassOrder(len(run.data), options.batch_size, run.seed_keys)
    own = torch.arange(run.accelerator.process_index, options.batch_size, processes)
    snapshots = set(options.snapshot_steps())
    # Reading a loss stops a GPU's queue, and processes must agree: there only every few steps.
    check_every = 1 if device.type == "cpu" and processes == 1 else options.log_every
    unchecked: list[Tensor] = []
    progress = Progress(f"generator {job.slice['generator']}", options.steps, run.step)
    saved_at, clock, logged_at = time.monotonic(), time.monotonic(), (run.step, run.seconds)
    while run.step < options.steps:
        rows = torch.from_numpy(order.batch(run.step))[own]
        rate = set_learning_rate(optimizer, options, run.step)
        batch = to_unit_range(images[rows.to(images.device)].to(device, non_blocking=True))
        placed = rows.to(device)
        unchecked.append(train_step(run, optimizer, batch, values[placed], null[placed], own))
        run.step += 1
        progress_note = f"loss {run.losses[-1]:.4f}" if run.losses else ""
        if run.step % check_every == 0 or run.step in snapshots:
            run.losses += finite_losses(run, unchecked, rate)
            unchecked = []
            now = time.monotonic()
            run.seconds, clock = run.seconds + now - clock, now
            if run.step % options.log_every == 0 or run.step == options.steps:
                logged_at = add_log_row(run, rate, logged_at)
            if run.step in snapshots and run.accelerator.is_main_process:
                run.average.copy_to(run.averaged.parameters())
                folder = job.state_folder() / "snapshots"
                write_snapshot(folder, run.step, job.identity, lambda path: save_parts(path, run.averaged))
            stopping = agreed(run, stop.requested) and run.step < options.steps
            due = time.monotonic() - saved_at >= options.save_every_seconds
            due |= options.save_every is not None and run.step % options.save_every == 0
            if (due or stopping or run.step == options.steps) and run.accelerator.is_main_process:
                checkpoints.save(run.step, state_of(run))
                saved_at = time.monotonic()
            if stopping:
                run.accelerator.wait_for_everyone()
                raise Terminated(f"state saved at step {run.step} of {options.steps}")
        if run.log:
            progress_note += f", {run.log[-1]['images_per_second']:.0f} images/s"
        if run.accelerator.is_main_process:
            progress.advance(1, progress_note)


def train_step(run: Run, optimizer: Any, clean: Tensor, values: Tensor, null: Tensor, own: Tensor) -> Tensor:
    """One optimiser step on this process's slots `own` of the global batch; returns (loss, gradient norm) (2,)."""
    level, noise, dropped = step_draws(run, clean)
    slots = own.to(clean.device)
    null = null | (dropped[slots] < run.options.condition_dropout)[:, None]
    clean = clean.contiguous(memory_format=torch.channels_last)
    loss = run.formulation.loss(
        lambda scaled, moment: run.forward(scaled, moment, values, null), clean, noise[slots], level[slots]
    ).mean()
    run.accelerator.backward(loss)
    norm = run.accelerator.clip_grad_norm_(run.module.parameters(), run.options.gradient_clip)
    optimizer.step()
    optimizer.zero_grad()
    run.average.step(run.module.parameters())
    return torch.stack([loss.detach(), norm.detach()])


def step_draws(run: Run, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise levels (B,) in (0, 1), noise (B,C,H,W) and dropout numbers (B,) of the whole global batch.

    The levels are one uniform number and its B equal shifts (Kingma et al. 2021, "Variational diffusion
    models", I.1): every batch covers all noise levels, and each slot alone is uniform.
    """
    generator = torch.Generator(clean.device)
    generator.manual_seed(integer_seed(**run.seed_keys, step="noise", number=run.step))
    # Only a network's own dropout draws from the global stream; it must not remember how often a job was killed.
    torch.manual_seed(integer_seed(**run.seed_keys, step="dropout", number=run.step))
    size, device = run.options.batch_size, clean.device
    start = torch.rand(1, generator=generator, device=device)
    level = (start + torch.arange(size, device=device) / size) % 1.0
    dropped = torch.rand(size, generator=generator, device=device)
    noise = torch.randn(size, *clean.shape[1:], generator=generator, device=device)
    return level.clamp(LEVEL_MARGIN, 1 - LEVEL_MARGIN), noise, dropped


def finite_losses(run: Run, unchecked: list[Tensor], rate: float) -> list[float]:
    """Return the losses of the last steps; SynthGainError if one, or a gradient, is not finite."""
    numbers = run.accelerator.reduce(torch.stack(unchecked), "mean").cpu()
    bad = (~torch.isfinite(numbers).all(dim=1)).nonzero()
    if len(bad):
        step = run.step - len(unchecked) + int(bad[0]) + 1
        raise SynthGainError(
            f"loss not finite at step {step} (learning rate {rate:.3g}): lower training.learning_rate, lengthen "
            "warmup_steps or use precision float32; the last good state is kept"
        )
    return [float(number) for number in numbers[:, 0]]


def add_log_row(run: Run, rate: float, logged_at: tuple[int, float]) -> tuple[int, float]:
    """Add a row to the log: mean loss and throughput since the last; returns where this one stands."""
    steps, seconds = run.step - logged_at[0], run.seconds - logged_at[1]
    speed = steps * run.options.batch_size / max(seconds, 1e-9)
    loss = sum(run.losses) / len(run.losses)
    run.log.append(dict(zip(LOG_COLUMNS, (run.step, loss, rate, speed, run.seconds), strict=True)))
    run.losses = []
    return run.step, run.seconds


def set_learning_rate(optimizer: Any, options: TrainingOptions, step: int) -> float:
    """Set and return the learning rate of `step` (from 0)."""
    rate = options.learning_rate_at(step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def agreed(run: Run, requested: bool) -> bool:
    """True if any process was asked to stop."""
    if run.accelerator.num_processes == 1:
        return requested
    flag = torch.tensor(float(requested), device=run.accelerator.device)
    return bool(run.accelerator.reduce(flag, "sum") > 0)
