"""Draws the images of some rows of a replica, batch by batch, and survives being killed.

Every sample's noise comes from its own seed, and batches are cut at fixed places of the replica, so that
the pixels do not depend on how many jobs draw it (on the same hardware and number of threads).

Denoisers are drawn from by a solver of the probability-flow ODE dx/dσ = (x − D(x; σ)) / σ over Karras' noise levels
(EDM: Karras et al. 2022, arXiv 2206.00364): σ is that of the variance-exploding form.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from synthgain.data.pixels import to_uint8
from synthgain.device import memory_format
from synthgain.generators.loading import Condition, Denoiser, Generator, OneStep, denoises
from synthgain.pools.options import Sampling
from synthgain.runtime.command import Progress, StopSignal, Terminated
from synthgain.runtime.environment import note_environment
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json
from synthgain.runtime.guarded import GuardedFolder

logger = logging.getLogger("synthgain")

RHO = 7.0  # EDM, Table 1

Denoise = Callable[[Tensor, float], Tensor]  # (x, sigma) -> the expected clean image


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
        """Return images (n, C, H, W) float32 of seeds (n,) int64; `condition` gives the n encoded conditions."""
        drawn = self.samples(seeds, condition)
        if not denoises(self.generator):
            return drawn
        with torch.inference_mode(), self.precision():
            return self.generator.decode(drawn)

    def samples(self, seeds: np.ndarray, condition: Callable[[], Condition]) -> torch.Tensor:
        """Return what `draw` decodes: latents of a generator in latents, else the images themselves."""
        with torch.inference_mode(), self.precision():
            if not denoises(self.generator):
                one_step = cast(OneStep, self.generator)
                latents = noise_of(seeds, (one_step.latent_dim,)).to(self.device)
                return one_step.generate(latents, condition())
            noise = noise_of(seeds, tuple(self.generator.sample_shape))
            noise = noise.to(self.device, memory_format=memory_format(self.device))
            options = self.options
            guidance = options.guidance_scale, options.guidance_interval, options.negative_prompt
            rescale = options.guidance_rescale
            return sample(self.generator, condition(), noise, options.solver, options.steps, *guidance, rescale)

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


SMALLEST_SPREAD = 1e-6  # of a denoised image in [-1, 1] that is divided by


def _batch_name(batch: int) -> str:
    return f"batch-{batch:08d}.npy"


def sample(
    generator: Denoiser,
    condition: Condition,
    noise: Tensor,
    solver: str,
    steps: int,
    guidance_scale: float = 1.0,
    guidance_interval: Sequence[float] | None = None,
    negative_prompt: str | None = None,
    guidance_rescale: float = 0.0,
) -> Tensor:
    """Integrate from noise to samples: images, or latents that the generator then decodes.

    noise: (N, C, H, W) float32 of unit variance. steps: noise levels before 0; `heun` evaluates the
    network 2·steps − 1 times, the others `steps` times (guided steps count twice).
    guidance_interval: [low, high] in σ inside which the scale applies; None is everywhere.
    Returns (N, C, H, W) float32.
    """
    sigmas = karras_sigmas(steps, generator.sigma_min, generator.sigma_max)
    guidance = guidance_scale, guidance_interval, negative_prompt, guidance_rescale
    denoise = guided_denoiser(generator, condition, len(noise), *guidance)
    return SOLVERS[solver](denoise, noise * sigmas[0], sigmas)


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """Return `steps` falling noise levels from sigma_max to sigma_min, then 0 (EDM, eq. 5)."""
    if steps == 1:
        return [sigma_max, 0.0]
    start, end = sigma_max ** (1 / RHO), sigma_min ** (1 / RHO)
    inner = [(start + i / (steps - 1) * (end - start)) ** RHO for i in range(1, steps - 1)]
    return [sigma_max, *inner, sigma_min, 0.0]


def guided_denoiser(
    generator: Denoiser,
    condition: Condition,
    count: int,
    scale: float,
    interval: Sequence[float] | None,
    negative_prompt: str | None = None,
    rescale: float = 0.0,
) -> Denoise:
    """Return D(x, σ) with classifier-free guidance: null + w (conditional − null).

    Ho and Salimans 2022 (arXiv 2207.12598), only inside `interval` (Kynkäänniemi et al. 2024,
    arXiv 2404.07724). Where w = 1 or σ lies outside, the null pass is not computed. negative_prompt: a text in place
    of the null one. rescale: share of an image that gets the standard deviation which it has without guidance (Lin et
    al. 2024, arXiv 2305.08891, eq. 15 and 16, on the denoised image).
    """
    low, high = (0.0, math.inf) if interval is None else interval
    told = {} if negative_prompt is None else {"prompt": negative_prompt}
    null = generator.null_condition(count, **told) if scale != 1.0 else None

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = torch.full((count,), sigma, dtype=torch.float32, device=x.device)
        conditional = generator.denoise(x, level, condition)
        if null is None or not low <= sigma <= high:
            return conditional
        unconditional = generator.denoise(x, level, null)
        guided = unconditional + scale * (conditional - unconditional)
        if not rescale:
            return guided
        spread = [image.std(dim=(1, 2, 3), keepdim=True) for image in (conditional, guided)]
        return torch.lerp(guided, guided * spread[0] / spread[1].clamp(min=SMALLEST_SPREAD), rescale)

    return denoise


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Explicit Euler in σ: first order; the same steps as deterministic DDIM."""
    for now, after in pairwise(sigmas):
        x = torch.lerp(denoise(x, now), x, after / now)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Heun's second-order steps, Euler for the last one to σ = 0 (EDM, Algorithm 1)."""
    for now, after in pairwise(sigmas):
        slope = (x - denoise(x, now)) / now
        predicted = x + (after - now) * slope
        if after > 0:
            slope = 0.5 * (slope + (predicted - denoise(predicted, after)) / after)
            predicted = x + (after - now) * slope
        x = predicted
    return x


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """DPM-Solver++(2M), second-order multistep (Lu et al. 2022, arXiv 2211.01095, Algorithm 2).

    Written for α = 1, λ = −ln σ; first and last step are of first order.
    """
    previous: Tensor | None = None
    last_h = 0.0
    for now, after in pairwise(sigmas):
        denoised = denoise(x, now)
        if after == 0:
            return denoised
        h = math.log(now / after)
        slope = 0.0 if previous is None else h / (2 * last_h)
        target = denoised if previous is None else (1 + slope) * denoised - slope * previous
        x = (after / now) * x - math.expm1(-h) * target
        previous, last_h = denoised, h
    return x


def unipc(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """UniPC-2 with B(h) = e^−h − 1 (`bh2`), predicting x0 (Zhao et al. 2023, arXiv 2302.04867).

    Each step's network output corrects the step that led to it, so the corrector costs nothing.
    """
    denoised = denoise(x, sigmas[0])
    previous: Tensor | None = None
    last_h = 0.0
    for now, after in pairwise(sigmas[:-1]):
        h = math.log(now / after)
        growth = math.expm1(-h)
        base = (after / now) * x - growth * denoised
        slope = None if previous is None else (previous - denoised) / (-last_h / h)
        predicted = base if slope is None else base - 0.5 * growth * slope
        ahead = denoise(predicted, after)
        if slope is None:
            x = base - 0.5 * growth * (ahead - denoised)
        else:
            older, newer = _unipc_weights(h, -last_h / h)
            x = base - growth * (older * slope + newer * (ahead - denoised))
        previous, denoised, last_h = denoised, ahead, h
    return denoised  # the step from sigma_min to 0 is of first order: x0 itself


def _unipc_weights(h: float, ratio: float) -> tuple[float, float]:
    """Solve the 2 × 2 system of UniC-2 (eq. 11 there) for the weights of the older and the newer difference."""
    first = math.expm1(-h)
    second = first / -h - 1
    third = second / -h - 0.5
    right = (second / first, 2 * third / first)
    newer = (right[1] - ratio * right[0]) / (1 - ratio)
    return right[0] - newer, newer


SOLVERS: dict[str, Callable[[Denoise, Tensor, Sequence[float]], Tensor]] = {
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
}
