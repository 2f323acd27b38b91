"""Boxes as masks: rectangles in pixels become run lengths of a film."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthgain.runtime.errors import SynthGainError


@dataclass(frozen=True)
class Box:
    """A rectangle: left and upper corner, width and height, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def of(cls, cells: Sequence[str], file: object) -> "Box":
        """Return the box of four cells x, y, w, h; SynthGainError where they are no numbers."""
        try:
            return cls(*(float(cell) for cell in cells))
        except ValueError:
            raise SynthGainError(f"{file}: {', '.join(cells)!r} is no box (x, y, width, height in pixels)") from None


def runs_of(boxes: Sequence[Box], height: int, width: int) -> str:
    """Return the union of boxes as run lengths along the rows, pixels counted from 1; "" where there is none."""
    if not boxes:
        return ""
    mask = np.zeros((height, width), bool)
    for box in boxes:
        top, left = max(0, round(box.y)), max(0, round(box.x))
        mask[top : round(box.y + box.height), left : round(box.x + box.width)] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.reshape(-1).astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))
