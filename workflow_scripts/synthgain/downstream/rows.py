"""Rows of images in an arm's order, and the stores from which batches of them are gathered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from synthgain.data.batch_order import copy_keys, row_keys
from synthgain.data.image_set import ImageStore, Planes, Stored
from synthgain.data.pixels import fits, to_batch
from synthgain.runtime.errors import SynthGainError

_AT_ONCE = 4096  # images that are copied to a GPU together


@dataclass(frozen=True)
class Rows:
    """Rows of one source of images in an arm's order.

    arrays: uint8 (n, H, W, C) each, as if joined; positions: (N,) int64 rows of the joined arrays;
    image_ids: (N,) str; source_ids: (N,) str, the real row behind each image (own id where there is none);
    patients: (N,) str; copies: (N,) int64, 0 for real images, k for repeat or replica k;
    targets: (N, K) float32, NaN where unknown (of a structure: 1 where its mask is known);
    taught: (N, K) float32, what the loss takes in their place in training; None: the targets;
    planes: the masks of each array, none for a classifier.
    """

    arrays: Sequence[Stored]
    positions: np.ndarray
    image_ids: np.ndarray
    source_ids: np.ndarray
    patients: np.ndarray
    copies: np.ndarray
    targets: np.ndarray
    planes: Sequence[Planes] = ()
    taught: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, chosen: np.ndarray) -> "Rows":
        """Return the rows `chosen` (int64 positions or a bool mask), in that order."""
        names = ("positions", "image_ids", "source_ids", "patients", "copies", "targets")
        taught = None if self.taught is None else self.taught[chosen]
        return replace(self, **{name: getattr(self, name)[chosen] for name in names}, taught=taught)

    def labelled(self) -> "Rows":
        """Return the rows of which at least one target or mask is known: the others cannot teach anything."""
        return self.take(~np.isnan(self.targets).all(axis=1))

    def keys(self, seed: int) -> np.ndarray:
        """Return the (N,) uint64 hashes that order the rows in replicate `seed`."""
        return copy_keys(row_keys(self.source_ids), self.copies, seed)


class BatchStore(ImageStore):
    """Images of rows of several sources, in that order; wholly on the GPU where they fit."""

    def __init__(self, parts: Sequence[Rows], where: str) -> None:
        edges = np.cumsum([0, *(sum(len(array) for array in rows.arrays) for rows in parts)])
        positions = [rows.positions + start for rows, start in zip(parts, edges[:-1], strict=True)]
        super().__init__([array for rows in parts for array in rows.arrays], np.concatenate(positions), where)
        self._resident: torch.Tensor | None = None

    def to_device(self, device: torch.device) -> None:
        """Put all images on a GPU as uint8 if they fit well."""
        if device.type == "cuda" and fits(device, len(self) * int(np.prod(self.shape))):
            resident = torch.empty((len(self), *self.shape), dtype=torch.uint8, device=device)
            for start in range(0, len(self), _AT_ONCE):
                rows = np.arange(start, min(start + _AT_ONCE, len(self)))
                resident[start : start + len(rows)] = torch.from_numpy(self.gather(rows)).to(device)
            self._resident = resident

    def raw(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        """Return images `rows` on the device as (B, H, W, C) uint8."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(device, non_blocking=True)]
        images = torch.from_numpy(self.gather(rows))
        return images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images

    def batch(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        """Return images `rows` on the device as (B, C, H, W) float32 in [-1, 1]."""
        return to_batch(self.raw(rows, device))


def mask_store(parts: Sequence[Rows], where: str) -> BatchStore:
    """Return the masks of these rows as a store of (H, W, K) uint8; SynthGainError where some have none."""
    if any(len(rows.planes) != len(rows.arrays) for rows in parts):
        raise SynthGainError(f"{where}: images without masks; a segmenter needs image-mask pairs")
    return BatchStore([replace(rows, arrays=rows.planes) for rows in parts], where)


def batch_targets(
    known: torch.Tensor, masks: BatchStore | None, rows: np.ndarray, device: torch.device
) -> torch.Tensor:
    """Return the targets of `rows`: `known` (B, K) as it is, or (B, K, H, W) float32 masks, NaN where unknown.

    With masks, known is 1 where there is one and NaN elsewhere.
    """
    if masks is None:
        return known
    return masks.raw(rows, device).permute(0, 3, 1, 2).float() * known[:, :, None, None]
