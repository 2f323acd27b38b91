"""From a generator's mask planes to clean labels."""

import numpy as np
from scipy import ndimage

THRESHOLD = 128  # uint8 level of 0 in [-1, 1]: halfway between background and structure
# As shares of the image area. At 256 px a speck is smaller than 66 px: less than a disc of 10 px across.
SPECK_SHARE = 0.001
HOLE_SHARE = 0.01  # larger holes are anatomy, such as the mediastinum between lungs that touch
_TOUCHING = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner belong to one piece


def decode_planes(planes: np.ndarray) -> np.ndarray:
    """Return masks (N, H, W, K) uint8 in {0, 1} of drawn planes (N, H, W, K) uint8 (0 background … 255 structure).

    Threshold halfway, then `clean`. A structure that the generator left out gives an empty mask.
    """
    masks = np.zeros(planes.shape, dtype=np.uint8)
    for row, column in np.ndindex(planes.shape[0], planes.shape[3]):
        masks[row, :, :, column] = clean(planes[row, :, :, column] >= THRESHOLD)
    return masks


def clean(mask: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) bool without pieces below SPECK_SHARE and without holes below HOLE_SHARE of the image."""
    without_specks = mask & ~_small_pieces(mask, SPECK_SHARE, _TOUCHING)
    holes = ndimage.binary_fill_holes(without_specks) & ~without_specks
    return np.asarray(without_specks | _small_pieces(holes, HOLE_SHARE, None))


def empty_counts(masks: np.ndarray, names: list[str]) -> dict[str, int]:
    """Return {structure: number of empty masks} of masks (N, H, W, K)."""
    empty = np.asarray(~masks.any(axis=(1, 2)))
    return {name: int(empty[:, column].sum()) for column, name in enumerate(names)}


def _small_pieces(mask: np.ndarray, share: float, structure: np.ndarray | None) -> np.ndarray:
    pieces, _ = ndimage.label(mask, structure)
    small = np.bincount(pieces.ravel()) < share * mask.size
    small[0] = False  # the background
    return np.asarray(small[pieces])
