"""The segmentation task: structures as independent masks, Dice and cross-entropy, scores per image and structure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as functional
from monai.inferers import sliding_window_inference
from monai.losses import DiceLoss
from torch import nn

from synthgain.data.image_set import ImageSet
from synthgain.data.run_lengths import encode_runs
from synthgain.downstream.options import PredictionModel
from synthgain.downstream.prediction import Place, predict_batches
from synthgain.downstream.rows import BatchStore, Rows, mask_store
from synthgain.downstream.tasks import Batches
from synthgain.metrics import mask_scores
from synthgain.networks.options import TaskFacts
from synthgain.runtime.errors import SynthGainError

OVERLAP = 0.25  # of neighbouring windows: MONAI's default
WINDOWS_AT_ONCE = 16  # windows that go through the network together
PREDICTION_BATCH = 64  # images; a batch of masks takes far more memory than one of class scores
SCORES = ("dice", "iou", "nsd", "hd95")
FLOOR_LEVELS = np.arange(1, 20) / 20  # thresholds tried, as shares of the mean mask's maximum
_AT_ONCE = 256  # masks in memory together
_DICE = DiceLoss(sigmoid=True, reduction="none")


@dataclass(frozen=True)
class Segmentation:
    """A segmentation task: `labels` are mask planes, each with an output of its own, so that structures may overlap.

    window: side in px of sliding-window inference and of the random crops in training; None: whole images.
    """

    labels: tuple[str, ...]
    window: int | None = None

    kind: ClassVar[str] = "segmentation"
    metric: ClassVar[str] = "dice"
    prediction_batch: ClassVar[int] = PREDICTION_BATCH
    chance: ClassVar[float] = -30.0  # nothing is found

    @property
    def structures(self) -> tuple[str, ...]:
        """The labels: mask planes to gather."""
        return self.labels

    @property
    def columns(self) -> tuple[str, ...]:
        """Table columns that say which masks a row has."""
        return tuple(f"has_mask_{name}" for name in self.labels)

    @property
    def wanted(self) -> str:
        """What a row must have to be of use, in words."""
        return f"mask of {' or '.join(self.labels)}"

    def truth(self, table: pd.DataFrame) -> np.ndarray:
        """Return (N, K) float32: 1 where the row has a mask of the structure, else NaN."""
        known = [table[name].to_numpy(bool) if name in table else np.zeros(len(table), bool) for name in self.columns]
        return np.where(np.stack(known, axis=1), 1.0, np.nan).astype(np.float32)

    def taught(self, table: pd.DataFrame) -> None:
        """Masks have no soft targets."""

    def check(self, parts: Sequence[Rows], where: str) -> None:
        """Raise SynthGainError where no training row has a mask of a structure, or all of its masks are empty."""
        for k, name in enumerate(self.labels):
            known = [np.flatnonzero(rows.targets[:, k] == 1) for rows in parts]
            if not any(len(chosen) for chosen in known):
                raise SynthGainError(f"{where}: no training image has a mask of {name!r}; leave it out or add masks")
            if not any(_any_foreground(rows.take(chosen), k, where) for rows, chosen in zip(parts, known, strict=True)):
                raise SynthGainError(f"{where}: every training mask of {name!r} is empty; look at the audit's page")

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean over known masks of Dice loss + binary cross-entropy; a batch without any gives 0.

        Of each (image, structure) by itself, which is MONAI's DiceCELoss of one channel: over several, that one takes
        the structures for classes that exclude each other. logits, targets: (B, K, H, W), targets NaN where unknown.
        """
        planes, known = _planes(targets)
        flat = logits.float().flatten(0, 1)[:, None]
        entropy = functional.binary_cross_entropy_with_logits(flat, planes, reduction="none").mean(dim=(1, 2, 3))
        losses = _DICE(flat, planes).flatten() + entropy
        rows = weights.repeat_interleave(targets.shape[1])
        return (losses * rows * known).sum() / known.sum().clamp(min=1)

    def validate(self, batches: Batches) -> tuple[float, float]:
        """Return (loss, Dice): means over all known masks; Dice over those that are not empty."""
        total, overlap = 0.0, 0.0
        count = scored = 0
        for logits, targets in batches:
            _, known = _planes(targets)
            here = int(known.sum())
            total += float(self.loss(logits, targets, torch.ones(len(targets), device=targets.device))) * here
            count += here
            truth, found = targets == 1, logits > 0
            present = truth.any(dim=(2, 3))
            both = (truth & found).sum(dim=(2, 3))
            dice = 2 * both / (truth.sum(dim=(2, 3)) + found.sum(dim=(2, 3))).clamp(min=1)
            overlap += float(dice[present].double().sum())
            scored += int(present.sum())
        return total / max(count, 1), overlap / scored if scored else float("nan")

    def logits(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return (B, K, H, W) float32 logits, by overlapping windows where the task has a window."""
        if self.window is None:
            whole: torch.Tensor = network(images).float()
            return whole
        joined = sliding_window_inference(
            images, self.window, WINDOWS_AT_ONCE, lambda part: network(part).float(), OVERLAP, mode="gaussian"
        )
        assert isinstance(joined, torch.Tensor)  # one output, since the network has one
        return joined


def new_task(model: PredictionModel, images: ImageSet, where: str) -> Segmentation:
    """Return the task of a model's slice on a data set; SynthGainError where it has no such mask plane."""
    missing = [name for name in model.structures if name not in images.mask_names]
    if missing:
        known = f"its masks are {', '.join(images.mask_names)}" if images.mask_names else "it has no masks"
        raise SynthGainError(f"{where}: no mask {missing[0]!r} in the data set; {known}")
    window, side = model.window, min(images.images.shape[1:3])
    if window is not None and window > side:
        raise SynthGainError(f"{where}: window {window} is larger than the images of {side} px; take null or less")
    return Segmentation(tuple(model.structures), window)


def trained_task(model: PredictionModel, facts: TaskFacts) -> Segmentation:
    """Return the task of a trained model; facts: `task` of its replicate in the manifest."""
    return Segmentation(facts.labels, model.window)


def lacks(model: PredictionModel, images: ImageSet) -> str | None:
    """Return what a data set lacks to test this model on it, in words; None where it serves."""
    if images.masks is not None and set(model.structures) & set(images.mask_names):
        return None
    return f"no mask of {', '.join(model.structures)}; declare its masks"


def predictions(
    network: nn.Module, task: Segmentation, rows: Rows, table: pd.DataFrame, model: PredictionModel, place: Place
) -> pd.DataFrame:
    """Return one row per image of `rows` and structure whose mask is known; see `mask_table`."""
    store, masks = BatchStore([rows], place.where), mask_store([rows], place.where)
    network.eval()
    forward = lambda images: task.logits(network, images)  # noqa: E731
    batches = predict_batches(forward, store, place.device, model.precision, PREDICTION_BATCH)
    predicted = ((logits > 0).permute(0, 2, 3, 1).cpu().numpy() for logits in batches)
    return mask_table(predicted, masks, rows, task.labels, place, model.tolerance, model.keep_masks)


def mask_table(
    predicted: Iterable[np.ndarray],
    masks: BatchStore,
    rows: Rows,
    labels: Sequence[str],
    place: Place,
    tolerance: float,
    keep_masks: bool,
) -> pd.DataFrame:
    """Return one row per image and structure whose mask is known, image by image.

    predicted: batches of (B, H, W, K) bool in the order of `rows`; masks: the true ones of the same rows.
    Columns: ratio, replicate, dataset, part, image_id, patient_id, label (the structure), truth (1 where it is
    present, else 0), score (Dice), SCORES by the rules of `mask_scores`, truth_empty, predicted_empty (bool), and with
    keep_masks `mask_rle` (`encode_runs`). Raises SynthGainError where no image has a mask of any structure.
    """
    found: list[dict[str, object]] = []
    first = 0
    for batch in predicted:
        truth = masks.gather(np.arange(first, first + len(batch)))
        for offset, (true_planes, planes) in enumerate(zip(truth, batch, strict=True)):
            row = first + offset
            for k in np.flatnonzero(rows.targets[row] == 1):
                scores = _row(true_planes[..., k], planes[..., k], tolerance, keep_masks)
                found.append({"row": row, "label": labels[int(k)], **scores})
        first += len(batch)
    if not found:
        raise SynthGainError(
            f"datasets.{place.dataset}: no image of its {place.part} part has a mask of {', '.join(labels)}; "
            "add masks or leave it out of evaluate_on"
        )
    table = pd.DataFrame(found)
    order = table.pop("row").to_numpy()
    head = {
        "ratio": np.int64(place.ratio),
        "replicate": np.int64(place.replicate),
        "dataset": place.dataset,
        "part": place.part,
        "image_id": rows.image_ids[order],
        "patient_id": rows.patients[order],
    }
    for position, (name, values) in enumerate(head.items()):
        table.insert(position, name, values)
    return table.astype(dict.fromkeys(("truth", "score", *SCORES), np.float32))


def _row(truth: np.ndarray, predicted: np.ndarray, tolerance: float, keep_masks: bool) -> dict[str, object]:
    scores = mask_scores(truth, predicted, tolerance)
    present, drawn = bool(truth.any()), bool(predicted.any())
    row: dict[str, object] = {"truth": float(present), "score": scores["dice"], **scores}
    row |= {"truth_empty": not present, "predicted_empty": not drawn}
    return row | {"mask_rle": encode_runs(predicted)} if keep_masks else row


def floor_masks(training: Rows, validation: Rows, where: str) -> dict[str, np.ndarray]:
    """Return segmentations that look at no image, {floor: (H, W, K) bool}: what a Dice must beat to mean anything.

    `all_foreground`, and `mean_mask`, the training masks' mean cut at a threshold: for each structure that with the
    highest mean Dice over the validation masks that are not empty. Raises SynthGainError where a structure has no
    such mask.
    """
    mean = mean_masks(training, where)
    cut = [mean[..., k] > _best_level(mean[..., k], validation, k, where) for k in range(mean.shape[-1])]
    return {"all_foreground": np.ones(mean.shape, dtype=bool), "mean_mask": np.stack(cut, axis=-1)}


def mean_masks(rows: Rows, where: str) -> np.ndarray:
    """Return the (H, W, K) float64 mean of the masks of these rows, each structure over the rows that have it."""
    sums = [(masks * known[:, None, None, :]).sum(axis=0, dtype=np.float64) for masks, known in _batches(rows, where)]
    count = (rows.targets == 1).sum(axis=0)
    return np.asarray(np.sum(sums, axis=0) / np.maximum(count, 1))


def _best_level(mean: np.ndarray, validation: Rows, k: int, where: str) -> float:
    candidates = FLOOR_LEVELS * mean.max()
    drawn = (mean[..., None] > candidates).reshape(-1, len(FLOOR_LEVELS))
    size = drawn.sum(axis=0)
    total, count = np.zeros(len(FLOOR_LEVELS)), 0
    for masks, known in _batches(validation, where):
        truth = masks[known[:, k], :, :, k].reshape(-1, drawn.shape[0])
        truth = truth[truth.any(axis=1)].astype(np.float32)
        overlap = truth @ drawn.astype(np.float32)
        total += (2 * overlap / (truth.sum(axis=1, keepdims=True) + size)).sum(axis=0)
        count += len(truth)
    if count == 0:
        raise SynthGainError(
            f"{where}: no validation mask that is not empty; give the split a validation part with masks"
        )
    return float(candidates[np.argmax(total)])


def _batches(rows: Rows, where: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (n, H, W, K) uint8 masks and (n, K) bool, which of them are known."""
    store = mask_store([rows], where)
    for start in range(0, len(store), _AT_ONCE):
        chosen = np.arange(start, min(start + _AT_ONCE, len(store)))
        yield store.gather(chosen), rows.targets[chosen] == 1


def _planes(targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ((B·K, 1, H, W) masks with zeros where unknown, (B·K,) bool known) of (B, K, H, W) targets."""
    flat = targets.flatten(0, 1)[:, None]
    known = ~flat[:, 0, 0, 0].isnan()
    return torch.nan_to_num(flat, nan=0.0), known


def _any_foreground(rows: Rows, k: int, where: str) -> bool:
    """True at the first of the rows whose mask of structure `k` is not empty."""
    masks = mask_store([rows], where) if len(rows) else None
    return masks is not None and any(masks.gather(np.array([row]))[..., k].any() for row in range(len(rows)))
