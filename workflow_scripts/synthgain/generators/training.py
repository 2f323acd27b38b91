"""Training of the diffusion family: what a run is made of, and its step; the loop is every family's.

Everything random at a step comes from (seed, generator, index, step) and the slot in the global batch, so that an
interrupted run goes on to the same weights and any number of processes draws the same batch.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from synthgain.device import compiled, memory_format
from synthgain.generators.building import build_formulation, build_module, controlled_module, take_over_weights
from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.diffusion import ConditionalNetwork, load, save_parts
from synthgain.generators.formulations import Formulation
from synthgain.generators.loop import train_family
from synthgain.generators.mask_condition import CONTROLNET, UNKNOWN, checked_method
from synthgain.generators.options import TrainingOptions, training_options
from synthgain.generators.run_state import Run, new_accelerator, weight_average
from synthgain.generators.scheduler import scheduler_of
from synthgain.generators.training_data import PlacedData, job_training_data
from synthgain.networks.unet import prepare_memory_format
from synthgain.runtime.command import Job
from synthgain.runtime.settings import settings
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
    mask_by: str | None = None
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
        model = compiled(self.module, self.accelerator.device) if self.options.compile else self.module
        self.forward, self.prepared_optimizer = self.accelerator.prepare(model, self.optimizer)
        self.forward.train()
        self.placed = PlacedData.of(self.data, self.module.encoder, self.accelerator.device)

    def take_step(self, rows: Tensor, own: Tensor) -> Tensor:
        assert self.placed is not None  # start() was called
        set_learning_rate(self.prepared_optimizer, self.options, self.step)
        clean, values, null = self.placed.batch(rows)
        return train_step(self, self.prepared_optimizer, clean, values, null, self.placed.condition_masks(rows), own)

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
            "mask_by": self.mask_by,
            "parameters": sum(parameter.numel() for parameter in self.module.parameters()),
            "trained_parameters": sum(parameter.numel() for parameter in self.module.trained_parameters()),
        }


def train_diffusion(job: Job) -> None:
    """Train, snapshot and publish; resumes from the job's state. Raises Terminated after a signal, state saved."""
    train_family(job, prepare_run)


def prepare_run(job: Job) -> DiffusionRun:
    """Read the data and build network, encoder, average and optimiser as the slice says."""
    entry = job.slice
    options = training_options({**entry["training"], **settings("generators", entry["generator"])})
    mask_by = checked_method(entry)
    accelerator = new_accelerator(options)
    data = job_training_data(job)
    start = load(job.inputs.start.only.folder()) if entry.get("init_from") else None
    formulation = build_formulation(entry, data, start)
    keys = {"study": entry["seed"], "generator": entry["generator"], "index": entry["index"]}
    torch.manual_seed(integer_seed(**keys, step="initial weights"))
    module = build_module(entry, options, data)
    if mask_by == CONTROLNET:
        module = controlled_module(module, start, entry, data)
    elif start is not None:
        take_over_weights(module, start, entry["init_from"])
    prepare_memory_format(module.to(accelerator.device))
    average = weight_average(module, options)
    optimizer = torch.optim.AdamW(
        module.trained_parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
    )
    averaged = copy.deepcopy(module)
    return DiffusionRun(options, data, accelerator, keys, formulation, module, averaged, average, optimizer, mask_by)


def train_step(
    run: DiffusionRun,
    optimizer: Any,
    clean: Tensor,
    values: Tensor,
    null: Tensor,
    masks: Tensor | None,
    own: Tensor,
) -> Tensor:
    """One optimiser step on this process's slots `own` of the global batch; returns (loss, gradient norm) (2,).

    clean (B,C,H,W), masks (B,K,H,W) float32 in {-1, 1} or None; condition dropout takes columns and mask together.
    """
    level, noise, draws = step_draws(run, clean)
    slots = own.to(clean.device, non_blocking=True)
    dropped = draws[slots] < run.options.condition_dropout
    null = null | dropped[:, None]
    if masks is not None:
        masks = masks.masked_fill(dropped[:, None, None, None], UNKNOWN)
    clean = clean.contiguous(memory_format=memory_format(clean.device))
    loss = run.formulation.loss(
        lambda scaled, moment: run.forward(scaled, moment, values, null, masks), clean, noise[slots], level[slots]
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
    process = run.accelerator.process_index
    other = {"process": process} if process else {}  # each process its own, where there are several
    torch.manual_seed(integer_seed(**run.seed_keys, step="dropout", number=run.step, **other))
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
