"""Downstream training: images per second of our loop against PNG files, a DataLoader and torchvision transforms."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import stock
import torch
from measure import Options, Row, interleaved, is_idle, speed_up
from study_jobs import default_study, study_jobs
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms

from synthgain.device import chosen_device
from synthgain.downstream.augmentation import STANDARD, augmentation_of
from synthgain.downstream.cell import read_cell
from synthgain.downstream.options import TrainingModel
from synthgain.downstream.prediction import build_network
from synthgain.downstream.training import Trainer

REACH = 6.0
WORKERS = 2
STEPS, SMALL_STEPS = 200, 40  # optimiser steps a repeat


def measure(options: Options) -> Row:
    """Time optimiser steps of the default study's classifier with standard augmentation; wall time, workers count."""
    idle = is_idle()  # before this benchmark's own three processes load the machine
    device = chosen_device()
    study = default_study(options.size, models__cnn__augmentation={"laterality": True})
    steps = SMALL_STEPS if options.small else STEPS
    with study_jobs(study) as jobs, TemporaryDirectory() as pngs:
        job = jobs.job("train_downstream", model="cnn", arm="real", ratio=0, chunk=0)
        cell = read_cell(job)
        data, validation = cell.build(job, 0)
        images = data.store.gather(np.arange(len(data.store)))
        size, recipe = images.shape[1], cell.model
        new = partial(build_network, recipe.network, 1, 1, size, "bench")
        augmentation = augmentation_of("standard", {}, "bench")
        trainer = Trainer(new(), cell.task, data, validation, recipe, augmentation, 0, device, "bench")
        stock.write_pngs(images, Path(pngs))
        loop = StockTraining(new().to(device), Path(pngs), data.targets[:, 0], size, recipe)
        times = interleaved(
            {"ours": lambda: _steps(trainer, steps), "stock": lambda: loop.train(steps)}, 3 if options.small else 7
        )
        loop.close()
    clock = "wall" if idle or device.type == "cuda" else "processor"
    ratio = speed_up(times["ours"], times["stock"], clock)
    rates = {name: steps * recipe.batch_size / times[name].median(clock) for name in times}
    busy = "" if clock == "wall" else "machine busy: images per processor second, workers' included; "
    missed = "" if ratio[0] >= REACH else f"{ratio[0] / REACH:.0%} of the reach; what bounds it: docs/performance.md"
    details = {other: speed_up(times["ours"], times["stock"], other) for other in ("wall", "processor")}
    return Row(
        "downstream_training", f"downstream training, images/s, small network, {size} px, batch {recipe.batch_size}",
        f"{rates['ours']:.0f} images/s", f"{rates['stock']:.0f} images/s ({WORKERS} workers)", f">= {REACH:.0f}x",
        ratio, ratio[0] >= REACH, busy + missed, {"images_per_second": rates, "ratios": details},
    )  # fmt: skip


def _steps(trainer: Trainer, steps: int) -> None:
    """Take steps as `Trainer.train` does, from the first again: neither validation nor saves are compared."""
    trainer.progressed.step = 0
    for _ in range(steps):
        trainer._step()


class StockTraining:
    """The same network, optimiser and augmentation on PNG files: a DataLoader with two persistent workers."""

    def __init__(
        self, network: torch.nn.Module, pngs: Path, labels: np.ndarray, size: int, recipe: TrainingModel
    ) -> None:
        shift, zoom = (STANDARD.translation,) * 2, (1 - STANDARD.scale, 1 + STANDARD.scale)
        bilinear = transforms.InterpolationMode.BILINEAR
        chain = stock.to_tensor(
            size,
            transforms.RandomAffine(STANDARD.rotation, shift, zoom, interpolation=bilinear),
            transforms.ColorJitter(STANDARD.brightness, STANDARD.contrast),
        )
        data = stock.PngFolder([pngs], labels, chain)
        self.network, self.device = network.train(), next(network.parameters()).device
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
        self.loader = DataLoader(
            data, recipe.batch_size, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True
        )
        self.batches = stock.endless(self.loader)

    def train(self, steps: int) -> None:
        """Take `steps` optimiser steps."""
        for _ in range(steps):
            images, labels = (tensor.to(self.device) for tensor in next(self.batches))
            self.optimiser.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(self.network(images)[:, 0], labels.float())
            loss.backward()
            self.optimiser.step()
            loss.item()

    def close(self) -> None:
        """End the workers."""
        iterator: Any = self.loader._iterator
        if iterator is not None:
            iterator._shutdown_workers()
