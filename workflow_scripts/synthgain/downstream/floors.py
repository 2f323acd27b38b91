"""Segmentations that look at no image: what a Dice must beat to mean anything."""

from collections.abc import Iterator

import numpy as np

from synthgain.downstream.arms import Rows
from synthgain.downstream.training_set import mask_store
from synthgain.runtime.errors import SynthGainError

LEVELS = np.arange(1, 20) / 20  # thresholds tried, as shares of the mean mask's maximum
_AT_ONCE = 256  # masks in memory together


def floor_masks(training: Rows, validation: Rows, where: str) -> dict[str, np.ndarray]:
    """Return {floor: (H, W, K) bool}: `all_foreground`, and `mean_mask`, the training masks' mean cut at a threshold.

    The threshold of each structure has the highest mean Dice over the validation masks that are not empty. Raises
    SynthGainError where a structure has no such mask.
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
    candidates = LEVELS * mean.max()
    drawn = (mean[..., None] > candidates).reshape(-1, len(LEVELS))
    size = drawn.sum(axis=0)
    total, count = np.zeros(len(LEVELS)), 0
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
