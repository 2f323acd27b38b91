"""Masks of published tables: rectangles in pixels become run lengths of a film, cells of run lengths are checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthgain.data.run_lengths import EMPTY
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
        """Return the box of four cells x, y, w, h; SynthGainError where they are no numbers or enclose nothing."""
        try:
            x, y, width, height = (float(cell) for cell in cells)
        except ValueError:
            x = y = width = height = math.nan
        if not (math.isfinite(x + y) and 0 < width < math.inf and 0 < height < math.inf):
            raise SynthGainError(f"{file}: {', '.join(cells)!r} is no box (x, y, width, height in pixels)")
        return cls(x, y, width, height)


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


def region_of(cell: str, file: object) -> str:
    """Return a cell of run lengths: "" (unknown), EMPTY in any spelling of −1, or the runs; SynthGainError else."""
    text = " ".join(cell.split())
    if text in ("", EMPTY) or all(part.isdecimal() for part in text.split(" ")):
        return text
    try:
        if float(text.replace("−", "-")) == float(EMPTY):
            return EMPTY
    except ValueError:
        pass
    raise SynthGainError(f"{file}: {text[:40]!r} is neither run lengths (whole numbers) nor {EMPTY} for none")
