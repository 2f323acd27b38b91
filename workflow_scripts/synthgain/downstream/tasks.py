"""What a classifier predicts: binary, multi-label or multi-class; targets, loss, scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as functional

from synthgain.errors import SynthGainError

Kind = Literal["binary", "multi-label", "multi-class"]


@dataclass(frozen=True)
class Task:
    """A classification task: `targets` are table columns, `labels` the K outputs (levels where multi-class)."""

    kind: Kind
    targets: tuple[str, ...]
    labels: tuple[str, ...]


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
