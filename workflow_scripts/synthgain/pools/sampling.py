"""Draws the images of some rows of a replica, batch by batch, and survives being killed.

Every sample's noise comes from its own seed, and batches are cut at fixed places of the replica, so that
the pixels do not depend on how many jobs draw it (on the same hardware and number of threads).
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from synthgain.data.pixels import to_uint8
from synthgain.device import memory_format
from synthgain.generators.loading import Condition, Generator, OneStep, denoises
from synthgain.pools.options import Sampling
from synthgain.pools.solvers import sample
from synthgain.runtime.command import Progress, StopSignal, Terminated
from synthgain.runtime.environment import note_environment
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json
from synthgain.runtime.guarded import GuardedFolder

logger = logging.getLogger("synthgain")


class FinishedBatches(GuardedFolder):
    """Batches already drawn, one `.npy` each, of one identity.

    environment: that of this process, kept with each batch (`synthgain.runtime.environment.environment`).
    """

    def __init__(self, folder: Path, identity: str, environment: Mapping[str, object] | None = None) -> None:
        super().__init__(folder, identity, "batch-*")
        self.environment = dict(environment or {})

    def save(self, batch: int, images: np.ndarray) -> None:
        """Keep one batch's images (uint8)."""

        def write(path: Path) -> None:
            with path.open("wb") as handle:
                np.save(handle, images, allow_pickle=False)

        self.keep(_batch_name(batch), write, environment=self.environment)

    def load(self, batch: int) -> np.ndarray | None:
        """Return a finished batch's images, or None where there is none or its bytes are damaged."""
        name = _batch_name(batch)
        if self.find(name) is not None:
            with contextlib.suppress(ValueError):
                return np.asarray(np.load(self.folder / name, allow_pickle=False))
        if (self.folder / name).exists():
            logger.warning("%s: damaged, drawing this batch again", self.folder / name)
        return None

    def environments(self) -> list[dict[str, Any]]:
        """Return where the batches were drawn, in their order, an entry wherever that changed."""
        found: list[dict[str, Any]] = []
        for path in sorted(self.folder.glob("batch-*.json")):
            with contextlib.suppress(SynthGainError, KeyError):
                note_environment(found, read_json(path)["environment"], from_batch=int(path.stem.split("-")[1]))
        return found


def draw_rows(
    generator: Generator,
    rows: pd.DataFrame,
    seeds: np.ndarray,
    bounds: tuple[int, int],
    sampling: Sampling,
    finished: FinishedBatches,
    name: str,
) -> np.ndarray:
    """Return what a generator draws, (N, H, W, C) uint8, for rows bounds[0] … bounds[1] - 1 of a replica.

    rows: the whole replica's conditions; seeds: (len(rows),) int64. `bounds` are cut at multiples of
    the batch size. Raises SynthGainError as `draw_batches` does.
    """
    sampler = Sampler(generator, sampling)

    def batch(positions: np.ndarray) -> torch.Tensor:
        return sampler.draw(seeds[positions], lambda: generator.encode_conditions(rows.iloc[positions]))

    return draw_batches(batch, bounds, sampling.batch_size, generator.image_shape, finished, name)


class Sampler:
    """A generator with its sampling options: seeds and conditions in, samples in [-1, 1] out."""

    def __init__(self, generator: Generator, options: Sampling) -> None:
        self.generator, self.options = generator, options
        self.device = generator.device
        if options.compile is True:  # auto, where nobody decided: a few images
            generator.network.compile(dynamic=False)  # in place: it stays the module that others ask about its sizes
        if self.device.type == "cuda" and denoises(generator):
            generator.record()  # every batch is of one size

    def draw(self, seeds: np.ndarray, condition: Callable[[], Condition]) -> torch.Tensor:
        """Return samples (n, C, H, W) float32 of seeds (n,) int64; `condition` gives the n encoded conditions."""
        with torch.inference_mode(), self.precision():
            if not denoises(self.generator):
                one_step = cast(OneStep, self.generator)
                latents = noise_of(seeds, (one_step.latent_dim,)).to(self.device)
                return one_step.generate(latents, condition())
            noise = noise_of(seeds, tuple(self.generator.image_shape))
            noise = noise.to(self.device, memory_format=memory_format(self.device))
            guidance = self.options.guidance_scale, self.options.guidance_interval
            return sample(self.generator, condition(), noise, self.options.solver, self.options.steps, *guidance)

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context that the network runs in: as it is, or mixed with bfloat16."""
        half = self.options.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext()


def draw_batches(
    draw: Callable[[np.ndarray], torch.Tensor],
    bounds: tuple[int, int],
    size: int,
    shape: tuple[int, int, int],
    finished: FinishedBatches,
    name: str,
) -> np.ndarray:
    """Return (N, H, W, C) uint8 of rows bounds[0] … bounds[1] - 1, drawn `size` at a time.

    draw: row positions (size,) int64, the last batch padded with its last row → (size, C, H, W) in [-1, 1];
    shape: (C, H, W). Finished batches are taken from `finished`. On SIGTERM the batch in hand is given up, since
    it may take minutes, and Terminated is raised. Raises SynthGainError for pixels that are not finite.
    """
    start, stop = bounds
    torch.backends.cudnn.deterministic = True  # a resumed or re-cut shard must give the same bits
    interrupt, progress = StopSignal(), Progress(name, stop - start)
    parts: list[np.ndarray] = []
    for first in range(start, stop, size):
        inside = np.arange(first, min(first + size, stop))
        images = finished.load(first // size)
        if images is None:
            padded = np.concatenate([inside, np.full(size - len(inside), inside[-1])])
            try:
                with interrupt.at_once():
                    drawn = draw(padded)
            except KeyboardInterrupt:
                raise Terminated(f"{progress.done} of {progress.total} images of {name} kept") from None
            _check_finite(drawn[: len(inside)], first, name)
            images = to_uint8(drawn)[: len(inside)]
            finished.save(first // size, images)
        parts.append(images)
        progress.advance(len(inside))
    return np.concatenate(parts) if parts else np.zeros((0, *_hwc(shape)), dtype=np.uint8)


def noise_of(seeds: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """Return standard normal noise (N, *shape) float32, each sample from its own PCG64 stream."""
    samples = [np.random.Generator(np.random.PCG64(int(seed))).standard_normal(shape, np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(samples))


def _check_finite(images: torch.Tensor, first: int, name: str) -> None:
    bad = ~torch.isfinite(images).flatten(1).all(dim=1)
    if bad.any():
        row = first + int(bad.nonzero()[0])
        raise SynthGainError(
            f"{name}, row {row}: the generator gave pixels that are not finite; look at its training.csv, "
            "take an earlier snapshot, or set sampling.precision: float32; finished batches are kept"
        )


def _hwc(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    return (shape[1], shape[2], shape[0])


def _batch_name(batch: int) -> str:
    return f"batch-{batch:08d}.npy"
