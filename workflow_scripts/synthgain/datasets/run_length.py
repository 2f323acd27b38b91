"""Masks written as run lengths in a table cell, the way Kaggle's and SIIM-ACR's tables hold them.

`rle`: pairs "start length", the first pixel is number 1. `rle_relative`: pairs "gap length", each gap counted from
the end of the run before it, the first from the first pixel; a last gap to the end of the image may follow, as in
COCO's uncompressed counts. Pixels run down the columns (`order: column`, usual) or
along the rows. The cell "-1" is an empty mask; ";" stands between several masks of one cell, which are joined by OR.
"""

import numpy as np
import pandas as pd

from synthgain.datasets.reading import UnreadableImage

ENCODINGS = ("rle", "rle_relative")
EMPTY = "-1"
SEPARATOR = ";"


def decode_runs(text: str, shape: tuple[int, int], encoding: str = "rle", order: str = "column") -> np.ndarray:
    """Return the (H, W) bool mask of `text` for an image of `shape` (H, W).

    Raises UnreadableImage for what is no list of pairs of whole numbers, for runs that are empty, overlap or stand
    out of order, and for runs that overrun the image.
    """
    pixels = shape[0] * shape[1]
    steps = np.zeros(pixels + 1, np.int32)  # one for all masks of the cell, however many there are
    for part in text.split(SEPARATOR):
        if part.strip() == EMPTY:
            continue
        starts, ends = _runs(part, pixels, encoding)
        np.add.at(steps, starts, 1)
        np.subtract.at(steps, ends, 1)  # an end may be the next start
    mask = np.cumsum(steps, out=steps)[:-1] > 0
    return mask.reshape(shape[1], shape[0]).T if order == "column" else mask.reshape(shape)


def join_rows(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return `table` with rows that differ in nothing but the run-length `columns` made one, runs joined by ";"."""
    others = [name for name in table.columns if name not in columns]
    if not columns or not others or not table.duplicated(others).any():
        return table
    merged = table.groupby(others, sort=False, as_index=False, dropna=False)[columns].agg(_join)
    return merged[list(table.columns)]


def _join(cells: pd.Series) -> str:
    return SEPARATOR.join(dict.fromkeys(cell for cell in cells if cell))


def _runs(text: str, pixels: int, encoding: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the (R,) first and one-past-last pixel of each run, counted from 0."""
    words = text.split()
    if not words or not all(word.isdecimal() for word in words):
        raise UnreadableImage(f"run lengths are not pairs of whole numbers ({_shown(text)})")
    if any(len(word) > len(str(pixels)) for word in words):  # no room for what int64, or int() itself, cannot hold
        raise UnreadableImage(f"run lengths overrun the image of {pixels:,} pixels ({_shown(text)})")
    if encoding == "rle_relative" and len(words) % 2 and sum(map(int, words)) == pixels:
        words = words[:-1]
        if not words:  # COCO's counts of an empty mask: one gap
            return np.empty(0, np.int64), np.empty(0, np.int64)
    if len(words) % 2:
        raise UnreadableImage(f"run lengths are not pairs of whole numbers ({_shown(text)})")
    numbers = np.array(words, dtype=np.int64)
    first, lengths = numbers[0::2], numbers[1::2]
    ends = np.cumsum(first + lengths) if encoding == "rle_relative" else first - 1 + lengths
    starts = ends - lengths
    if (lengths < 1).any() or starts[0] < 0 or (starts[1:] < ends[:-1]).any():
        raise UnreadableImage("run lengths are empty, overlap or go backwards; is it the other encoding?")
    if ends[-1] > pixels:
        raise UnreadableImage(
            f"run lengths overrun the image: they end at pixel {int(ends[-1]):,}, it has {pixels:,}; "
            "is it of another size, or the other encoding?"
        )
    return starts, ends


def _shown(text: str) -> str:
    return f"{text[:40]!r} …" if len(text) > 40 else repr(text)
