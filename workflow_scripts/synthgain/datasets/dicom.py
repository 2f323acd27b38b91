"""DICOM pixels as a viewer shows them: modality LUT, VOI LUT or window, MONOCHROME1 inverted.

Only the tags below are ever parsed, so that no personal header field is even in memory. A DICOM header may say
512 × 512 over a JPEG 2000 frame of 60,000 × 60,000, and decoders believe the frame: so the sizes in its own header are
compared before any decoder allocates for them. Markers: JPEG ITU-T T.81 table B.1, JPEG-LS T.87 C.1.1, JPEG 2000 T.800
A.5.1 and (JP2 boxes) I.4, RLE DICOM PS3.5 G.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.encaps import get_frame
from pydicom.pixels import apply_modality_lut, apply_voi
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000TransferSyntaxes, RLELossless

from synthgain.datasets.pixels import BYTE_RANGE, Pixels, UnreadableImage, check_scans, check_size

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings would quote header values

_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PixelData",
]  # fmt: skip
_NARROWEST = 1e-6  # a window one value wide is a step
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

HTJ2K_PREFIX = "1.2.840.10008.1.2.4.20"  # high-throughput JPEG 2000: .201, .202, .203
# Start of frame (T.81: C0 to CF but for three other markers; T.87: F7) and DHP, the frame of a hierarchical image.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7, 0xDE} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA), 0xFF}
_FIRST_MARKER = 0x80  # below it, what follows FF is entropy-coded data
_SOC_SIZ = b"\xff\x4f\xff\x51"
_RLE_WORST = 2  # PackBits makes at most 129 bytes of 128

Size = tuple[int, int, int]  # rows, columns, components


def read_dicom(path: Path) -> Pixels:
    """Decode a single-frame DICOM file (compressed transfer syntaxes through pylibjpeg).

    With a VOI LUT or window the values are mapped to (0, 255) as declared; without one, files of up to 8 bits keep
    their range and deeper ones have none. Raises UnreadableImage; its text holds no header value but sizes.
    """
    try:
        _check_header(path)
        dataset = pydicom.dcmread(path, specific_tags=list(_TAGS))
        _check_frame(dataset)
        pixels = _as_displayed(dataset)
    except UnreadableImage:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes; their texts may quote header fields
        raise UnreadableImage(f"not a whole DICOM image ({type(error).__name__})") from error
    if not np.isfinite(pixels.values).all():
        raise UnreadableImage("DICOM rescale or window gives NaN or infinite pixels")
    return pixels


def _check_header(path: Path) -> None:
    """Refuse, before any pixel is decoded, what would inflate without bound or is not one plane image."""
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise UnreadableImage("deflated DICOM is not read: save it with another transfer syntax")
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    check_size(int(header.get("Columns", 0)), int(header.get("Rows", 0)))
    frames = int(header.get("NumberOfFrames", None) or 1)
    if frames != 1:
        raise UnreadableImage(f"DICOM holds {frames} frames, one is wanted")
    photometric = str(header.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2", *_COLOURS):
        raise UnreadableImage(f"DICOM photometric interpretation {photometric[:20]!r} is not read")


def _check_frame(dataset: Any) -> None:
    """Refuse a compressed frame of another size than the header's, before a decoder believes it."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        size = (int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        check_frame(frame, str(syntax), size, -(-int(dataset.BitsAllocated) // 8))


def _as_displayed(dataset: Any) -> Pixels:
    stored = dataset.pixel_array
    if stored.ndim == 3:
        if stored.dtype != np.uint8:
            raise UnreadableImage("DICOM colour deeper than 8 bits is not read")
        return Pixels(stored, BYTE_RANGE)
    values: np.ndarray = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    value_range: tuple[float, float] | None = BYTE_RANGE
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        looked_up = np.asarray(apply_voi(values.astype(np.int32), dataset), dtype=np.float32)
        values = looked_up * np.float32(BYTE_RANGE[1] / (2**bits - 1))
    elif dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        values = BYTE_RANGE[1] * _window(values, dataset)
    elif int(dataset.BitsStored) <= 8:
        value_range = (float(0), float(2 ** int(dataset.BitsStored) - 1))
    else:
        value_range = None
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        low, high = value_range or (float(values.min()), float(values.max()))
        values = low + high - values
    return Pixels(values.astype(np.float32), value_range)


def _window(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Map values to [0, 1] by the first window: DICOM PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (others)."""
    center, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise UnreadableImage("DICOM window width is not positive")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - center) / width)))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, _NARROWEST)
    return np.asarray(np.clip((values - center) / width + 0.5, 0, 1))


def _first(value: Any) -> float:
    return float(value[0]) if isinstance(value, pydicom.multival.MultiValue) else float(value)


def check_frame(frame: bytes, syntax: str, size: Size, sample_bytes: int) -> None:
    """Raise UnreadableImage unless every size that `frame` promises is that of the DICOM header.

    syntax: the transfer syntax; size: the header's (rows, columns, samples per pixel).
    """
    if syntax == RLELossless:
        rows, columns, samples = size
        if len(frame) > _RLE_WORST * rows * columns * samples * sample_bytes + 64:
            raise UnreadableImage("DICOM holds more compressed data than its image can need")
        return
    is_wavelet = syntax in JPEG2000TransferSyntaxes or syntax.startswith(HTJ2K_PREFIX)
    if not is_wavelet:
        check_scans(frame, "DICOM holds a ")
    promised = list(_wavelet_sizes(frame) if is_wavelet else _jpeg_sizes(frame))
    if not promised:
        raise UnreadableImage("DICOM holds no whole compressed frame")
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
        raise UnreadableImage("DICOM holds no whole compressed frame")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    return bottom - top, right - left, components


def _shown_size(size: Size) -> str:
    return f"{size[0]} × {size[1]} pixels of {size[2]}"
