"""Training of the diffusion family: what a run is made of, and its step; the loop is every family's.

Everything random at a step comes from (seed, generator, index, step) and the slot in the global batch, so that an
interrupted run goes on to the same weights and any number of processes draws the same batch.
"""

import copy
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from synthgain.command import Job, logger
from synthgain.errors import SynthGainError
from synthgain.generators.condition_encoder import ConditionEncoder, column_specs
from synthgain.generators.diffusion import ConditionalNetwork, fitting_weights, load, save_parts, scheduler_of
from synthgain.generators.formulations import Formulation, formulation_from
from synthgain.generators.loop import train_family
from synthgain.generators.options import TrainingOptions, training_options
from synthgain.generators.run_state import Run, new_accelerator, weight_average
from synthgain.generators.training_data import PlacedData, TrainingData, job_training_data, measure_sigma_data
from synthgain.networks.unet import condition_dimension, prepare_memory_format
from synthgain.seeds import integer_seed

LEVEL_MARGIN = 1e-6  # keeps ln sigma finite: the normal quantile of 0 is minus infinity


@dataclass
class DiffusionRun(Run):
    """Network, encoder and formulation; `forward` is `module` as compiled and as accelerate wraps it."""

    formulation: Formulation
    module: ConditionalNetwork
    averaged: ConditionalNetwork
    average: EMAModel
    optimizer: torch.optim.Optimizer
    forward: Any = None
    prepared_optimizer: Any = None
    placed: PlacedData | None = None

    @property
    def encoder(self) -> ConditionEncoder:
        return self.module.encoder

    @property
    def stateful(self) -> dict[str, Any]:
        return {"module": self.module, "average": self.average, "optimizer": self.optimizer}

    def start(self) -> None:
        model = torch.compile(self.module) if self.options.compile else self.module
        self.forward, self.prepared_optimizer = self.accelerator.prepare(model, self.optimizer)
        self.forward.train()
        self.placed = PlacedData.of(self.data, self.module.encoder, self.accelerator.device)

    def take_step(self, rows: Tensor, own: Tensor) -> Tensor:
        assert self.placed is not None  # start() was called
        set_learning_rate(self.prepared_optimizer, self.options, self.step)
        return train_step(self, self.prepared_optimizer, *self.placed.batch(rows), own)

    def save_parts(self, folder: Path) -> None:
        self.average.copy_to(self.averaged.parameters())
        save_parts(folder, self.averaged)

    def save_extras(self, folder: Path) -> list[str]:
        scheduler_of(self.formulation).save_pretrained(folder / "scheduler")
        return ["scheduler/scheduler_config.json"]

    def facts(self) -> dict[str, Any]:
        return {
            "formulation": self.formulation.config(),
            "sigma_data": self.formulation.sigma_data,
            "parameters": sum(parameter.numel() for parameter in self.module.parameters()),
        }


def train_diffusion(job: Job) -> None:
    """Train, snapshot and publish; resumes from the job's state. Raises Terminated after a signal, state saved."""
    train_family(job, prepare_run)


def prepare_run(job: Job) -> DiffusionRun:
    """Read the data and build network, encoder, average and optimiser as the slice says."""
    entry = job.slice
    options = training_options(entry["training"])
    if entry.get("output", "image") != "image":
        raise SynthGainError(f"generators.{entry['generator']}.output {entry['output']!r}: known is 'image'")
    accelerator = new_accelerator(options)
    data = job_training_data(job)
    formulation = formulation_from(entry.get("formulation") or {"kind": "edm"}, measure_sigma_data(data.images))
    keys = {"study": entry["seed"], "generator": entry["generator"], "index": entry["index"]}
    torch.manual_seed(integer_seed(**keys, step="initial weights"))
    module = build_module(entry, options, data)
    if entry.get("init_from"):
        load_initial_weights(module, job, entry["init_from"])
    prepare_memory_format(module.to(accelerator.device))
    average = weight_average(module, options)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
    )
    averaged = copy.deepcopy(module)
    return DiffusionRun(options, data, accelerator, keys, formulation, module, averaged, average, optimizer)


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


def train_step(run: DiffusionRun, optimizer: Any, clean: Tensor, values: Tensor, null: Tensor, own: Tensor) -> Tensor:
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


def step_draws(run: DiffusionRun, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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


def set_learning_rate(optimizer: Any, options: TrainingOptions, step: int) -> float:
    """Set and return the learning rate of `step` (from 0)."""
    rate = options.learning_rate_at(step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
