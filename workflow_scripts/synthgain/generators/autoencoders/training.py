"""The training of an autoencoder, in the loop of every training (`generators/training.py`)."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.optimizer import AcceleratedOptimizer
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from synthgain.data.pixels import to_signed
from synthgain.device import compiled, memory_format
from synthgain.generators.autoencoders.options import AutoencoderSlice, AutoencoderTraining
from synthgain.generators.autoencoders.publishing import facts_of, scaled, seen_by
from synthgain.generators.run import (
    Averages,
    LoopRun,
    Stateful,
    new_accelerator,
    training_options,
    warmed_up,
    weight_averages,
)
from synthgain.generators.training_data import job_training_data, place, taken, training_slice
from synthgain.networks.autoencoder import build
from synthgain.networks.unet import prepare_memory_format
from synthgain.runtime.command import Job
from synthgain.seeds import integer_seed

WEIGHT_DECAY = 0.01


class Autoencoding(nn.Module):
    """An autoencoder as one pass: images and noise in, reconstruction and KL divergence out."""

    def __init__(self, network: AutoencoderKL) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstructions (N,C,H,W) and the KL divergence (N,) to a standard normal, summed over the latent."""
        posterior = self.network.encode(images).latent_dist
        drawn = posterior.mean + posterior.std * noise
        return self.network.decode(drawn).sample, posterior.kl()


@dataclass
class AutoencoderRun(LoopRun):
    """Network, its weight average and optimiser."""

    loss_names = ("loss", "reconstruction", "kl")

    options: AutoencoderTraining
    job: Job
    module: Autoencoding
    averaged: Autoencoding
    average: Averages
    optimizer: torch.optim.Optimizer
    # From `start` on.
    forward: nn.Module = field(init=False)
    prepared_optimizer: AcceleratedOptimizer = field(init=False)
    images: Tensor = field(init=False)

    @property
    def kept_steps(self) -> list[int]:
        return [self.options.steps]

    @property
    def title(self) -> str:
        return f"autoencoder {self.seed_keys['autoencoder']}"

    @property
    def stateful(self) -> dict[str, Stateful]:
        return {"module": self.module, "average": self.average, "optimizer": self.optimizer}

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to nothing (one cycle)."""
        share = torch.tensor(step / self.options.steps, dtype=torch.float64)
        return warmed_up(self.options, step) * float((1 + torch.cos(torch.pi * share)) / 2)

    def start(self) -> None:
        model = compiled(self.module, self.accelerator.device) if self.options.compile else self.module
        self.forward, self.prepared_optimizer = self.accelerator.prepare(model, self.optimizer)
        self.forward.train()
        self.images = place(self.data.images, self.accelerator.device)

    def take_step(self, rows: Tensor, own: Tensor) -> Tensor:
        device, options = self.accelerator.device, self.options
        for group in self.prepared_optimizer.param_groups:
            group["lr"] = self.learning_rate_at(self.step)
        clean = to_signed(taken(self.images, rows, device)).contiguous(memory_format=memory_format(device))
        found, divergence = self.forward(clean, self._noise()[own.to(device)])
        error = (found.float() - clean).abs().mean()
        kl = divergence.float().mean()
        weight = options.kl_weight if self.step >= options.kl_from * options.steps else 0.0
        loss = error + weight * kl
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), options.gradient_clip)
        self.prepared_optimizer.step()
        self.prepared_optimizer.zero_grad()
        self.average.step(self.module.parameters())
        return torch.stack([loss.detach(), error.detach(), kl.detach(), norm.detach()])

    def _noise(self) -> Tensor:
        """Noise (B,Z,h,w) of the global batch, of this step alone."""
        device, network = self.accelerator.device, self.module.network
        side = self.data.images.shape[-1] // training_slice(AutoencoderSlice, self.job).downsampling
        generator = torch.Generator(device)
        generator.manual_seed(integer_seed(**self.seed_keys, step="noise", number=self.step))
        shape = (self.options.batch_size, network.config["latent_channels"], side, side)
        return torch.randn(shape, generator=generator, device=device)

    def save_parts(self, folder: Path) -> None:
        self.average.copy_to(self.averaged.parameters())
        scaled(self.averaged.network, self.data.images).save_pretrained(folder / "autoencoder", safe_serialization=True)

    def described(self, job: Job) -> dict[str, object]:
        return {"autoencoder": training_slice(AutoencoderSlice, job).autoencoder}

    def facts(self) -> dict[str, object]:
        return facts_of(self.job, self.job.outputs[0].parent / "autoencoder", seen_by(self.data))


def prepare_run(job: Job) -> AutoencoderRun:
    """Read the data and build network, average and optimiser as the slice says."""
    entry, options = training_slice(AutoencoderSlice, job), training_options(AutoencoderTraining, job, "autoencoders")
    accelerator = new_accelerator(options)
    keys: dict[str, str | int] = {"study": entry.seed, "autoencoder": entry.autoencoder}
    data = job_training_data(job, f"autoencoders.{entry.autoencoder}")
    torch.manual_seed(integer_seed(**keys, step="initial weights"))
    channels, size = data.images.shape[1], data.images.shape[-1]
    widths, layers = entry.network.block_out_channels, entry.network.layers_per_block
    module = Autoencoding(build(entry.downsampling, entry.latent_channels, channels, size, widths, layers))
    prepare_memory_format(module.to(accelerator.device))
    average = weight_averages(module, [options.ema_decay])
    optimizer = torch.optim.AdamW(module.parameters(), lr=options.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    return AutoencoderRun(options, data, accelerator, keys, job, module, copy.deepcopy(module), average, optimizer)
