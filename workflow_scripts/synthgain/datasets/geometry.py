"""One declared geometry for all images of a study: side, channels, fit and intensity.

`image` is {size: pixels, channels: 1|3, fit: pad|crop|stretch, intensity: none|minmax|percentile}.
"""

from typing import Literal, TypedDict

import numpy as np
from PIL import Image

from synthgain.datasets.pixels import Pixels
from synthgain.runtime.errors import SynthGainError


class Geometry(TypedDict):
    """The study's `image`, as a job's slice has it."""

    size: int
    channels: int
    fit: Literal["pad", "crop", "stretch"]
    intensity: Literal["none", "minmax", "percentile"]


# nnU-Net clips intensities at these percentiles (Isensee et al., Nat Methods 2021;18:203).
PERCENTILES = (0.5, 99.5)


def fit_image(pixels: Pixels, image: Geometry, name: str) -> np.ndarray:
    """Return (size, size, channels) uint8: intensity as declared, antialiased (Lanczos) resize, black padding.

    Raises SynthGainError naming `name` where neither the file nor the study declares the intensity range.
    """
    planes = np.atleast_3d(scale_intensity(pixels, image["intensity"], name))
    planes = _match_channels(planes, image["channels"])
    if planes.shape[:2] == (image["size"], image["size"]):
        return _to_bytes(planes)
    resized = [_resize(planes[:, :, c], image, Image.Resampling.LANCZOS) for c in range(planes.shape[2])]
    return _to_bytes(np.stack(resized, axis=2))


def fit_mask(mask: np.ndarray, image: Geometry) -> np.ndarray:
    """Return (size, size) uint8 in {0, 1}: a (H, W) bool mask box-averaged to the geometry and cut at one half."""
    return (_resize(mask.astype(np.float32), image, Image.Resampling.BOX) >= 0.5).astype(np.uint8)


def scale_intensity(pixels: Pixels, intensity: str, name: str) -> np.ndarray:
    """Map pixel values to 0 … 255: uint8 untouched where that is what the file declares, else float32.

    `minmax` and `percentile` stretch each image by its own range; a constant image becomes black. Padding takes no part
    in it and becomes black.
    """
    grey = _stretched(pixels, intensity, name)
    return grey if pixels.padding is None else np.where(pixels.padding, grey.dtype.type(0), grey)


def _stretched(pixels: Pixels, intensity: str, name: str) -> np.ndarray:
    values = pixels.values
    inside = values if pixels.padding is None else values[~pixels.padding]
    if intensity == "none":
        if pixels.value_range is None:
            raise SynthGainError(
                f"{name}: more than 8 bits and no declared range; declare image.intensity: minmax (or percentile)"
            )
        low, high = pixels.value_range
        if values.dtype == np.uint8 and (low, high) == (0, 255):
            return values
    elif intensity == "minmax":
        low, high = float(inside.min()), float(inside.max())
    else:
        low, high = (float(bound) for bound in np.percentile(inside, PERCENTILES))
    if high <= low:
        return np.zeros(values.shape, np.float32)
    return np.asarray(np.clip((values.astype(np.float32) - low) * (255 / (high - low)), 0, 255), np.float32)


def _match_channels(planes: np.ndarray, channels: int) -> np.ndarray:
    """Grey to three equal channels; colour to ITU-R BT.601 luma."""
    if planes.shape[2] == channels:
        return planes
    if channels == 3:
        return np.repeat(planes, 3, axis=2)
    luma: np.ndarray = planes.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return luma[:, :, None]


def _resize(plane: np.ndarray, image: Geometry, method: Image.Resampling) -> np.ndarray:
    size, fit = image["size"], image["fit"]
    height, width = plane.shape
    picture = Image.fromarray(plane)
    if fit == "stretch":
        return np.asarray(picture.resize((size, size), method))
    if fit == "crop":
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        return np.asarray(picture.resize((size, size), method, box=(left, top, left + side, top + side)))
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.zeros((size, size), plane.dtype)
    left_px, top_px = (size - inner[0]) // 2, (size - inner[1]) // 2
    canvas[top_px : top_px + inner[1], left_px : left_px + inner[0]] = np.asarray(picture.resize(inner, method))
    return canvas


def _to_bytes(planes: np.ndarray) -> np.ndarray:
    if planes.dtype == np.uint8:
        return planes
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8)
