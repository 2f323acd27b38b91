"""Solvers of the probability-flow ODE dx/dσ = (x − D(x; σ)) / σ, by name, over Karras' noise levels.

A generator is anything with `denoise(x, sigma, condition) -> x0`, `null_condition(n)`, `sigma_min` and
`sigma_max`. Noise levels are σ of the variance-exploding form (EDM: Karras et al. 2022, arXiv 2206.00364).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from synthgain.generators.loading import Condition, Denoiser

RHO = 7.0  # EDM, Table 1

Denoise = Callable[[Tensor, float], Tensor]  # (x, sigma) -> the expected clean image


def sample(
    generator: Denoiser,
    condition: Condition,
    noise: Tensor,
    solver: str,
    steps: int,
    guidance_scale: float = 1.0,
    guidance_interval: Sequence[float] | None = None,
) -> Tensor:
    """Integrate from noise to images.

    noise: (N, C, H, W) float32 of unit variance. steps: noise levels before 0; `heun` evaluates the
    network 2·steps − 1 times, the others `steps` times (guided steps count twice).
    guidance_interval: [low, high] in σ inside which the scale applies; None is everywhere.
    Returns (N, C, H, W) float32.
    """
    sigmas = karras_sigmas(steps, generator.sigma_min, generator.sigma_max)
    denoise = guided_denoiser(generator, condition, len(noise), guidance_scale, guidance_interval)
    return SOLVERS[solver](denoise, noise * sigmas[0], sigmas)


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """Return `steps` falling noise levels from sigma_max to sigma_min, then 0 (EDM, eq. 5)."""
    if steps == 1:
        return [sigma_max, 0.0]
    start, end = sigma_max ** (1 / RHO), sigma_min ** (1 / RHO)
    inner = [(start + i / (steps - 1) * (end - start)) ** RHO for i in range(1, steps - 1)]
    return [sigma_max, *inner, sigma_min, 0.0]


def guided_denoiser(
    generator: Denoiser, condition: Condition, count: int, scale: float, interval: Sequence[float] | None
) -> Denoise:
    """Return D(x, σ) with classifier-free guidance: null + w (conditional − null).

    Ho and Salimans 2022 (arXiv 2207.12598), only inside `interval` (Kynkäänniemi et al. 2024,
    arXiv 2404.07724). Where w = 1 or σ lies outside, the null pass is not computed.
    """
    low, high = (0.0, math.inf) if interval is None else interval
    null = generator.null_condition(count) if scale != 1.0 else None

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = torch.full((count,), sigma, dtype=torch.float32, device=x.device)
        conditional = generator.denoise(x, level, condition)
        if null is None or not low <= sigma <= high:
            return conditional
        unconditional = generator.denoise(x, level, null)
        return unconditional + scale * (conditional - unconditional)

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
