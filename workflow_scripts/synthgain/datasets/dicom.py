"""DICOM pixels as a viewer shows them: modality LUT, VOI LUT or window, MONOCHROME1 inverted, padding black.

Only the tags below are ever parsed, so that no personal header field is even in memory. Sizes in the headers of
compressed frames are compared before any decoder allocates for them (`compressed.py`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_modality_lut, apply_voi
from pydicom.uid import DeflatedExplicitVRLittleEndian

from synthgain.datasets.compressed import check_frame
from synthgain.datasets.pixels import BYTE_RANGE, Pixels, UnreadableImage, check_size

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings would quote header values

_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "PresentationLUTShape", "PixelData",
]  # fmt: skip
_NARROWEST = 1e-6  # a window one value wide is a step
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


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
    if _value(meta, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise UnreadableImage("deflated DICOM is not read: save it with another transfer syntax")
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    check_size(int(_value(header, "Columns") or 0), int(_value(header, "Rows") or 0))
    frames = int(_value(header, "NumberOfFrames") or 1)
    if frames != 1:
        raise UnreadableImage(f"DICOM holds {frames} frames, one is wanted")
    photometric = str(_value(header, "PhotometricInterpretation") or "")
    if photometric not in ("MONOCHROME1", "MONOCHROME2", *_COLOURS):
        raise UnreadableImage(f"DICOM photometric interpretation {photometric[:20]!r} is not read")


def _check_frame(dataset: FileDataset) -> None:
    """Refuse a compressed frame of another size than the header's, before a decoder believes it."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        size = (int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        check_frame(frame, str(syntax), size, -(-int(dataset.BitsAllocated) // 8))


def _as_displayed(dataset: FileDataset) -> Pixels:
    dataset.pixel_array_options(correct_unused_bits=False)  # it would wrap values that need more bits than are stored
    stored = dataset.pixel_array
    if stored.ndim == 3:
        if stored.dtype != np.uint8:
            raise UnreadableImage("DICOM colour deeper than 8 bits is not read")
        return Pixels(stored, BYTE_RANGE)
    if _inverted_twice(dataset):
        raise UnreadableImage("DICOM says MONOCHROME2 and PresentationLUTShape INVERSE: which end is white?")
    lowest, highest = _stored_range(dataset)
    padding = _padding(stored, dataset)
    stored = _signed(stored, dataset)
    inside = stored if padding is None else stored[~padding]
    if not inside.size:
        raise UnreadableImage("DICOM holds nothing but padding")
    if int(dataset.HighBit) != int(dataset.BitsStored) - 1 or inside.min() < lowest or inside.max() > highest:
        raise UnreadableImage("DICOM pixels lie outside the bits that its header says are stored")
    values, value_range = _grey(stored, dataset, (float(lowest), float(highest)))
    _check_shown(stored, values, value_range, padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        within = values if padding is None else values[~padding]
        low, high = value_range or (float(within.min()), float(within.max()))
        values = low + high - values
    return Pixels(values.astype(np.float32), value_range, padding)


def _grey(
    stored: np.ndarray, dataset: FileDataset, stored_range: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Return grey values and their range, both from one stage of decoding: that of VOI LUT, window, or of neither.

    Without LUT and window the stored values count, in the range of their bits up to 8: rescaling by a positive slope
    changes nothing that is seen. A negative one would exchange black and white, and nothing says which is meant.
    """
    if _value(dataset, "VOILUTSequence"):
        values = apply_modality_lut(stored, dataset)
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        looked_up = np.asarray(apply_voi(np.asarray(values).astype(np.int32), dataset), dtype=np.float32)
        return looked_up * np.float32(BYTE_RANGE[1] / (2**bits - 1)), BYTE_RANGE
    if _value(dataset, "WindowWidth") is not None and _value(dataset, "WindowCenter") is not None:
        values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
        return BYTE_RANGE[1] * _window(values, dataset), BYTE_RANGE
    if _value(dataset, "ModalityLUTSequence"):
        bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
        looked_up = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
        return looked_up, (0.0, float(2**bits - 1)) if bits <= 8 else None
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    if max(abs(slope), abs(intercept)) > float(np.finfo(np.float32).max):
        raise UnreadableImage("DICOM rescale or window gives NaN or infinite pixels")
    if not slope > 0:
        raise UnreadableImage("DICOM rescale slope is not a positive number and there is no window: declare one")
    return stored.astype(np.float32), stored_range if int(dataset.BitsStored) <= 8 else None


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    """Return the smallest and largest value of the bits that are stored."""
    bits = int(dataset.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if int(dataset.PixelRepresentation) else (0, 2**bits - 1)


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Return (H, W) bool where the pixels are padding (DICOM PS3.3 C.7.5.1.1.2), None where there is none.

    Values are compared as the pixels are stored: writers note signed ones as if they were unsigned.
    """
    if _value(dataset, "PixelPaddingValue") is None:
        return None
    first = _as_stored(dataset.PixelPaddingValue, stored.dtype)
    last = (
        first
        if _value(dataset, "PixelPaddingRangeLimit") is None
        else _as_stored(dataset.PixelPaddingRangeLimit, stored.dtype)
    )
    padding = (stored >= min(first, last)) & (stored <= max(first, last))
    return padding if padding.any() else None


def _as_stored(value: object, kind: np.dtype[np.generic]) -> int:
    number = int.from_bytes(value, "little") if isinstance(value, bytes) else int(str(value))
    wide = int(number) % (1 << 8 * kind.itemsize)
    return wide - (1 << 8 * kind.itemsize) if kind.kind == "i" and wide >> (8 * kind.itemsize - 1) else wide


def _signed(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return signed pixels whose unused bits are zero with their sign; all others as they are."""
    unused = 8 * stored.dtype.itemsize - int(dataset.BitsStored)
    if stored.dtype.kind != "i" or unused <= 0:
        return stored
    extended = (stored << unused) >> unused
    return np.where((stored >= 0) & (stored >> int(dataset.BitsStored) == 0), extended, stored)


def _inverted_twice(dataset: Dataset) -> bool:
    shape = str(_value(dataset, "PresentationLUTShape") or "").strip()
    return shape == "INVERSE" and dataset.PhotometricInterpretation == "MONOCHROME2"


def _check_shown(
    stored: np.ndarray, values: np.ndarray, value_range: tuple[float, float] | None, padding: np.ndarray | None
) -> None:
    """Refuse a window or table that makes one grey of a picture that has more: it is of another stage of decoding."""
    if value_range is None:
        return
    before, after = (part if padding is None else part[~padding] for part in (stored, values))
    if 255 * np.ptp(after) < value_range[1] - value_range[0] and np.ptp(before) >= 1:
        raise UnreadableImage("DICOM window or VOI LUT shows nothing: all pixels lie outside it")


def _window(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Map values to [0, 1] by the first window: DICOM PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (others)."""
    center, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
    function = str(_value(dataset, "VOILUTFunction") or "LINEAR").strip().upper()
    if function not in _FUNCTIONS:
        raise UnreadableImage("DICOM VOI LUT function is none of the standard's")
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise UnreadableImage("DICOM window width is not positive")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - center) / width)))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, _NARROWEST)
    return np.asarray(np.clip((values - center) / width + 0.5, 0, 1))


def _value(dataset: Dataset, name: str) -> Any:  # as pydicom types its elements
    """Return an element's value, None where the file has none."""
    return getattr(dataset, name, None)


def _number(dataset: Dataset, name: str, otherwise: float) -> float:
    value = _value(dataset, name)
    return otherwise if value is None else float(value)


def _first(value: object) -> float:
    return float(value[0]) if isinstance(value, pydicom.multival.MultiValue) else float(str(value))
