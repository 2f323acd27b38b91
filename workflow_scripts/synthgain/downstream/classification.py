"""The classification task: binary, multi-label or multi-class; targets, loss, balance, scores and their long table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as functional
from torch import nn

from synthgain.data.image_set import Columns, ImageSet
from synthgain.data.votes import votes_of
from synthgain.downstream.options import PredictionModel
from synthgain.downstream.prediction import PREDICTION_BATCH, Place, predict_logits
from synthgain.downstream.rows import BatchStore, Rows
from synthgain.downstream.tasks import Batches
from synthgain.metrics import macro_auroc
from synthgain.networks.options import TaskFacts
from synthgain.runtime.errors import SynthGainError

Kind = Literal["binary", "multi-label", "multi-class"]
RAKING_ROUNDS = 1000
RAKING_TOLERANCE = 1e-6
PREDICTION_COLUMNS = (
    "ratio",
    "replicate",
    "dataset",
    "part",
    "image_id",
    "patient_id",
    "label",
    "truth",
    "score",
)


@dataclass(frozen=True)
class Task:
    """A classification task: `targets` are table columns, `labels` the K outputs (levels where multi-class)."""

    kind: Kind
    targets: tuple[str, ...]
    labels: tuple[str, ...]
    smoothing: float = 0.0  # of the targets in training
    soft: bool = False  # the loss takes the readers' shares

    metric: ClassVar[str] = "auroc"
    structures: ClassVar[tuple[str, ...]] = ()
    window: ClassVar[int | None] = None
    chance: ClassVar[float] = 0.0
    prediction_batch: ClassVar[int] = PREDICTION_BATCH

    @property
    def columns(self) -> tuple[str, ...]:
        """Table columns that hold the targets, and their readers' shares where these are learnt."""
        return (*self.targets, *(votes_of(name) for name in self.targets if self.soft))

    @property
    def wanted(self) -> str:
        """What a row must have to be of use, in words."""
        return f"known {' or '.join(self.targets)}"

    def truth(self, table: pd.DataFrame) -> np.ndarray:
        """Return `target_matrix` of the table."""
        return target_matrix(self, table)

    def taught(self, table: pd.DataFrame) -> np.ndarray | None:
        """Return `soft_matrix` of the table, None where the labels are learnt as they are."""
        return soft_matrix(self, table) if self.soft else None

    def check(self, parts: Sequence[Rows], where: str) -> None:
        """Raise SynthGainError where a label has one class only among the training rows."""
        require_every_class(self, np.concatenate([rows.targets for rows in parts]), where)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return `masked_loss` of the smoothed targets (Szegedy et al. 2016); unknown ones stay so."""
        classes = len(self.labels) if self.kind == "multi-class" else 2
        if self.smoothing:
            targets = targets + self.smoothing * (1 / classes - targets)
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


def task_of(targets: list[str], columns: Columns, where: str) -> Task:
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


def soft_matrix(task: Task, table: pd.DataFrame) -> np.ndarray:
    """Return (N, K) float32 in 0 … 1: the share of readers where known, else the label; NaN where unknown.

    Raises SynthGainError for a share outside 0 … 1.
    """
    truth = target_matrix(task, table)
    for place, name in enumerate(votes_of(target) for target in task.targets):
        if name not in table:
            continue
        share = table[name].to_numpy(np.float32, na_value=np.nan)
        known = ~np.isnan(share) & ~np.isnan(truth[:, place])
        if ((share[known] < 0) | (share[known] > 1)).any():
            raise SynthGainError(f"column {name!r} holds {share[known].max():g}; a share of readers lies in 0 to 1")
        truth[known, place] = share[known]
    return truth


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


def new_task(model: PredictionModel, images: ImageSet, where: str) -> Task:
    """Return the task of a model's slice on a data set; SynthGainError where they do not fit."""
    task = task_of(model.targets, images.columns, where)
    if model.soft_targets and task.kind == "multi-class":
        raise SynthGainError(f"{where}: soft_targets: {task.targets[0]!r} is a category; votes are of binary labels")
    if model.soft_targets and not any(votes_of(name) in images.table for name in model.targets):
        wanted = votes_of(model.targets[0])
        raise SynthGainError(f"{where}: soft_targets: no column {wanted!r}; vindr_cxr has it with votes: soft")
    return replace(task, smoothing=model.label_smoothing, soft=model.soft_targets)


def trained_task(model: PredictionModel, facts: TaskFacts) -> Task:
    """Return the task of a trained model; facts: `task` of its replicate in the manifest."""
    return Task(cast(Kind, facts.kind), tuple(model.targets), facts.labels)


def lacks(model: PredictionModel, images: ImageSet) -> str | None:
    """Return what a data set lacks to test this model on it, in words; None where it serves."""
    if set(model.targets) & set(images.table.columns):
        return None
    return f"none of the targets {', '.join(model.targets)}; map them in its table"


def predictions(
    network: nn.Module, task: Task, rows: Rows, table: pd.DataFrame, model: PredictionModel, place: Place
) -> pd.DataFrame:
    """Return the long table of predictions on `rows`, whose rows of the data set's table are `table`."""
    store = BatchStore([rows], place.where)
    logits = predict_logits(network, store, place.device, model.precision)
    return prediction_table(task, table, logits, place.dataset, place.part, place.ratio, place.replicate)


def prediction_table(
    task: Task, table: pd.DataFrame, logits: torch.Tensor, dataset: str, part: str, ratio: int, replicate: int
) -> pd.DataFrame:
    """Return N × K rows of PREDICTION_COLUMNS: image by image, label by label.

    `truth` is float32 in {0, 1} or NaN, `score` a probability, float32; `part` is validation or test.
    Raises SynthGainError where a score is not finite.
    """
    scores = probabilities(task, logits).numpy()
    if not np.isfinite(scores).all():
        raise SynthGainError(f"predictions on {dataset}, replicate {replicate}: a score is not finite; train again")
    count = len(task.labels)
    columns = {
        "ratio": np.full(len(table) * count, ratio, dtype=np.int64),
        "replicate": np.full(len(table) * count, replicate, dtype=np.int64),
        "dataset": dataset,
        "part": part,
        "image_id": np.repeat(table["image_id"].astype(str).to_numpy(dtype=object), count),
        "patient_id": np.repeat(table["patient_id"].astype(str).to_numpy(dtype=object), count),
        "label": np.tile(np.array(task.labels, dtype=object), len(table)),
        "truth": target_matrix(task, table).reshape(-1),
        "score": scores.reshape(-1).astype(np.float32),
    }
    return pd.DataFrame(columns)[list(PREDICTION_COLUMNS)]


def balance_weights(task: Task, targets: np.ndarray, shares: Mapping[str, float], where: str) -> np.ndarray:
    """Return (N,) float64 weights of mean 1 under which each label named in `shares` has that share of its known rows.

    Iterative proportional fitting (Deming and Stephan 1940) from equal weights. Rows whose label is unknown
    keep their weight in that label's turn. Raises SynthGainError for an unknown label, a share outside
    (0, 1), or targets that cannot be met together; `where` opens its line.
    """
    _check_shares(task, shares, where)
    weights = np.ones(len(targets))
    columns = {label: targets[:, task.labels.index(label)] for label in shares}
    for _ in range(RAKING_ROUNDS):
        worst = 0.0
        for label, column in columns.items():
            positive, negative = column == 1, column == 0
            one, zero = weights[positive].sum(), weights[negative].sum()
            if one == 0 or zero == 0:
                raise SynthGainError(f"{where}: balance {label}: the training images have one class only")
            worst = max(worst, abs(one / (one + zero) - shares[label]))
            weights[positive] *= shares[label] * (one + zero) / one
            weights[negative] *= (1 - shares[label]) * (one + zero) / zero
        if worst < RAKING_TOLERANCE:
            return weights / weights.mean()
    raise SynthGainError(
        f"{where}: balance targets {dict(shares)} cannot be met together (off by {worst:.3f}); relax one of them"
    )


def _check_shares(task: Task, shares: Mapping[str, float], where: str) -> None:
    for label, share in shares.items():
        if label not in task.labels:
            raise SynthGainError(f"{where}: balance names {label!r}; the model's labels are {', '.join(task.labels)}")
        if not 0 < share < 1:
            raise SynthGainError(f"{where}: balance {label}: share {share} must lie between 0 and 1")
    if task.kind == "multi-class":
        total, all_named = sum(shares.values()), len(shares) == len(task.labels)
        if total > 1 + RAKING_TOLERANCE or (all_named and abs(total - 1) > RAKING_TOLERANCE):
            raise SynthGainError(f"{where}: balance shares of one column add up to {total:g}; they must make 1")
