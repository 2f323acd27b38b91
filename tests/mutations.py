"""Valid miniature files of every format that is read, and ways to damage them: for the tests of untrusted input."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

ROWS, COLUMNS = 24, 20
GREY = (np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) * 5 % 256).astype(np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)
DEEP = GREY.astype(np.uint16) * 200
ABSURD = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def picture(pixels: np.ndarray, kind: str, mode: str | None = None, **saving: Any) -> bytes:
    """Return an image file of Pillow's format `kind`."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **saving)
    return buffer.getvalue()


def dicom(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, frame: bytes | None = None, **tags: Any) -> bytes:
    """Return a DICOM file of `pixels`, or of the compressed `frame` under a header that says it holds `pixels`."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = syntax
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    data.PixelData = pixels.tobytes() if frame is None else encapsulate([frame])
    if frame is not None:
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    for name, value in tags.items():
        setattr(data, name, value)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def jpeg(rows: int = ROWS, columns: int = COLUMNS, marker: int = 0xC0) -> bytes:
    """Return a JPEG stream of GREY whose frame header claims another size, or is of another kind."""
    data = bytearray(picture(GREY, "JPEG"))
    place = data.index(b"\xff\xc0")
    struct.pack_into(">BBHBHH", data, place, 0xFF, marker, 11, 8, rows, columns)
    return bytes(data)


def wavelet(rows: int = ROWS, columns: int = COLUMNS, components: int = 1, boxed: bool = False) -> bytes:
    """Return a JPEG 2000 codestream of GREY (or a JP2 file around it) whose SIZ segment claims another size."""
    data = bytearray(picture(GREY, "JPEG2000", no_jp2=not boxed, num_resolutions=2))
    place = data.index(b"\xff\x4f\xff\x51")
    struct.pack_into(">8IH", data, place + 8, columns, rows, 0, 0, columns, rows, 0, 0, components)
    return bytes(data)


def run_length_frame() -> bytes:
    """Return an RLE frame of GREY (one segment of literal runs)."""
    flat = GREY.tobytes()
    runs = b"".join(bytes([len(flat[i : i + 128]) - 1]) + flat[i : i + 128] for i in range(0, len(flat), 128))
    return struct.pack("<16I", 1, 64, *[0] * 14) + runs


def look_up() -> Dataset:
    """Return one item of a look-up table sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 16])
    item.add_new("LUTData", "OW", (257 * np.arange(256)).astype(np.uint16).tobytes())
    return item


def tiff(changes: dict[int, int], compression: int = 1) -> bytes:
    """Return a TIFF of GREY's size, 8 bit, with `changes` of its tags (or new ones), over 1,024 bytes."""
    tags = {256: COLUMNS, 257: ROWS, 258: 8, 259: compression, 262: 1, 273: 0, 277: 1, 278: ROWS, 279: 480, **changes}
    if 324 in tags:  # tiles in place of strips
        tags = {tag: value for tag, value in tags.items() if tag not in (273, 278, 279)}
    start = 8 + 2 + 12 * len(tags) + 4
    tags |= {tag: start for tag in (273, 324) if tag in tags}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + bytes(range(256)) * 4


def png(chunks: list[bytes]) -> bytes:
    """Return a PNG of chunks (name and content), with right checksums."""
    parts = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_header(columns: int, rows: int, depth: int = 8, colour: int = 0) -> bytes:
    """Return an IHDR chunk."""
    return b"IHDR" + struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)


def whole_files() -> dict[str, bytes]:
    """Return {name: bytes} of a valid miniature of every kind that is read."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "described"
    window = {"WindowCenter": 2000, "WindowWidth": 1000, "RescaleSlope": "1.5", "RescaleIntercept": "-10"}
    return {
        "grey.png": picture(GREY, "PNG"),
        "colour.png": picture(COLOUR, "PNG"),
        "deep.png": picture(DEEP, "PNG"),
        "palette.png": picture(COLOUR, "PNG", "P"),
        "bit.png": picture(GREY, "PNG", "1"),
        "alpha.png": picture(COLOUR, "PNG", "RGBA"),
        "exif.png": picture(GREY, "PNG", exif=exif),
        "grey.jpg": picture(GREY, "JPEG"),
        "colour.jpg": picture(COLOUR, "JPEG", progressive=True),
        "exif.jpg": picture(COLOUR, "JPEG", exif=exif),
        "cmyk.jpg": picture(COLOUR, "JPEG", "CMYK"),
        "grey.tif": picture(GREY, "TIFF"),
        "deep.tif": picture(DEEP, "TIFF", compression="tiff_adobe_deflate"),
        "float.tif": picture(GREY.astype(np.float32), "TIFF"),
        "integer.tif": picture(GREY.astype(np.int32), "TIFF"),
        "lzw.tif": picture(COLOUR, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": picture(COLOUR, "TIFF", compression="jpeg"),
        "packbits.tif": picture(COLOUR, "TIFF", compression="packbits"),
        "fax.tif": picture(GREY, "TIFF", "1", compression="group4"),
        "tiles.tif": tiff({322: 32, 323: 32, 324: 0, 325: 1024}),
        "grey.gif": picture(GREY, "GIF"),
        "palette.gif": picture(COLOUR, "GIF", "P"),
        "grey.bmp": picture(GREY, "BMP"),
        "colour.bmp": picture(COLOUR, "BMP"),
        "palette.bmp": picture(COLOUR, "BMP", "P"),
        "grey.pgm": picture(GREY, "PPM"),
        "white.pgm": b"P5 20 24 254\n" + np.minimum(GREY, 254).tobytes(),
        "plain.pgm": b"P2 20 24 255\n" + " ".join(map(str, GREY.ravel())).encode(),
        "colour.ppm": picture(COLOUR, "PPM"),
        "grey.jp2": picture(GREY, "JPEG2000"),
        "colour.j2k": picture(COLOUR, "JPEG2000", no_jp2=True),
        "colour.webp": picture(COLOUR, "WEBP", lossless=True),
        "lossy.webp": picture(COLOUR, "WEBP"),
        "camera.jpg": picture(GREY, "MPO", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
        "grey.dcm": dicom(GREY),
        "colour.dcm": dicom(COLOUR),
        "window.dcm": dicom(DEEP, ImplicitVRLittleEndian, **window),
        "voi.dcm": dicom(GREY, VOILUTSequence=[look_up()]),
        "modality.dcm": dicom(GREY, ModalityLUTSequence=[look_up()]),
        "rle.dcm": dicom(GREY, RLELossless, run_length_frame()),
        "jpeg.dcm": dicom(GREY, JPEGBaseline8Bit, jpeg()),
        "wavelet.dcm": dicom(GREY, JPEG2000, wavelet()),
        "boxed.dcm": dicom(GREY, JPEG2000, wavelet(boxed=True)),
    }


def _edit(data: bytearray, edit: tuple[str, float, int, int]) -> None:
    kind, where, width, value = edit
    if not data:
        return
    place = min(int(where**2 * len(data)), len(data) - 1)  # headers stand in front
    if kind == "flip":
        data[place] ^= 1 << (value % 8)
    elif kind == "write":
        end = min(place + width, len(data))
        number = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little" if value % 3 else "big")
        data[place:end] = number[: end - place]
    elif kind == "cut":
        del data[place : place + width]
    elif kind == "repeat":
        data[place:place] = data[place : place + width * 8]
    else:
        del data[place:]


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "write", "write", "cut", "repeat", "end"]),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([1, 2, 4, 8]),
        st.one_of(st.sampled_from(ABSURD), st.integers(0, 2**32)),
    ),
    min_size=1,
    max_size=6,
)


def damaged(data: bytes, edits: list[tuple[str, float, int, int]], mend: bool = False) -> bytes:
    """Return `data` after the edits; with `mend`, a PNG's checksums are made right again: its decoder goes on."""
    changed = bytearray(data)
    for edit in edits:
        _edit(changed, edit)
    return _with_checksums(bytes(changed)) if mend else bytes(changed)


def _with_checksums(data: bytes) -> bytes:
    place, parts = 8, []
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if place + 12 + length > len(data):
            break
        parts.append(data[place + 4 : place + 8 + length])
        place += 12 + length
    return png(parts) + data[place:]
