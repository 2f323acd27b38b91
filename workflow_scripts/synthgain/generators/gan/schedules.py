"""What changes in the course of a GAN's training: learning rate, second decay of Adam, weight of the penalties."""

import math

from synthgain.generators.gan.options import GanTraining
from synthgain.generators.run import warmed_up

# Schedules: half a cosine over this share of the steps, then constant, as Huang et al. 2024 (their "burn-in").
BURN_IN_SHARE = 0.5
FIRST_BETA2 = 0.9  # to `beta2`
LAST_LEARNING_RATE = 0.25  # of `learning_rate`: theirs goes from 2e-4 to 5e-5
LAST_GAMMA = 0.1  # of `r1_gamma`
GAMMA_AT_64 = 2.0  # theirs for faces of 64 px; it grows with the number of pixels, whose gradients are summed


def burn_in(options: GanTraining, step: int, first: float, last: float) -> float:
    """Return a scheduled value at `step` (from 0)."""
    share = min(1.0, step / max(BURN_IN_SHARE * options.steps, 1))
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def learning_rate_at(options: GanTraining, step: int) -> float:
    """Linear warm-up, and the burn-in's fall."""
    return warmed_up(options, step) * burn_in(options, step, 1.0, LAST_LEARNING_RATE)


def beta2_at(options: GanTraining, step: int) -> float:
    """Return Adam's second decay rate: short memory first, while gradients change fast."""
    return burn_in(options, step, FIRST_BETA2, options.beta2)


def gamma_at(options: GanTraining, step: int, size: int) -> float:
    """Return the penalties' weight for images of `size` px."""
    first = GAMMA_AT_64 * (size / 64) ** 2 if options.r1_gamma is None else options.r1_gamma
    return burn_in(options, step, first, LAST_GAMMA * first)
