"""What the training loop asks of any task, so that one loop trains classifiers and segmenters."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import nn

from synthgain.downstream.rows import Rows

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]  # of validation: logits and targets, on the same device


class TaskLike(Protocol):
    """What cell, training loop and prediction ask of a task. K outputs, one per label.

    targets: (B, K), or (B, K, H, W) where `structures` are learnt; NaN where unknown.
    """

    @property
    def kind(self) -> str:
        """Name of the kind of task, for manifests."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the K outputs."""

    @property
    def metric(self) -> str:
        """Name of the measure, larger is better, that validation reports besides the loss."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Table columns that say what is known of a row."""

    @property
    def structures(self) -> tuple[str, ...]:
        """Mask planes to gather, in this order; none for a classifier."""

    @property
    def chance(self) -> float:
        """Logit that tells nothing: 0 for a classifier, of masks one by which nothing is found."""

    @property
    def window(self) -> int | None:
        """Side in px of what the network sees at a time; None: the whole image."""

    @property
    def prediction_batch(self) -> int:
        """Images that are predicted together."""

    @property
    def wanted(self) -> str:
        """What a row must have to be of use, in words."""

    def truth(self, table: pd.DataFrame) -> np.ndarray:
        """Return (N, K) float32 targets of rows; for a structure 1 where its mask is known. NaN: unknown."""

    def taught(self, table: pd.DataFrame) -> np.ndarray | None:
        """Return (N, K) float32 soft targets that the loss takes in place of `truth`; None where there are none."""

    def check(self, parts: Sequence[Rows], where: str) -> None:
        """Raise SynthGainError where these training rows cannot teach one of the labels."""

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean loss over what is known; weights: (B,)."""

    def validate(self, batches: Batches) -> tuple[float, float]:
        """Return (loss, metric) of all batches; the metric is NaN where undefined."""

    def logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return the network's float32 logits of whole (B, C, H, W) images, without gradients."""
