"""Reading images and masks of every kind, hostile and damaged files, and the one geometry."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from synthgain.datasets.geometry import fit_image, fit_mask
from synthgain.datasets.label_maps import read_label_map, structure_mask
from synthgain.datasets.pixels import MAX_PIXELS, Pixels, UnreadableImage
from synthgain.datasets.reading import read_pixels
from synthgain.runtime.errors import SynthGainError

GEOMETRY = {"size": 16, "channels": 1, "fit": "pad", "intensity": "none"}
RAMP = np.linspace(0, 255, 24 * 20).reshape(24, 20).astype(np.uint8)


def _dicom(path: Path, values: np.ndarray, **tags: object) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.PatientName, data.PatientID = "Doe^Secret", "secret-42"
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = values.dtype.itemsize * 8
    data.BitsStored = data.BitsAllocated
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    data.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_lossless_formats_give_the_pixels_back(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / f"a{suffix}")
    assert np.array_equal(read_pixels(tmp_path / f"a{suffix}").values, RAMP)


def test_jpeg_is_close_and_palette_and_alpha_become_colour(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_pixels(tmp_path / "a.jpg").values.astype(int) - RAMP).max() < 12
    Image.fromarray(RAMP).convert("RGBA").save(tmp_path / "a.png")
    assert read_pixels(tmp_path / "a.png").values.shape == (24, 20, 3)


def test_sixteen_bit_needs_a_declared_intensity(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 16).save(tmp_path / "a.png")
    pixels = read_pixels(tmp_path / "a.png")
    assert pixels.value_range is None
    with pytest.raises(SynthGainError, match=r"image\.intensity: minmax"):
        fit_image(pixels, GEOMETRY, "a.png")
    out = fit_image(pixels, {**GEOMETRY, "size": 20, "fit": "crop", "intensity": "minmax"}, "a.png")
    assert out.shape == (20, 20, 1)
    assert int(out.max()) - int(out.min()) > 180


def test_eight_bit_is_untouched_by_intensity_none() -> None:
    image = np.random.default_rng(0).integers(40, 90, (16, 16), dtype=np.uint8)
    assert np.array_equal(fit_image(Pixels(image, (0, 255)), GEOMETRY, "a")[:, :, 0], image)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", "not a whole PNG"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"x" * 50, "not a whole PNG"),
        ("a.dcm", b"\0" * 128 + b"DICM" + b"x" * 40, "header promises 0 × 0 pixels|not a whole DICOM"),
        ("a.exe", b"MZ", "file type .exe is not read"),
    ],
)
def test_damaged_files_say_why(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason):
        read_pixels(tmp_path / name)


def test_truncated_misnamed_missing_and_multi_frame(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jpg").write_bytes(whole)
    frame = Image.fromarray(noise)
    frame.save(tmp_path / "many.tif", save_all=True, append_images=[frame])
    for name, reason in [
        ("cut.png", "not a whole PNG"),
        ("b.jpg", "named .jpg but holds PNG"),
        ("gone.png", "file not found"),
        ("many.tif", "2 frames"),
    ]:
        with pytest.raises(UnreadableImage, match=reason):
            read_pixels(tmp_path / name)


def _png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (body, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [8193, 100_000])
def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path, side: int) -> None:
    assert side * side > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(_png_header(side, side))
    with pytest.raises(UnreadableImage, match="header promises"):
        read_pixels(tmp_path / "bomb.png")
    _dicom(tmp_path / "bomb.dcm", RAMP, Rows=65535, Columns=65535)
    with pytest.raises(UnreadableImage, match="header promises"):
        read_pixels(tmp_path / "bomb.dcm")


def test_dicom_window_and_monochrome1(tmp_path: Path) -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    window = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 1024}
    seen = read_pixels(_dicom(tmp_path / "a.dcm", values, **window))
    assert seen.value_range == (0, 255)
    flat = seen.values.ravel()
    assert flat[1500] == 0
    assert flat[2600] == 255
    # DICOM PS3.3 C.11.2.1.2: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
    assert flat[2000] == pytest.approx(((2000 - 2047.5) / 1023 + 0.5) * 255, abs=1e-3)
    inverted = read_pixels(_dicom(tmp_path / "b.dcm", values, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.allclose(inverted.values, 255 - seen.values, atol=1e-3)


def test_dicom_without_window_has_no_declared_range(tmp_path: Path) -> None:
    values = np.arange(400, dtype=np.uint16).reshape(20, 20)
    assert read_pixels(_dicom(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11)).value_range is None
    assert read_pixels(_dicom(tmp_path / "b.dcm", RAMP)).value_range == (0, 255)


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "JPGExtended.dcm"])
def test_compressed_dicom_is_decoded(name: str, tmp_path: Path) -> None:
    path = get_testdata_file(name)
    if path is None:
        pytest.skip(f"pydicom ships no {name} here")
    try:
        pixels = read_pixels(Path(str(path)))
    except UnreadableImage as error:
        assert "photometric" in str(error) or "frames" in str(error)  # noqa: PT017
        return
    assert pixels.values.ndim == 2
    assert np.ptp(pixels.values) > 0


def test_personal_fields_never_leave_the_reader(tmp_path: Path) -> None:
    path = _dicom(tmp_path / "a.dcm", RAMP)
    assert pydicom.dcmread(path).PatientName == "Doe^Secret"
    assert set(vars(read_pixels(path))) == {"values", "value_range", "padding"}
    _dicom(tmp_path / "b.dcm", RAMP, PixelData=b"\0" * 10)
    with pytest.raises(UnreadableImage) as error:
        read_pixels(tmp_path / "b.dcm")
    assert "ecret" not in f"{error.value}{error.value.__cause__}"


def test_masks_one_bit_label_map_and_undeclared_values(tmp_path: Path) -> None:
    half = np.zeros((24, 20), np.uint8)
    half[:, :10] = 1
    Image.fromarray(half.astype(bool)).save(tmp_path / "bit.png")
    assert np.array_equal(structure_mask(read_label_map(tmp_path / "bit.png"), None), half == 1)
    labels = half.copy()
    labels[:5] = 2
    Image.fromarray(labels).save(tmp_path / "map.png")
    read = read_label_map(tmp_path / "map.png")
    assert np.array_equal(structure_mask(read, [2]), labels == 2)
    with pytest.raises(UnreadableImage, match="declare `value`"):
        structure_mask(read, None)
    Image.fromarray(np.stack([half, half * 9, half], axis=2)).save(tmp_path / "colour.png")
    with pytest.raises(UnreadableImage, match="colour"):
        read_label_map(tmp_path / "colour.png")


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 60), st.sampled_from(["pad", "crop", "stretch"]), st.sampled_from([1, 3]),
    st.sampled_from(["none", "minmax", "percentile"]),
)  # fmt: skip
def test_any_shape_comes_out_in_the_geometry(height: int, width: int, fit: str, channels: int, intensity: str) -> None:
    image = {"size": 16, "channels": channels, "fit": fit, "intensity": intensity}
    white = np.full((height, width), 255, np.uint8)
    out = fit_image(Pixels(white, (0, 255)), image, "a")
    assert out.shape == (16, 16, channels)
    assert out.dtype == np.uint8
    mask = fit_mask(white > 0, image)
    assert set(np.unique(mask)) <= {0, 1}
    if intensity == "none":  # image and mask land on the same pixels
        assert np.array_equal(mask == 1, out[:, :, 0] == 255)


def test_masks_are_box_averaged_and_cut_at_one_half() -> None:
    mask = np.zeros((32, 32), bool)
    mask[:, ::2] = True  # every 2 × 2 block is exactly half full
    assert fit_mask(mask, GEOMETRY).all()
    mask[1::2, 0] = False
    assert not fit_mask(mask, GEOMETRY)[:, 0].any()
