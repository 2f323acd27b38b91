"""A mask as text: COCO's uncompressed run lengths, column after column, zeros and ones in turn, zeros first."""

import numpy as np


def encode_mask(mask: np.ndarray) -> str:
    """Return the run lengths of an (H, W) mask, blanks between them: "3 2 4" is 3 zeros, 2 ones, 4 zeros.

    Pixels run down each column, as in COCO's annotations. A mask whose first pixel is set starts with 0.
    """
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff([0, *edges, len(flat)])
    return " ".join(map(str, [0, *lengths] if flat[0] else lengths))


def decode_mask(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Return the (H, W) uint8 mask in {0, 1} of `encode_mask`'s text; ValueError for another number of pixels."""
    lengths = [int(word) for word in text.split()]
    values = np.repeat(np.arange(len(lengths)) % 2, lengths).astype(np.uint8)
    if len(values) != shape[0] * shape[1]:
        raise ValueError(f"run lengths cover {len(values)} pixels, a mask of {shape} has {shape[0] * shape[1]}")
    return values.reshape(shape, order="F")
