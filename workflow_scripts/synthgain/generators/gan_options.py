"""Options of GAN training, checked, and their schedules."""

import math
from dataclasses import dataclass
from typing import Any

from synthgain.generators.options import TrainingOptions, checked_options
from synthgain.runtime.errors import SynthGainError

# Schedules: half a cosine over this share of the steps, then constant, as Huang et al. 2024 (their "burn-in").
BURN_IN_SHARE = 0.5
FIRST_BETA2 = 0.9  # to `beta2`
LAST_LEARNING_RATE = 0.25  # of `learning_rate`: theirs goes from 2e-4 to 5e-5
LAST_GAMMA = 0.1  # of `r1_gamma`
GAMMA_AT_64 = 2.0  # theirs for faces of 64 px; it grows with the number of pixels, whose gradients are summed


@dataclass(frozen=True)
class GanOptions(TrainingOptions):
    """How a GAN is trained; what it shares with diffusion has the same names."""

    learning_rate: float = 2e-4
    gradient_clip: float = 10.0
    r1_gamma: float | None = None  # first weight of both penalties; None: by the image's size
    beta2: float = 0.99  # Adam's, at the end of its schedule
    augmentation_probability: float = 0.6  # of each augmentation for each image

    def burn_in(self, step: int, first: float, last: float) -> float:
        """Return a scheduled value at `step` (from 0)."""
        share = min(1.0, step / max(BURN_IN_SHARE * self.steps, 1))
        return last + (first - last) * (1 + math.cos(math.pi * share)) / 2

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, and the burn-in's fall."""
        return super().learning_rate_at(step) * self.burn_in(step, 1.0, LAST_LEARNING_RATE)

    def beta2_at(self, step: int) -> float:
        """Return Adam's second decay rate: short memory first, while gradients change fast."""
        return self.burn_in(step, FIRST_BETA2, self.beta2)

    def gamma_at(self, step: int, size: int) -> float:
        """Return the penalties' weight for images of `size` px."""
        first = GAMMA_AT_64 * (size / 64) ** 2 if self.r1_gamma is None else self.r1_gamma
        return self.burn_in(step, first, LAST_GAMMA * first)


def gan_options(config: dict[str, Any]) -> GanOptions:
    """Return the options of a slice's `training`; SynthGainError for an unknown key or an impossible value."""
    options = checked_options(config, GanOptions)
    if options.compile:
        raise SynthGainError("training.compile: a gan's gradient penalties cannot be compiled; set it to false")
    if options.r1_gamma is not None and options.r1_gamma < 0:
        raise SynthGainError(f"training.r1_gamma: {options.r1_gamma} must be 0 or above")
    if not 0 <= options.beta2 < 1:
        raise SynthGainError(f"training.beta2: {options.beta2} must be at least 0 and below 1")
    if not 0 <= options.augmentation_probability <= 1:
        raise SynthGainError(f"training.augmentation_probability: {options.augmentation_probability} is not in [0, 1]")
    return options
