"""Stock parts as their users put them together: PNG folders, torchvision transforms, diffusers' pipelines and loop.

Written afresh from the documented usage of diffusers (unconditional training, DDIMPipeline), accelerate and
torchvision; the networks have the sizes of ours, so that only what is around them differs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DModel,
)
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from synthgain.device import chosen_device

EVALUATION_BATCH = 16  # images a call of the pipeline, as in diffusers' training example
TRAIN_TIMESTEPS = 1000


def stock_network(ours: Any) -> UNet2DModel:
    """Return an unconditional UNet2DModel of the same sizes as `ours`, with fresh weights."""
    config = {key: value for key, value in dict(ours.config).items() if not key.startswith("_")}
    return UNet2DModel(**{**config, "class_embed_type": None})


def patch_side(network: UNet2DModel, size: int) -> int:
    """Return the side in px of the patches that a network for images of `size` px sees as channels (1: none)."""
    return size // int(network.config["sample_size"])


def write_pngs(images: np.ndarray, folder: Path, first: int = 0) -> None:
    """Write (N, H, W, 1) uint8 images as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=first):
        Image.fromarray(image[..., 0]).save(folder / f"{number:06d}.png")


def draw_pngs(
    network: UNet2DModel,
    count: int,
    steps: int,
    folder: Path,
    size: int,
    batch: int = EVALUATION_BATCH,
    solver: str = "ddim",
) -> None:
    """Draw `count` grey images of `size` px with the stock pipeline and its scheduler's defaults, and save them as PNG.

    solver: ddim, or dpmpp_2m (in the unconditional pipeline, which takes any scheduler).
    """
    patch = patch_side(network, size)
    pipeline: Any
    if solver == "ddim":
        pipeline = DDIMPipeline(network, DDIMScheduler(num_train_timesteps=TRAIN_TIMESTEPS))
    else:
        pipeline = DDPMPipeline(network, DPMSolverMultistepScheduler(num_train_timesteps=TRAIN_TIMESTEPS))
    pipeline.set_progress_bar_config(disable=True)
    for first in range(0, count, batch):
        wanted = min(batch, count - first)
        drawn = torch.from_numpy(pipeline(batch_size=wanted, num_inference_steps=steps, output_type="np").images)
        whole = functional.pixel_shuffle(drawn.permute(0, 3, 1, 2), patch).permute(0, 2, 3, 1)
        write_pngs((whole * 255).round().to(torch.uint8).numpy(), folder, first)


class PngFolder(Dataset[tuple[torch.Tensor, float]]):
    """PNG files with one label each, read and transformed one by one."""

    def __init__(self, folders: list[Path], labels: np.ndarray, transform: Any) -> None:
        self.paths = [path for folder in folders for path in sorted(folder.glob("*.png"))][: len(labels)]
        self.labels, self.transform = labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, float]:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("L")), float(self.labels[index])


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches, epoch after epoch. Raises ValueError for a loader without a batch."""
    if not len(loader):
        raise ValueError("fewer images than a batch, and drop_last")
    while True:
        yield from loader


def to_tensor(size: int, *augmentations: Any) -> transforms.Compose:
    """Return torchvision's usual chain: resize, augment, to tensor, to [-1, 1]."""
    steps = [transforms.Resize(size), *augmentations, transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    return transforms.Compose(steps)


class GeneratorLoop:
    """diffusers' unconditional training loop: Accelerator, DataLoader, EMAModel, cosine rate, clipped gradients."""

    def __init__(self, network: UNet2DModel, pngs: Path, count: int, size: int, batch: int, steps: int) -> None:
        self.accelerator = Accelerator(cpu=chosen_device().type == "cpu")
        self.patch = patch_side(network, size)
        self.scheduler = DDPMScheduler(num_train_timesteps=TRAIN_TIMESTEPS)
        optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4, weight_decay=1e-2)
        data = PngFolder([pngs], np.zeros(count), to_tensor(size, transforms.CenterCrop(size)))
        loader = DataLoader(data, batch_size=batch, shuffle=True, drop_last=count >= batch)
        rate = get_scheduler("cosine", optimizer, num_warmup_steps=min(100, steps // 2), num_training_steps=steps)
        self.network, self.optimizer, loader, self.rate = self.accelerator.prepare(network, optimizer, loader, rate)
        self.average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.average.to(self.accelerator.device)
        self.batches = endless(loader)

    def train(self, steps: int) -> None:
        """Take `steps` optimiser steps."""
        self.network.train()
        for _ in range(steps):
            clean = functional.pixel_unshuffle(next(self.batches)[0], self.patch)
            noise = torch.randn_like(clean)
            moments = torch.randint(0, TRAIN_TIMESTEPS, (len(clean),), device=clean.device).long()
            noisy = self.scheduler.add_noise(clean, noise, moments)
            with self.accelerator.accumulate(self.network):
                loss = functional.mse_loss(self.network(noisy, moments).sample.float(), noise.float())
                self.accelerator.backward(loss)
                self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
                self.optimizer.step()
                self.rate.step()
                self.optimizer.zero_grad()
            self.average.step(self.network.parameters())
            loss.detach().item()
