"""The images of an arm: uint8 arrays where they lie, gathered batch by batch; nothing is copied ahead."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from synthgain.data.batch_order import Phase, Stream
from synthgain.downstream.arms import Rows
from synthgain.downstream.planes import Planes
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest

_SHARE_OF_FREE_MEMORY = 0.5  # of the GPU: above it the images stay in the memory map
_MID_GREY = 127.5  # uint8 0 … 255 becomes -1 … 1


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Return (B, H, W, C) uint8 as (B, C, H, W) float32 in [-1, 1]."""
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(_MID_GREY).sub_(1.0)


class ImageStore:
    """Rows of several uint8 arrays as one: memory-mapped, or wholly on the GPU where they fit."""

    def __init__(self, parts: Sequence[Rows], where: str) -> None:
        arrays = [array for rows in parts for array in rows.arrays]
        self._arrays = [array if isinstance(array, Planes) else np.asarray(array) for array in arrays]
        shapes = {tuple(array.shape[1:]) for array in self._arrays if len(array)}
        if len(shapes) != 1:
            raise SynthGainError(f"{where}: images of different shapes {sorted(shapes)}; rerun with one image size")
        height, width, channels = shapes.pop()
        self.shape = (height, width, channels)
        owners, offsets, first = [], [], 0
        for rows in parts:
            edges = np.cumsum([0, *(len(array) for array in rows.arrays)])
            owner = np.searchsorted(edges, rows.positions, side="right") - 1
            owners.append(first + owner)
            offsets.append(rows.positions - edges[owner])
            first += len(rows.arrays)
        self._owner = np.concatenate(owners).astype(np.int32)
        self._offset = np.concatenate(offsets)
        self._resident: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self._offset)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Return images `rows` as a (B, H, W, C) uint8 copy."""
        images = np.empty((len(rows), *self.shape), dtype=np.uint8)
        owner, offset = self._owner[rows], self._offset[rows]
        for number in np.unique(owner):
            inside = owner == number
            images[inside] = self._arrays[number][offset[inside]]
        return images

    def to_device(self, device: torch.device) -> None:
        """Put all images on a GPU as uint8 if they take no more than half of its free memory."""
        if device.type != "cuda":
            return
        free, _ = torch.cuda.mem_get_info(device)
        if len(self) * int(np.prod(self.shape)) <= _SHARE_OF_FREE_MEMORY * free:
            resident = torch.empty((len(self), *self.shape), dtype=torch.uint8, device=device)
            for start in range(0, len(self), 4096):
                rows = np.arange(start, min(start + 4096, len(self)))
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
        return normalise(self.raw(rows, device))


def mask_store(parts: Sequence[Rows], where: str) -> ImageStore:
    """Return the masks of these rows as a store of (H, W, K) uint8; SynthGainError where some have none."""
    if any(len(rows.planes) != len(rows.arrays) for rows in parts):
        raise SynthGainError(f"{where}: images without masks; a segmenter needs image-mask pairs")
    return ImageStore([replace(rows, arrays=rows.planes) for rows in parts], where)


def batch_targets(
    known: torch.Tensor, masks: ImageStore | None, rows: np.ndarray, device: torch.device
) -> torch.Tensor:
    """Return the targets of `rows`: `known` (B, K) as it is, or (B, K, H, W) float32 masks, NaN where unknown.

    With masks, known is 1 where there is one and NaN elsewhere.
    """
    if masks is None:
        return known
    return masks.raw(rows, device).permute(0, 3, 1, 2).float() * known[:, :, None, None]


@dataclass(frozen=True)
class TrainingSet:
    """An arm's union of rows: real ones first, then synthetic ones or repeats.

    masks: of the same rows, None for a classifier; targets: (N, K) float32, NaN unknown; weights: (N,) float32
    loss weights of mean 1; synthetic: (N,) bool, False for real images and their repeats; phases: what is drawn in
    which steps; facts: JSON values.
    """

    store: ImageStore
    masks: ImageStore | None
    targets: np.ndarray
    weights: np.ndarray
    synthetic: np.ndarray
    phases: tuple[Phase, ...]
    facts: dict[str, Any]

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def place(self, step: int) -> tuple[int, int]:
        """Return (index of the phase, step within it) of the overall step."""
        for index, phase in enumerate(self.phases):
            if step < phase.steps:
                return index, step
            step -= phase.steps
        raise IndexError(f"step beyond the last of {self.steps}")


def training_set(
    real: Rows | None,
    added: Rows | None,
    phases: tuple[Phase, ...],
    weights: np.ndarray | None,
    where: str,
    repeats: bool = False,
    **facts: Any,
) -> TrainingSet:
    """Join the rows of an arm. `phases` index the union: real rows first, then synthetic ones or repeats."""
    parts = [rows for rows in (real, added) if rows is not None]
    targets = np.concatenate([rows.targets for rows in parts])
    counts = (0 if real is None else len(real), 0 if added is None else len(added))
    return TrainingSet(
        ImageStore(parts, where),
        mask_store(parts, where) if any(rows.planes for rows in parts) else None,
        targets,
        np.ones(len(targets), np.float32) if weights is None else weights.astype(np.float32),
        np.repeat([False, not repeats], counts),
        phases,
        {"ids": digest([sorted(map(str, rows.image_ids)) for rows in parts]), **facts},
    )


def arm_phases(
    real: Rows | None,
    added: Rows | None,
    steps: int,
    order_seed: int,
    rates: np.ndarray | None = None,
    fixed_share: float | None = None,
    pretrain_share: float | None = None,
) -> tuple[Phase, ...]:
    """Return what an arm draws: its union; a fixed share of added rows; or first added rows, then real ones.

    rates: (N,) how often each row of the union comes in a pass, None for once each.
    """
    keys = np.concatenate([rows.keys(order_seed) for rows in (real, added) if rows is not None])
    union = np.arange(len(keys))
    cut = 0 if real is None else len(real)

    def stream(rows: np.ndarray) -> Stream:
        return Stream(rows, keys[rows], None if rates is None else rates[rows])

    if pretrain_share is not None:
        first = round(pretrain_share * steps)
        return (Phase(first, stream(union[cut:])), Phase(steps - first, stream(union[:cut])))
    if fixed_share is not None:
        return (Phase(steps, stream(union[:cut]), stream(union[cut:]), fixed_share),)
    return (Phase(steps, stream(union)),)
