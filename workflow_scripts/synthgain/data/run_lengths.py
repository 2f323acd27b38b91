"""Masks written as run lengths: one codec with three conventions.

`rle` (Kaggle, SIIM-ACR): pairs "start length", the first pixel is number 1. `rle_relative`: pairs "gap length", each
gap counted from the end of the run before it, the first from the first pixel; a last gap to the end of the image may
follow. `coco` (what predictions keep): the lengths of zeros and ones in turn, zeros first, down to the last pixel, as
in COCO's uncompressed counts. Pixels run down the columns (`order: column`, usual) or along the rows. The text "-1" is
an empty mask; ";" separates several masks of one text, which are joined by OR.
"""

import numpy as np

ENCODINGS = ("rle", "rle_relative")  # of tables
EMPTY = "-1"
SEPARATOR = ";"


def encode_runs(mask: np.ndarray) -> str:
    """Return the `coco` run lengths of an (H, W) mask: "3 2 4" is 3 zeros, 2 ones, 4 zeros down the columns."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff([0, *edges, len(flat)])
    return " ".join(map(str, [0, *lengths] if flat[0] else lengths))


def decode_runs(text: str, shape: tuple[int, int], encoding: str = "rle", order: str = "column") -> np.ndarray:
    """Return the (H, W) bool mask of `text` for an image of `shape` (H, W).

    Raises ValueError for what is no list of pairs of whole numbers, for runs that are empty, overlap or are out of
    order, and for runs that overrun the image (`coco`: that do not cover it).
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


def _runs(text: str, pixels: int, encoding: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the (R,) first and one-past-last pixel of each run, counted from 0."""
    words = text.split()
    if not words or not all(word.isdecimal() for word in words):
        raise ValueError(f"run lengths are not pairs of whole numbers ({_shown(text)})")
    if any(len(word) > len(str(pixels)) for word in words):  # no room for what int64, or int() itself, cannot hold
        raise ValueError(f"run lengths overrun the image of {pixels:,} pixels ({_shown(text)})")
    covered = pixels if encoding == "rle" else sum(map(int, words))
    if encoding == "coco" and covered != pixels:
        raise ValueError(f"run lengths cover {covered} pixels, the mask has {pixels}")
    if encoding != "rle" and len(words) % 2 and covered == pixels:
        words = words[:-1]
        if not words:  # COCO's counts of an empty mask: one gap
            return np.empty(0, np.int64), np.empty(0, np.int64)
    if len(words) % 2:
        raise ValueError(f"run lengths are not pairs of whole numbers ({_shown(text)})")
    numbers = np.array(words, dtype=np.int64)
    first, lengths = numbers[0::2], numbers[1::2]
    ends = np.cumsum(first + lengths) if encoding != "rle" else first - 1 + lengths
    starts = ends - lengths
    if (lengths < 1).any() or starts[0] < 0 or (starts[1:] < ends[:-1]).any():
        raise ValueError("run lengths are empty, overlap or go backwards; is it the other encoding?")
    if ends[-1] > pixels:
        raise ValueError(
            f"run lengths overrun the image: they end at pixel {int(ends[-1]):,}, it has {pixels:,}; "
            "is it of another size, or the other encoding?"
        )
    return starts, ends


def _shown(text: str) -> str:
    return f"{text[:40]!r} …" if len(text) > 40 else repr(text)
