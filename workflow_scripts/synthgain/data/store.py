"""Images and masks of many rows where they are on disk: only the rows that are asked for are copied."""

from collections.abc import Sequence

import numpy as np

from synthgain.data.image_set import Planes
from synthgain.runtime.errors import SynthGainError

Stored = np.ndarray | Planes  # (n, H, W, C) uint8, memory-mapped or not


class ImageStore:
    """Rows of several uint8 arrays as one.

    positions: (N,) int64 rows of the arrays as if they were joined along the first axis, None for all of them.
    `where` opens the line of the SynthGainError for arrays of different shapes.
    """

    def __init__(self, arrays: Sequence[Stored], positions: np.ndarray | None = None, where: str = "images") -> None:
        self._arrays = [array if isinstance(array, Planes) else np.asarray(array) for array in arrays]
        shapes = {tuple(array.shape[1:]) for array in self._arrays if len(array)} or {self._arrays[0].shape[1:]}
        if len(shapes) != 1:
            raise SynthGainError(f"{where}: images of different shapes {sorted(shapes)}; rerun with one image size")
        height, width, channels = shapes.pop()
        self.shape = (height, width, channels)
        edges = np.cumsum([0, *(len(array) for array in self._arrays)])
        positions = np.arange(edges[-1]) if positions is None else positions
        self._owner = (np.searchsorted(edges, positions, side="right") - 1).astype(np.int32)
        self._offset = positions - edges[self._owner]

    def __len__(self) -> int:
        return len(self._offset)

    def gather(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return `rows` (int64, from 0; None: all) as a (B, H, W, C) uint8 copy. Raises IndexError beyond the last."""
        rows = np.arange(len(self)) if rows is None else rows
        images = np.empty((len(rows), *self.shape), dtype=np.uint8)
        owner, offset = self._owner[rows], self._offset[rows]
        for number in np.unique(owner):
            inside = owner == number
            images[inside] = self._arrays[number][offset[inside]]
        return images
