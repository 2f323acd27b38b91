"""Optimisers of downstream models by name, and the running average of their weights."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from synthgain.downstream.options import TrainingModel


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2): the sign of an interpolated momentum is the step."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in (one for one in group["params"] if one.grad is not None):
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                direction = torch.lerp(weight.grad, momentum, first).sign_()
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
                momentum.lerp_(weight.grad, 1 - second)


def _adamw(network: nn.Module, recipe: TrainingModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )


def _lion(network: nn.Module, recipe: TrainingModel) -> torch.optim.Optimizer:
    return Lion(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


OPTIMISERS: Mapping[str, Callable[[nn.Module, TrainingModel], torch.optim.Optimizer]] = {"adamw": _adamw, "lion": _lion}


class Average:
    """A copy of a network whose weights are the exponential average of those of its steps.

    The decay of step n is at most (1 + n) / (10 + n), so that the first weights are soon forgotten. Running
    statistics (buffers) are those of the last step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after step `step` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for own, new in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(new)

    def state(self) -> dict[str, Any]:
        """Return what a saved training needs of it."""
        return {name: value.contiguous() for name, value in self.network.state_dict().items()}
