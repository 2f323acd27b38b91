"""Sizes that compressed streams promise, read from their own headers before a decoder makes room for them.

A DICOM header may say 512 × 512 over a JPEG 2000 frame of 60,000 × 60,000, and decoders believe the frame. Markers:
JPEG ITU-T T.81 table B.1, JPEG-LS T.87 C.1.1, JPEG 2000 T.800 A.5.1 and (JP2 boxes) I.4, RLE DICOM PS3.5 G, WebP RFC
9649 2.5 to 2.7.
"""

import struct
from collections.abc import Iterator

from synthgain.datasets.pixels import UnreadableImage, check_scans, check_size

RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93")
HTJ2K_PREFIX = "1.2.840.10008.1.2.4.20"  # high-throughput JPEG 2000: .201, .202, .203
# Start of frame (T.81: C0 to CF but for three other markers; T.87: F7) and DHP, the frame of a hierarchical image.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7, 0xDE} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA), 0xFF}
_FIRST_MARKER = 0x80  # below it, what follows FF is entropy-coded data
_SOC_SIZ = b"\xff\x4f\xff\x51"
_RLE_WORST = 2  # PackBits makes at most 129 bytes of 128

Size = tuple[int, int, int]  # rows, columns, components


def check_wavelet(data: bytes, size: tuple[int, int], what: str = "") -> None:
    """Raise UnreadableImage unless every codestream of a JPEG 2000 file has the size (width, height) of its header."""
    found = list(_wavelet_sizes(data))
    if not found or any((columns, rows) != size for rows, columns, _ in found):
        raise UnreadableImage(f"{what}JPEG 2000 whose header and codestream differ in size")


def webp_size(data: bytes, what: str = "") -> None:
    """Raise UnreadableImage for WebP whose first chunk promises absurd sizes; other content is not looked at."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        check_size(1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"), what)
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        check_size(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), what)
    elif kind == b"VP8 ":
        check_size(int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF, what)


def check_frame(frame: bytes, syntax: str, size: Size, sample_bytes: int) -> None:
    """Raise UnreadableImage unless every size that `frame` promises is that of the DICOM header.

    syntax: the transfer syntax; size: the header's (rows, columns, samples per pixel).
    """
    if syntax == RLE_LOSSLESS:
        rows, columns, samples = size
        if len(frame) > _RLE_WORST * rows * columns * samples * sample_bytes + 64:
            raise UnreadableImage("DICOM holds more compressed data than its image can need")
        return
    is_wavelet = syntax in JPEG2000 or syntax.startswith(HTJ2K_PREFIX)
    if not is_wavelet:
        check_scans(frame, "DICOM holds a ")
    promised = list(_wavelet_sizes(frame) if is_wavelet else _jpeg_sizes(frame))
    if not promised:
        raise UnreadableImage("holds no whole compressed frame")
    for found in promised:
        if found != size:
            raise UnreadableImage(f"DICOM header says {_shown_size(size)}, its compressed frame {_shown_size(found)}")


def _jpeg_sizes(data: bytes) -> Iterator[Size]:
    """Yield the size of every frame header of a JPEG or JPEG-LS stream."""
    place = data.find(b"\xff")
    while 0 <= place < len(data) - 3:
        marker = data[place + 1]
        if marker < _FIRST_MARKER or marker in _WITHOUT_LENGTH:
            place = data.find(b"\xff", place + 1)
            continue
        if marker in _FRAME_MARKERS and place + 10 <= len(data):
            rows, columns, components = struct.unpack_from(">HHB", data, place + 5)
            yield rows, columns, components
        (length,) = struct.unpack_from(">H", data, place + 2)
        place = data.find(b"\xff", place + 2 + length)


def _wavelet_sizes(data: bytes) -> Iterator[Size]:
    """Yield the size of every JPEG 2000 codestream: the data themselves, or the `jp2c` boxes of a JP2 file."""
    if data.startswith(_SOC_SIZ):
        yield _siz(data, 0)
        return
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1 and place + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, place + 8)
            head = 16
        if kind == b"jp2c":
            yield _siz(data, place + head)
        if length < head:  # 0: to the end of the file; less than the box's own head: damaged
            return
        place += length


def _siz(data: bytes, start: int) -> Size:
    """Return the size in the SIZ segment, which must come first in the codestream at `start`."""
    if data[start : start + 4] != _SOC_SIZ or start + 42 > len(data):
        raise UnreadableImage("holds no whole compressed frame")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    return bottom - top, right - left, components


def _shown_size(size: Size) -> str:
    return f"{size[0]} × {size[1]} pixels of {size[2]}"
