"""What every reader of image files gives and refuses: decoded pixels, and the limits on what a header may promise."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# 8,192 × 8,192: above any plane radiograph or mammogram; a header that asks for more is refused before decoding.
MAX_PIXELS = 1 << 26
# Scans of one JPEG: each costs a pass over the whole image and ten bytes of file. Encoders write about ten;
# libjpeg-turbo's own fuzzers stop at this number.
MAX_SCANS = 500
_SCAN = b"\xff\xda"  # stands nowhere else in a JPEG but in an embedded preview
_END = b"\xff\xd9"  # of a JPEG; decoders fill in grey what a file without it lacks
BYTE_RANGE = (0.0, 255.0)
LFS_POINTER = b"version https://git-lfs"  # what lies in place of a file that `git lfs pull` has not fetched

Held = Mapping[str, Mapping[str, bytes]]  # {column: {cell: the picture that the table itself holds}}


class UnreadableImage(Exception):
    """A file that cannot be used; the text says why and goes into the quarantine list."""


@dataclass(frozen=True)
class Pixels:
    """Decoded pixels: `values` (H, W) or (H, W, 3), uint8 or float32.

    `value_range` is the (black, white) that the file declares for these values: (0, 255) for 8-bit files and for DICOM
    with a window; None where nothing declares it (16-bit, float), so that the study's `image.intensity` must.
    `padding` (H, W) bool: pixels that are no part of the picture, by the file's own word; they become black.
    """

    values: np.ndarray
    value_range: tuple[float, float] | None
    padding: np.ndarray | None = None


def check_size(width: int, height: int, what: str = "") -> None:
    """Raise UnreadableImage if a header promises no pixels or more than MAX_PIXELS."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise UnreadableImage(f"{what}header promises {width} × {height} pixels (limit {MAX_PIXELS:,})")


def check_scans(data: bytes, what: str = "") -> None:
    """Raise UnreadableImage for a JPEG stream of more than MAX_SCANS scans, and for one without an end."""
    if data.count(_SCAN) > MAX_SCANS:
        raise UnreadableImage(f"{what}JPEG of {data.count(_SCAN):,} scans (limit {MAX_SCANS})")
    if data.find(_END, _first_scan(data)) < 0:
        raise UnreadableImage(f"{what}JPEG whose scans have no end")


def _first_scan(data: bytes) -> int:
    """Return where the picture of a JPEG begins, behind its segments, of which one may hold a preview with an end.

    What follows the end (the film of a phone's picture) is not looked at.
    """
    place = 2
    while data[place : place + 1] == b"\xff" and data[place : place + 2] != _SCAN:
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big") if data[place + 1 : place + 2] != b"\xff" else 1
    return place
