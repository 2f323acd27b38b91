"""Pixels and masks from files: PNG, JPEG, TIFF, DICOM. Only pixel values leave this module, never header fields."""

from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from PIL import Image, ImageOps

from synthgain.datasets.pixels import BYTE_RANGE, MAX_PIXELS, Pixels, UnreadableImage, check_scans, check_size

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
DICOM_SUFFIXES = (".dcm", ".dicom")
_JPEG_NOISE = 16  # grey levels between the channels of a grey JPEG that was saved in colour
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323
_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def read_pixels(path: Path) -> Pixels:
    """Decode one image file.

    Raises UnreadableImage for missing, truncated or misnamed files, absurd sizes, several frames, NaN. 16-bit
    colour PNG is read at its high byte (Pillow's reading); an alpha channel is dropped; EXIF rotation is applied.
    """
    suffix = path.suffix.lower()
    _check_file(path)
    if suffix in DICOM_SUFFIXES or (suffix not in FORMATS and has_dicom_mark(path)):
        from synthgain.datasets.dicom import read_dicom  # loads pydicom: only where there is DICOM

        return read_dicom(path)
    image = _decoded(path, suffix)
    if image.mode in _EIGHT_BIT_MODES:
        return Pixels(_eight_bit(image), BYTE_RANGE)
    values = np.asarray(image, dtype=np.float32)
    if values.ndim != 2:
        raise UnreadableImage(f"pixel mode {image.mode} is not read")
    if not np.isfinite(values).all():
        raise UnreadableImage("holds NaN or infinite pixels")
    if image.getexif().get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO and image.format == "TIFF":
        values = values.max() + values.min() - values
    return Pixels(values, None)


def read_label_map(path: Path) -> np.ndarray:
    """Decode a mask file to its (H, W) label values: bool for 1-bit files, else uint8, uint16 or int32.

    Palettes give indices; JPEG, whose values lie around black and white, is cut at half to 0 and 255.
    Raises UnreadableImage as `read_pixels`, and for masks in colour.
    """
    _check_file(path, "mask ")
    image = _decoded(path, path.suffix.lower(), "mask ")
    lossy = path.suffix.lower() in (".jpg", ".jpeg")
    if image.mode in ("1", "L", "P", "I;16", "I;16B", "I"):
        values = np.asarray(image)
    else:
        channels = np.asarray(_converted(image, "RGB", "mask "))
        if int(np.ptp(channels, axis=2).max()) > (_JPEG_NOISE if lossy else 0):
            raise UnreadableImage("mask in colour: save it as a label map of one channel")
        values = channels[:, :, 0]
    return np.where(values > BYTE_RANGE[1] / 2, np.uint8(255), np.uint8(0)) if lossy else values


def label_values(labels: np.ndarray) -> list[int]:
    """Return the values that stand in a label map, sorted."""
    if labels.dtype.kind == "i":
        return [int(value) for value in np.unique(labels)]
    present = np.zeros(largest_label(labels) + 1, bool)
    present[labels.astype(np.uint8) if labels.dtype == bool else labels] = True
    return [int(value) for value in np.flatnonzero(present)]


def largest_label(labels: np.ndarray) -> int:
    """Return the largest value that a label map of this depth can hold."""
    return 1 if labels.dtype == bool else int(np.iinfo(labels.dtype).max)


def structure_mask(labels: np.ndarray, declared: list[int] | None) -> np.ndarray:
    """Return the (H, W) bool mask of the `declared` label values; without any, the file must hold 0 and one other.

    Raises UnreadableImage where a label map has more values and none are declared, and where no declared value can
    stand in a map of its depth.
    """
    if declared is not None:
        if min(declared) > largest_label(labels):
            raise UnreadableImage(f"value {min(declared)} cannot stand in a mask of 0 to {largest_label(labels)}")
        return np.isin(labels, declared)
    others = [value for value in label_values(labels) if value != 0]
    if len(others) > 1:
        shown = ", ".join(str(value) for value in others[:5])
        raise UnreadableImage(f"mask is a label map (0, {shown} …): declare `value` for each structure")
    return labels != 0


def is_below(text: str) -> bool:
    """Whether a relative path stays in its folder: not empty, not absolute (POSIX or Windows), no '..'."""
    windows = PureWindowsPath(text)
    absolute = PurePosixPath(text).is_absolute() or bool(windows.drive or windows.root)
    return bool(text) and not absolute and ".." not in windows.parts


def safe_path(folder: Path, text: str) -> Path:
    """Return folder / text; UnreadableImage where that would leave the folder."""
    if not is_below(text):
        raise UnreadableImage("path is empty, absolute or holds '..'; paths are relative to the images folder")
    return folder / text


def _decoded(path: Path, suffix: str, what: str = "") -> Image.Image:
    """Open by content, compare with the name, check the size, then decode."""
    expected = FORMATS.get(suffix)
    if expected is None:
        raise UnreadableImage(f"{what}file type {suffix or '(none)'} is not read (known: {', '.join(FORMATS)}, .dcm)")
    try:
        with Image.open(path, formats=tuple(sorted(set(FORMATS.values())))) as image:
            if image.format != expected:
                raise UnreadableImage(f"{what}named {suffix} but holds {image.format}")
            check_size(*image.size, what)
            _check_tiles(image, what)
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise UnreadableImage(f"{what}holds {frames} frames, one is wanted")
            if expected == "JPEG":
                check_scans(path.read_bytes(), what)
            image.load()
            return _upright(image)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{what}header promises more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # decoders raise anything on damaged bytes; one bad file must not end the run
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UnreadableImage(f"{what}not a whole {expected} file ({reason.replace(str(path), path.name)})") from error


def _check_tiles(image: Image.Image, what: str) -> None:
    """Refuse a TIFF of absurd tiles: libtiff makes room for a whole tile, however small the image."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_TIFF_TILE_WIDTH) or tags.get(_TIFF_TILE_LENGTH):
        check_size(int(tags.get(_TIFF_TILE_WIDTH, 0)), int(tags.get(_TIFF_TILE_LENGTH, 0)), what)


def _upright(image: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(image)
    turned.format = image.format
    return turned


def _eight_bit(image: Image.Image) -> np.ndarray:
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(_converted(image, "L"))
    return np.asarray(_converted(image, "RGB"))


def _converted(image: Image.Image, mode: str, what: str = "") -> Image.Image:
    """Return the image in another pixel mode; not every one leads to grey or RGB (CIELAB, say)."""
    try:
        return image.convert(mode)
    except ValueError as error:
        raise UnreadableImage(f"{what}pixel mode {image.mode} is not read") from error


def _check_file(path: Path, what: str = "") -> None:
    try:
        if not path.is_file():
            raise UnreadableImage(f"{what}file not found")
        with path.open("rb"):
            pass
    except OSError as error:  # no permission, a name longer than the file system takes
        raise UnreadableImage(f"{what}file cannot be opened ({error.strerror})") from error


def has_dicom_mark(path: Path) -> bool:
    """True for a file that begins as DICOM files do, whatever it is called."""
    with path.open("rb") as handle:
        return handle.read(132)[128:] == b"DICM"
