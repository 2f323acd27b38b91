"""Images and masks that lie: absurd headers, bombs, and thousands of damaged files give a reason or an image."""

import contextlib
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import (
    COLUMNS,
    EDITS,
    GREY,
    ROWS,
    damaged,
    dicom,
    jpeg,
    picture,
    png,
    png_header,
    run_length_frame,
    tiff,
    wavelet,
    whole_files,
)
from pydicom.uid import (
    JPEG2000,
    HTJ2KLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from synthgain.data.run_lengths import decode_runs
from synthgain.datasets import reading
from synthgain.datasets.geometry import fit_image
from synthgain.datasets.label_maps import read_label_map, structure_mask
from synthgain.datasets.pixels import UnreadableImage
from synthgain.datasets.reading import read_pixels

GEOMETRY = {"size": 16, "channels": 1, "fit": "pad", "intensity": "minmax"}
WHOLE = whole_files()
# The same examples every time: CI must not fail by chance. Longer campaigns change `derandomize` and the number.
FUZZING = settings(max_examples=200, derandomize=True, database=None, deadline=None)


def refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as error:
        read_pixels(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_miniatures_are_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    values = read_pixels(tmp_path / name).values
    assert values.shape[:2] in ((ROWS, COLUMNS), (COLUMNS, ROWS))  # EXIF turns one of them
    assert np.ptp(values) > 0


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (JPEG2000, wavelet(60_000, 60_000)),
        (JPEG2000, wavelet(60_000, 60_000, boxed=True)),
        (JPEG2000, wavelet(components=16_384)),
        (HTJ2KLossless, wavelet(60_000, 60_000)),
        (JPEGBaseline8Bit, jpeg(65_000, 65_000)),
        (JPEGExtended12Bit, jpeg(65_000, 65_000, 0xC1)),
        (JPEGLosslessSV1, jpeg(65_000, 65_000, 0xC3)),
        (JPEGLSLossless, jpeg(65_000, 65_000, 0xF7)),
        (JPEGBaseline8Bit, jpeg() + jpeg(65_000, 65_000)),  # a second image behind the first
        (JPEGBaseline8Bit, jpeg(ROWS + 1)),
        (JPEG2000, wavelet(ROWS, COLUMNS + 1)),
    ],
)  # fmt: skip
def test_a_compressed_frame_of_another_size_is_refused_before_it_is_decoded(
    tmp_path: Path, syntax: str, frame: bytes
) -> None:
    """Decoders make room for what the frame says: 12 GB and more for the first of these files of 800 bytes."""
    refused(tmp_path / "a.dcm", dicom(GREY, syntax, frame), "DICOM header says 24 × 20 pixels of 1, its compressed")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (dicom(GREY, Rows=65535, Columns=65535), "header promises 65535 × 65535"),
        (dicom(GREY, NumberOfFrames=100_000_000), "holds 100000000 frames"),
        (dicom(GREY, NumberOfFrames=2), "holds 2 frames"),
        (dicom(GREY, JPEGBaseline8Bit, b"\xff\xd8\xff\xd9"), "DICOM holds a JPEG whose scans have no end"),
        (dicom(GREY, JPEG2000, wavelet()[:30]), "no whole compressed frame"),
        (dicom(GREY, JPEG2000, b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\4jp2c"), "no whole compressed frame"),
        (dicom(GREY, RLELossless, run_length_frame() + bytes(100_000)), "more compressed data than its image"),
        (dicom(GREY, RLELossless, b"\xff" * 64 + run_length_frame()[64:]), "not a whole DICOM image"),
        (dicom(GREY, RLELossless, run_length_frame()[:80]), "not a whole DICOM image"),
        (dicom(GREY, RescaleSlope="1e300", RescaleIntercept="0"), "NaN or infinite"),
        (dicom(GREY, WindowWidth="-5", WindowCenter="1"), "window width is not positive"),
        (dicom(GREY, SamplesPerPixel=60000), "not a whole DICOM image"),
        (dicom(GREY, BitsStored=60000), "not a whole DICOM image"),
        (dicom(GREY, PixelData=b"\0" * 12), "not a whole DICOM image"),
    ],
)
def test_absurd_dicom_headers(tmp_path: Path, content: bytes, reason: str) -> None:
    refused(tmp_path / "a.dcm", content, reason)


ZEROS = zlib.compress(bytes(200 << 20), 9)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", png([png_header(100_000, 100_000), b"IDAT" + ZEROS[:100], b"IEND"]), "header promises"),
        ("a.png", png([png_header(0, 5), b"IDAT", b"IEND"]), "not a whole PNG|header promises"),
        ("a.png", png([png_header(COLUMNS, ROWS), b"zTXtk\0\0" + ZEROS, b"IEND"]), "MAX_TEXT_CHUNK"),
        ("a.png", png([png_header(COLUMNS, ROWS), b"iCCPk\0\0" + ZEROS, b"IEND"]), "MAX_TEXT_CHUNK"),
        ("a.tif", tiff({256: 100_000, 257: 100_000}), "header promises"),
        ("a.tif", tiff({322: 46_336, 323: 46_336, 324: 0, 325: 480}, 8), "header promises 46336 × 46336"),
        ("a.tif", tiff({322: 0, 323: 16, 324: 0, 325: 480}, 5), "header promises 0 × 16"),
        ("a.tif", tiff({277: 60_000}), "not a whole TIFF"),
        ("a.tif", tiff({278: 0xFFFFFFFF, 279: 0xFFFFFFFF}, 8), "not a whole TIFF"),
        ("a.tif", tiff({273: 0x7FFFFFFF}, 5), "not a whole TIFF"),
        ("a.jpg", jpeg(65_000, 65_000), "header promises"),
        ("a.tif", tiff({277: 2, 338: 1, 279: 960}), "pixel mode La is not read"),
    ],
)  # fmt: skip
def test_absurd_picture_headers_and_bombs(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    refused(tmp_path / name, content, reason)
    with pytest.raises(UnreadableImage, match="mask "):
        read_label_map(tmp_path / name)


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path: Path) -> None:
    stream = picture(np.zeros((ROWS, COLUMNS), np.uint8), "JPEG", progressive=True)
    scan = stream[stream.rindex(b"\xff\xda") :][:10]
    refused(tmp_path / "a.jpg", stream[:-2] + scan * 600 + stream[-2:], "JPEG of 606 scans")
    frame = jpeg()[:-2] + scan * 600
    refused(tmp_path / "a.dcm", dicom(GREY, JPEGBaseline8Bit, frame), "DICOM holds a JPEG of 601 scans")


def test_pixel_data_that_go_on_and_on_are_read_as_far_as_the_image_goes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png([png_header(COLUMNS, ROWS), b"IDAT" + ZEROS, b"IEND"]))
    assert not read_pixels(tmp_path / "a.png").values.any()


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "\udce9.png", "a\nb.png", ".", "folder.png"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.png").mkdir()
    for read in (read_pixels, read_label_map):
        with pytest.raises(UnreadableImage, match=r"not found|cannot be opened"):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".dcm", ".gif", ".bmp", ".pgm", ".jp2", ".webp"])
def test_damaged_files_give_an_image_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(reading, "MAX_PIXELS", 1 << 18)  # what passes is decoded: small, for speed
    path = tmp_path_factory.mktemp("damaged") / f"a{suffix}"
    names = sorted(name for name in WHOLE if name.endswith(suffix))
    said: list[str] = []

    @FUZZING
    @given(st.sampled_from(names), EDITS, st.booleans())
    def run(name: str, edits: list[tuple[str, float, int, int]], mend: bool) -> None:
        path.write_bytes(damaged(WHOLE[name], edits, mend and suffix == ".png"))
        try:
            pixels = read_pixels(path)
            assert np.isfinite(pixels.values).all()
            assert fit_image(pixels, GEOMETRY, name).shape == (16, 16, 1)
        except UnreadableImage as error:
            said.append(str(error))
        try:
            labels = read_label_map(path)
            assert structure_mask(labels, [1]).shape == labels.values.shape
        except UnreadableImage as error:
            said.append(str(error))

    run()
    assert said
    assert "\n" not in "".join(said)


NUMBERS = st.one_of(
    st.integers(-2, 40).map(str),
    st.sampled_from(["9" * 20, "1" * 5000, "1e3", "0x10", "-1", "٣", "²", "1_0", "+1", "\x00", ";", " ", "\udc80"]),
)


@FUZZING
@given(
    st.one_of(st.lists(NUMBERS, max_size=12).map(" ".join), st.text(max_size=40)),
    st.sampled_from(["rle", "rle_relative"]), st.sampled_from(["row", "column"]),
)  # fmt: skip
def test_any_text_is_a_mask_or_no_run_lengths(text: str, encoding: str, order: str) -> None:
    with contextlib.suppress(ValueError):
        assert decode_runs(text, (5, 7), encoding, order).shape == (5, 7)


def test_a_cell_of_very_many_masks_costs_one_array(tmp_path: Path) -> None:
    """One pass over the pixels for each of the 20,000 would be 1.3e12 steps: the test would not end."""
    mask = decode_runs(";".join(["1 3", "5 2"] * 10_000), (8192, 8192))
    assert mask.sum() == 5
