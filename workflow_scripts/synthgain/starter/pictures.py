"""What the image and mask files are like, from a sample of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthgain.datasets.label_maps import read_label_map
from synthgain.datasets.pixels import UnreadableImage
from synthgain.datasets.reading import read_pixels
from synthgain.runtime.errors import SynthGainError

SAMPLE = 48


@dataclass(frozen=True)
class Pictures:
    """side: the median of the shorter sides in px; channels: 1 or 3; intensity: as `image.intensity`; read, unread."""

    side: int
    channels: int
    intensity: str
    square: bool
    read: int
    unread: dict[str, str]


def look_at(root: Path, files: Sequence[str]) -> Pictures:
    """Return what a sample of the files is like; SynthGainError where none of them can be read."""
    sides, colour, deep, square, unread = [], 0, 0, 0, dict[str, str]()
    for name in spread(files):
        try:
            pixels = read_pixels(root / name)
        except UnreadableImage as error:
            unread[name] = str(error)
            continue
        height, width = pixels.values.shape[:2]
        sides.append(min(height, width))
        square += height == width
        deep += pixels.value_range is None
        colour += pixels.values.ndim == 3 and float(np.ptp(pixels.values.astype(int), axis=2).mean()) > 1
    if not sides:
        name, reason = next(iter(unread.items()))
        raise SynthGainError(f"none of {len(unread)} images that were tried can be read; {name}: {reason}")
    channels = 3 if colour > len(sides) / 2 else 1
    return Pictures(
        int(np.median(sides)), channels, "percentile" if deep else "none", square == len(sides), len(sides), unread
    )


def mask_values(root: Path, files: Sequence[str]) -> list[int]:
    """Return the label values other than 0 in a sample of mask files, the most frequent first; [] if none is read."""
    counts: dict[int, int] = {}
    for name in spread(files):
        try:
            labels = read_label_map(root / name)
        except UnreadableImage:
            continue
        for value in labels.present():
            counts[value] = counts.get(value, 0) + 1
    return sorted((value for value in counts if value), key=lambda value: (-counts[value], value))


def spread(files: Sequence[str]) -> list[str]:
    """Return up to SAMPLE files, spread over the list."""
    step = max(1, -(-len(files) // SAMPLE))
    return list(files[::step])
