"""Pixels from image files (FORMATS) and DICOM. Only pixel values and how they are stored leave this module."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

from synthgain.datasets.compressed import check_wavelet, webp_size
from synthgain.datasets.pixels import (
    BYTE_RANGE,
    LFS_POINTER,
    MAX_PIXELS,
    Pixels,
    UnreadableImage,
    check_scans,
    check_size,
)

# Suffix: what such a file may hold. A JPEG with further pictures behind the first (cameras, phones) is MPO to Pillow.
FORMATS = {
    ".png": ("PNG",), ".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".jpe": ("JPEG", "MPO"),
    ".jfif": ("JPEG", "MPO"), ".mpo": ("MPO",), ".tif": ("TIFF",), ".tiff": ("TIFF",), ".gif": ("GIF",),
    ".bmp": ("BMP",), ".pbm": ("PPM",), ".pgm": ("PPM",), ".ppm": ("PPM",), ".pnm": ("PPM",),
    ".jp2": ("JPEG2000",), ".j2k": ("JPEG2000",), ".j2c": ("JPEG2000",), ".webp": ("WEBP",),
}  # fmt: skip
DICOM_SUFFIXES = (".dcm", ".dicom")
_READ = tuple(sorted({one for held in FORMATS.values() for one in held} - {"MPO"}))  # MPO opens as JPEG
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323
_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_OPAQUE = 255


@dataclass(frozen=True)
class Opened:
    """What a file says of how its pixels are stored: Pillow's format, raw modes, and largest value where it scales."""

    format: str
    raw_mode: str
    top: int | None
    lossy: bool
    white_is_zero: bool

    @property
    def sixteen_bit_colour(self) -> bool:
        """Whether Pillow keeps the high byte alone of what is stored."""
        return ";16" in self.raw_mode and not self.raw_mode.startswith("I")


def read_pixels(source: Path | bytes) -> Pixels:
    """Decode one image file, or the bytes of one.

    Raises UnreadableImage for missing, truncated or misnamed files, absurd sizes, several frames, NaN, transparency.
    16-bit colour is read at its high byte (Pillow's reading); EXIF rotation is applied; of a camera's file with several
    pictures the first counts.
    """
    if isinstance(source, Path):
        _check_file(source)
        suffix = source.suffix.lower()
        if suffix in DICOM_SUFFIXES or (suffix not in FORMATS and has_dicom_mark(source)):
            from synthgain.datasets.dicom import read_dicom  # loads pydicom: only where there is DICOM

            return read_dicom(source)
    image, opened = open_image(source)
    if image.mode in _EIGHT_BIT_MODES:
        if alpha_of(image) is not None:
            raise UnreadableImage("picture is partly transparent: flatten it on its background")
        return Pixels(_eight_bit(image), BYTE_RANGE)
    values = np.asarray(image, dtype=np.float32)
    if values.ndim != 2:
        raise UnreadableImage(f"pixel mode {image.mode} is not read")
    if not np.isfinite(values).all():
        raise UnreadableImage("holds NaN or infinite pixels")
    if opened.white_is_zero:
        values = values.max() + values.min() - values
    return Pixels(values, None)


def open_image(source: Path | bytes, what: str = "") -> tuple[Image.Image, Opened]:
    """Open by content, compare with the name, check the size, then decode; `what` opens every reason.

    Returns the upright image and how the file stores it. Raises UnreadableImage.
    """
    suffix = None
    if isinstance(source, Path):
        _check_file(source, what)
        suffix = source.suffix.lower()
        if suffix not in FORMATS:
            known = ", ".join(FORMATS)
            raise UnreadableImage(f"{what}file type {suffix or '(none)'} is not read (known: {known}, .dcm)")
    expected = FORMATS[suffix] if suffix else (*_READ, "MPO")
    content = source if isinstance(source, bytes) else b""
    name = source.name if isinstance(source, Path) else "picture"
    kind = expected[0] if suffix else "image"
    try:
        if suffix in (None, ".webp", ".jp2", ".j2k", ".j2c"):
            content = content or source.read_bytes() if isinstance(source, Path) else content
            webp_size(content, what)  # Pillow makes room for a WebP as soon as it opens it
        with Image.open(io.BytesIO(content) if content else source, formats=_READ) as image:
            if image.format not in expected:
                raise UnreadableImage(f"{what}named {suffix} but holds {image.format}")
            check_size(*image.size, what)
            _check_tiles(image, what)
            _check_frames(image, what)
            if image.format in ("JPEG", "MPO"):
                check_scans(content or _bytes(source), what)
            if image.format == "JPEG2000":
                check_wavelet(content or _bytes(source), image.size, what)
            opened = _opened(image, content)
            image.load()
            return _upright(image), opened
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{what}header promises more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # decoders raise anything on damaged bytes; one bad file must not end the run
        if (content or _bytes(source))[:128].startswith(LFS_POINTER):
            raise UnreadableImage(f"{what}is a Git LFS pointer: fetch the file (git lfs pull)") from error
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UnreadableImage(f"{what}not a whole {kind} file ({reason.replace(str(source), name)})") from error


def stored_top(opened: Opened, mode: str) -> int | None:
    """Return the largest value that grey is stored with where Pillow scales it to 8 or 16 bits, else None."""
    return opened.top if mode in ("L", "I", "I;16") else None


def alpha_of(image: Image.Image, what: str = "") -> np.ndarray | None:
    """Return the (H, W) uint8 alpha of an image of 8 bits, None where it has none or is opaque everywhere."""
    if not image.has_transparency_data:
        return None
    alpha = np.asarray(converted(image, "RGBA", what).getchannel("A"))
    return None if alpha.min() == _OPAQUE else alpha


def converted(image: Image.Image, mode: str, what: str = "") -> Image.Image:
    """Return the image in another pixel mode; not every one leads to grey or RGB (CIELAB, say)."""
    try:
        return image.convert(mode)
    except ValueError as error:
        raise UnreadableImage(f"{what}pixel mode {image.mode} is not read") from error


def _opened(image: ImageFile.ImageFile, content: bytes) -> Opened:
    """Return how an opened, not yet decoded file stores its pixels."""
    tile = image.tile[0] if image.tile else None
    arguments = () if tile is None else tile.args if isinstance(tile.args, tuple) else (tile.args,)
    raw_mode = str(arguments[0]) if arguments else ""
    bits = raw_mode.partition(";")[2].rstrip("IRS")
    top = {"2": 3, "4": 15}.get(bits)
    if image.format == "PPM" and tile is not None and tile.codec_name != "raw" and isinstance(arguments[-1], int):
        top = arguments[-1]  # the file's own white
    return Opened(
        format=str(image.format),
        raw_mode=raw_mode,
        top=top,
        lossy=image.format in ("JPEG", "MPO") or (image.format == "WEBP" and b"VP8L" not in content[:64]),
        white_is_zero=image.format == "TIFF" and image.getexif().get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO,
    )


def _check_tiles(image: Image.Image, what: str) -> None:
    """Refuse a TIFF of absurd tiles: libtiff makes room for a whole tile, however small the image."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_TIFF_TILE_WIDTH) or tags.get(_TIFF_TILE_LENGTH):
        check_size(int(tags.get(_TIFF_TILE_WIDTH, 0)), int(tags.get(_TIFF_TILE_LENGTH, 0)), what)


def _check_frames(image: Image.Image, what: str) -> None:
    """Refuse films and stacks. Only TIFF counts its frames without reading them all."""
    if image.format in ("TIFF", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise UnreadableImage(f"{what}holds {getattr(image, 'n_frames', 1)} frames, one is wanted")
    if image.format in ("GIF", "PNG") and getattr(image, "is_animated", False):
        raise UnreadableImage(f"{what}holds several frames, one is wanted")


def _upright(image: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(image)
    turned.format = image.format
    return turned


def _eight_bit(image: Image.Image) -> np.ndarray:
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(converted(image, "L"))
    return np.asarray(converted(image, "RGB"))


def _bytes(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


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
