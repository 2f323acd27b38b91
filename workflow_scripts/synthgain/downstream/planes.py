"""Named mask planes of an image set in the order that a model wants, chosen when rows are gathered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Planes:
    """Masks (n, H, W, K') uint8 in {0, 1}, memory-mapped or not, as if they were (n, H, W, K) of the chosen planes.

    chosen: K indices into the last axis; -1 for a structure that the set does not have, which reads as zeros.
    """

    masks: np.ndarray
    chosen: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that this stands for."""
        return (*self.masks.shape[:3], len(self.chosen))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return a (B, H, W, K) uint8 copy of these rows."""
        whole = self.masks[rows]
        return np.stack([whole[..., k] if k >= 0 else np.zeros_like(whole[..., 0]) for k in self.chosen], axis=-1)


def planes_of(masks: np.ndarray | None, names: Sequence[str], structures: Sequence[str]) -> tuple[Planes, ...]:
    """Return the planes of `structures` of one image set, as a tuple of one; none where no structure is asked for.

    masks: (n, H, W, len(names)); None, a set without masks, gives none either.
    """
    if masks is None or not structures:
        return ()
    return (Planes(masks, tuple(list(names).index(s) if s in names else -1 for s in structures)),)
