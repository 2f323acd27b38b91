"""Two ways to train one denoiser, behind one interface of noise levels sigma: x = x0 + sigma · noise.

EDM: Karras et al. 2022, Table 1 and Eq. 7-8. Discrete v-prediction: Salimans and Ho 2022, with the cosine schedule of
Nichol and Dhariwal 2021, zero terminal SNR of Lin et al. 2024 and Min-SNR weights of Hang et al. 2023.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from synthgain.entry import checked
from synthgain.generators.diffusion.options import Formulation as Options

# (scaled input (N,C,H,W), time (N,)) -> network output (N,C,H,W)
Network = Callable[[Tensor, Tensor], Tensor]

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # Karras et al. 2022, Table 1, for images in [-1, 1]
ZERO_SNR_SIGMA_MAX = 4096.0  # diffusers caps sigma there (DPMSolver++ with rescaled betas); float32 keeps x0 visible
COSINE_OFFSET = 0.008  # Nichol and Dhariwal 2021, Eq. 17
COSINE_BETA_MAX = 0.999


class Formulation(Protocol):
    """What training and sampling need of a formulation."""

    @property
    def sigma_data(self) -> float: ...

    @property
    def sigma_min(self) -> float: ...

    @property
    def sigma_max(self) -> float: ...

    def denoise(self, network: Network, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Return the estimate of x0 (N,C,H,W) float32 from noisy = x0 + sigma · noise, sigma (N,)."""

    def loss(self, network: Network, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Return the training loss (N,) at noise levels given by level (N,), uniform in (0, 1)."""

    def config(self) -> dict[str, object]:
        """JSON values from which `saved_formulation` makes it again."""


@dataclass(frozen=True)
class Edm:
    """EDM preconditioning: unit variance at the network's input and target at every sigma."""

    sigma_data: float
    p_mean: float = -1.2
    p_std: float = 1.2

    @property
    def sigma_min(self) -> float:
        return SIGMA_MIN

    @property
    def sigma_max(self) -> float:
        return SIGMA_MAX

    def scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return c_skip, c_out, c_in (N,1,1,1) and c_noise (N,) of sigma (N,): Karras et al. 2022, Table 1."""
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out, c_in = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt(), total.rsqrt()
        return _per_image(c_skip), _per_image(c_out), _per_image(c_in), sigma.log() / 4

    def denoise(self, network: Network, noisy: Tensor, sigma: Tensor) -> Tensor:
        c_skip, c_out, c_in, c_noise = self.scalings(sigma)
        return c_skip * noisy + c_out * network(c_in * noisy, c_noise).float()

    def loss(self, network: Network, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        # ln sigma is normal; the weight 1/c_out² leaves a plain squared error on the network's own output (Eq. 8)
        sigma = (self.p_mean + self.p_std * torch.special.ndtri(level)).exp()
        c_skip, c_out, c_in, c_noise = self.scalings(sigma)
        noisy = clean + _per_image(sigma) * noise
        target = (clean - c_skip * noisy) / c_out
        return (network(c_in * noisy, c_noise).float() - target).square().mean(dim=(1, 2, 3))

    def config(self) -> dict[str, object]:
        return {"kind": "edm", "sigma_data": self.sigma_data, "p_mean": self.p_mean, "p_std": self.p_std}


@dataclass(frozen=True)
class VPrediction:
    """Variance-preserving steps z = alpha x0 + s noise; the network gives v = alpha noise − s x0.

    In this interface noisy = z / alpha and sigma = s / alpha. A sigma between two steps is given the time
    between them (interpolated in ln sigma).
    """

    sigma_data: float
    train_steps: int = 1000
    schedule: str = "cosine"
    zero_terminal_snr: bool = True
    min_snr_gamma: float | None = None
    alpha: Tensor = field(init=False, repr=False, compare=False)
    spread: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        alpha = alphas(self.betas(), self.zero_terminal_snr)
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "spread", (1 - alpha**2).sqrt())

    def betas(self) -> Tensor:
        """Return the schedule's beta (train_steps,) float64, before any rescaling."""
        return _SCHEDULES[self.schedule](self.train_steps)

    def sigmas(self) -> Tensor:
        """Return sigma of each step (train_steps,), float64, increasing; an infinite last one is capped."""
        sigmas = self.spread / self.alpha
        if self.zero_terminal_snr:
            sigmas[-1] = max(ZERO_SNR_SIGMA_MAX, 2 * float(sigmas[-2]))
        return sigmas

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas()[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas()[-1])

    def time(self, sigma: Tensor) -> Tensor:
        """Return the step (float, 0 … train_steps − 1) of sigma (N,)."""
        grid = self.sigmas().log().to(sigma.device, torch.float64, non_blocking=True)
        wanted = sigma.double().log().clamp(grid[0], grid[-1])
        right = torch.searchsorted(grid, wanted.contiguous()).clamp(1, len(grid) - 1)
        share = (wanted - grid[right - 1]) / (grid[right] - grid[right - 1])
        return ((right - 1) + share).float()

    def denoise(self, network: Network, noisy: Tensor, sigma: Tensor) -> Tensor:
        alpha = (1 + sigma.double() ** 2).rsqrt()
        spread = _per_image((sigma.double() * alpha).float())
        scale = _per_image(alpha.float())
        scaled = scale * noisy
        return scale * scaled - spread * network(scaled, self.time(sigma)).float()

    def loss(self, network: Network, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        step = (level * self.train_steps).long().clamp(max=self.train_steps - 1)
        alpha, spread = (
            values.to(torch.float32).to(clean.device, non_blocking=True)[step] for values in (self.alpha, self.spread)
        )
        scale, noise_scale = _per_image(alpha), _per_image(spread)
        target = scale * noise - noise_scale * clean
        error = (network(scale * clean + noise_scale * noise, step.float()).float() - target).square()
        loss = error.mean(dim=(1, 2, 3))
        if self.min_snr_gamma is None:
            return loss
        snr = (alpha / spread) ** 2
        return loss * snr.clamp(max=self.min_snr_gamma) / (snr + 1)

    def config(self) -> dict[str, object]:
        return {
            "kind": "v_prediction",
            "sigma_data": self.sigma_data,
            "train_steps": self.train_steps,
            "schedule": self.schedule,
            "zero_terminal_snr": self.zero_terminal_snr,
            "min_snr_gamma": self.min_snr_gamma,
        }


def made_of(options: Options, sigma_data: float) -> Formulation:
    """Return the formulation of a study's options for data of this standard deviation."""
    if options.kind == "edm":
        return Edm(sigma_data, options.p_mean, options.p_std)
    own = options.train_steps, options.schedule, options.zero_terminal_snr, options.min_snr_gamma
    return VPrediction(sigma_data, *own)


def saved_formulation(config: Mapping[str, object]) -> Formulation:
    """Return the formulation whose `config` a manifest holds; SynthGainError where it holds something else."""
    own = {name: value for name, value in config.items() if name != "sigma_data"}
    return made_of(checked(Options, own, "formulation"), float(str(config["sigma_data"])))


def cosine_betas(steps: int) -> Tensor:
    """Return beta (steps,) float64 of the cosine schedule: Nichol and Dhariwal 2021, Eq. 17."""
    position = torch.arange(steps + 1, dtype=torch.float64) / steps
    bar = torch.cos((position + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    return (1 - bar[1:] / bar[:-1]).clamp(max=COSINE_BETA_MAX)


def linear_betas(steps: int) -> Tensor:
    """Return beta (steps,) float64 from 0.0001 to 0.02: Ho et al. 2020, Section 4, for 1000 steps, else scaled."""
    scale = 1000 / steps
    return torch.linspace(1e-4 * scale, min(0.02 * scale, COSINE_BETA_MAX), steps, dtype=torch.float64)


def alphas(betas: Tensor, zero_terminal_snr: bool) -> Tensor:
    """Return alpha = sqrt(cumulative product of 1 − beta) (steps,) float64.

    With `zero_terminal_snr` shifted and scaled so that the last is 0 and the first unchanged
    (Lin et al. 2024, Algorithm 1).
    """
    alpha = (1 - betas).cumprod(0).sqrt()
    if zero_terminal_snr:
        alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return alpha


_SCHEDULES: dict[str, Callable[[int], Tensor]] = {"cosine": cosine_betas, "linear": linear_betas}


def _per_image(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
