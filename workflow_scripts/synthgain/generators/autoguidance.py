"""Guidance by an earlier, weaker state of the same generator (Karras et al. 2024, arXiv 2406.02507)."""

from collections.abc import Sequence
from typing import cast

import pandas as pd
from torch import Tensor

from synthgain.generators.loading import Condition, Denoiser

WEAK = "weak_"  # before the names of the weaker generator's conditions: its encoders are its own


class Autoguided:
    """A denoiser that is led away from what a weaker one would draw: weak + scale · (strong − weak).

    Both see the same conditions, so that errors are corrected and not, as by a null condition, the diversity. At scale
    1, and outside `interval` ([lowest, highest] sigma, None: everywhere), it is the stronger one alone. Everything
    else is the stronger one's.
    """

    def __init__(self, strong: Denoiser, weak: Denoiser, scale: float, interval: Sequence[float] | None = None) -> None:
        self.strong, self.weak, self.scale, self.interval = strong, weak, scale, interval

    def __getattr__(self, name: str) -> object:
        return getattr(self.strong, name)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Return the expected clean sample (N, C, H, W) float32 of x = x0 + sigma · noise, sigma (N,), all equal."""
        own = {name: value for name, value in condition.items() if not name.startswith(WEAK)}
        strong = self.strong.denoise(x, sigma, own)
        if self.interval is not None and not self.interval[0] <= float(sigma[0]) <= self.interval[1]:
            return strong
        told = {name.removeprefix(WEAK): value for name, value in condition.items() if name.startswith(WEAK)}
        weak = self.weak.denoise(x, sigma, told)
        return weak + self.scale * (strong - weak)

    def encode_conditions(self, table: pd.DataFrame, masks: Tensor | None = None) -> Condition:
        """Return the condition of each row, as both encode it."""
        return _joined(self.strong.encode_conditions(table, masks), self.weak.encode_conditions(table, masks))

    def null_condition(self, n: int, prompt: str | None = None) -> Condition:
        """Return the condition of `n` samples of which nothing is known, as both encode it."""
        return _joined(self.strong.null_condition(n, prompt), self.weak.null_condition(n, prompt))

    def record(self) -> None:
        """Replay both networks from now on as CUDA graphs."""
        self.strong.record()
        self.weak.record()


def autoguided(strong: Denoiser, weak: Denoiser, scale: float, interval: Sequence[float] | None = None) -> Denoiser:
    """Return a denoiser that is led away from a weaker one."""
    return cast(Denoiser, Autoguided(strong, weak, scale, interval))


def _joined(strong: Condition, weak: Condition) -> Condition:
    return strong | {f"{WEAK}{name}": value for name, value in weak.items()}
