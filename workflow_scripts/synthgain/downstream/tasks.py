"""What a classifier predicts: binary, multi-label or multi-class; targets, loss, scores.

Beside it stands what the training loop asks of any task, so that one loop trains classifiers and segmenters.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as functional
from torch import nn

from synthgain.metrics import macro_auroc
from synthgain.runtime.errors import SynthGainError

if TYPE_CHECKING:
    from synthgain.downstream.arms import Rows

Kind = Literal["binary", "multi-label", "multi-class"]
PREDICTION_BATCH = 256  # images; fixed, since the sums inside a convolution may depend on it


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
        """Name of the measure, larger is better, that validation reports beside the loss."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Table columns that say what is known of a row."""

    @property
    def structures(self) -> tuple[str, ...]:
        """Mask planes to gather, in this order; none for a classifier."""

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

    def check(self, parts: "Sequence[Rows]", where: str) -> None:
        """Raise SynthGainError where these training rows cannot teach one of the labels."""

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean loss over what is known; weights: (B,)."""

    def validate(self, batches: Batches) -> tuple[float, float]:
        """Return (loss, metric) of all batches; the metric is NaN where undefined."""

    def logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return the network's float32 logits of whole (B, C, H, W) images, without gradients."""


@dataclass(frozen=True)
class Task:
    """A classification task: `targets` are table columns, `labels` the K outputs (levels where multi-class)."""

    kind: Kind
    targets: tuple[str, ...]
    labels: tuple[str, ...]

    metric: ClassVar[str] = "auroc"
    structures: ClassVar[tuple[str, ...]] = ()
    window: ClassVar[int | None] = None
    prediction_batch: ClassVar[int] = PREDICTION_BATCH

    @property
    def columns(self) -> tuple[str, ...]:
        """Table columns that hold the targets."""
        return self.targets

    @property
    def wanted(self) -> str:
        """What a row must have to be of use, in words."""
        return f"known {' or '.join(self.targets)}"

    def truth(self, table: pd.DataFrame) -> np.ndarray:
        """Return `target_matrix` of the table."""
        return target_matrix(self, table)

    def check(self, parts: "Sequence[Rows]", where: str) -> None:
        """Raise SynthGainError where a label has one class only among the training rows."""
        require_every_class(self, np.concatenate([rows.targets for rows in parts]), where)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return `masked_loss`."""
        return masked_loss(self, logits, targets, weights)

    def validate(self, batches: Batches) -> tuple[float, float]:
        """Return (loss, macro AUROC) over all validation images."""
        parts = [(logits.cpu(), targets.cpu()) for logits, targets in batches]
        logits, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        loss = float(masked_loss(self, logits, targets, torch.ones(len(targets))))
        return loss, macro_auroc(targets.numpy(), probabilities(self, logits).numpy())

    def logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return (B, K) float32 logits."""
        found: torch.Tensor = network(images).float()
        return found


def task_of(targets: list[str], columns: Mapping[str, Mapping[str, Any]], where: str) -> Task:
    """Derive the task from the kinds of the target columns of an image set.

    One or several binary columns give a binary or multi-label task, one category column a multi-class one.
    Raises SynthGainError for an unknown column or another mix; `where` opens its line.
    """
    unknown = [name for name in targets if name not in columns]
    if unknown:
        raise SynthGainError(f"{where}: no column {unknown[0]!r} in the data set; columns are {', '.join(columns)}")
    kinds = {columns[name]["kind"] for name in targets}
    if kinds == {"binary"}:
        return Task("binary" if len(targets) == 1 else "multi-label", tuple(targets), tuple(targets))
    if kinds == {"category"} and len(targets) == 1:
        levels = tuple(str(level) for level in columns[targets[0]]["levels"])
        if len(levels) < 2:
            raise SynthGainError(f"{where}: column {targets[0]!r} has {len(levels)} level; a classifier needs two")
        return Task("multi-class", tuple(targets), levels)
    raise SynthGainError(
        f"{where}: targets {', '.join(targets)} are {', '.join(sorted(kinds))}; "
        "give binary columns only, or one category column"
    )


def target_matrix(task: Task, table: pd.DataFrame) -> np.ndarray:
    """Return (N, K) float32 in {0, 1}, NaN where unknown (multi-class: a whole row; a level never trained on too).

    A target column that `table` lacks is unknown throughout.
    """
    if task.kind == "multi-class":
        if task.targets[0] not in table:
            return np.full((len(table), len(task.labels)), np.nan, dtype=np.float32)
        values = table[task.targets[0]]
        codes = pd.Categorical(values.astype("str").where(values.notna()), categories=list(task.labels)).codes
        matrix = np.eye(len(task.labels), dtype=np.float32)[codes]
        matrix[codes < 0] = np.nan
        return matrix
    unknown = np.full(len(table), np.nan, dtype=np.float32)
    columns = [table[n].to_numpy(np.float32, na_value=np.nan) if n in table else unknown for n in task.targets]
    return np.stack(columns, axis=1).astype(np.float32)


def require_every_class(task: Task, targets: np.ndarray, where: str) -> None:
    """Raise SynthGainError where a label has no positive, or (not multi-class) no negative training image."""
    for label, column in zip(task.labels, targets.T, strict=True):
        if not (column == 1).any():
            raise SynthGainError(f"{where}: no training image has {label!r}; leave it out or add images that do")
        if task.kind != "multi-class" and not (column == 0).any():
            raise SynthGainError(f"{where}: every training image has {label!r}; leave it out or add images without")


def masked_loss(task: Task, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean loss, a float32 scalar, over known entries; a batch without any gives 0.

    Cross-entropy for multi-class (soft targets allowed), else binary cross-entropy per label. logits and
    targets: (B, K), targets NaN where unknown; weights: (B,) row weights with mean 1 over the training set.
    """
    known = ~targets.isnan()
    safe = torch.where(known, targets, 0.0)
    logits = logits.float()
    if task.kind == "multi-class":
        rows = known.all(dim=1)
        losses = -(safe * functional.log_softmax(logits, dim=1)).sum(dim=1)
        return (losses * weights * rows).sum() / rows.sum().clamp(min=1)
    losses = functional.binary_cross_entropy_with_logits(logits, safe, reduction="none")
    return (losses * weights[:, None] * known).sum() / known.sum().clamp(min=1)


def probabilities(task: Task, logits: torch.Tensor) -> torch.Tensor:
    """Return (N, K) float32 probabilities: softmax for multi-class, else a sigmoid per label."""
    return torch.softmax(logits.float(), dim=1) if task.kind == "multi-class" else torch.sigmoid(logits.float())
