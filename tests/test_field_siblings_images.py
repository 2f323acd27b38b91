"""Siblings of the cases from the field: pictures and masks that other programs, scanners and disks leave behind."""

from pathlib import Path

import numpy as np
import pytest
from field_cases import SIDE, pictures, read, reasons, rows
from mutations import dicom, picture
from PIL import Image

from synthgain.datasets.label_maps import read_label_map
from synthgain.datasets.pixels import UnreadableImage
from synthgain.datasets.reading import read_pixels

RAMP = np.arange(40, 184, dtype=np.uint8).reshape(12, 12)
DEEP = RAMP.astype(np.uint16) * 16
NARROW = {"WindowCenter": "-5000", "WindowWidth": "100"}
LEFT = np.zeros((SIDE, SIDE), bool)
LEFT[:, :8] = True


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (NARROW, "window or VOI LUT shows nothing"),
        ({**NARROW, "PhotometricInterpretation": "MONOCHROME1"}, "window or VOI LUT shows nothing"),
        ({**NARROW, "VOILUTFunction": "SIGMOID"}, "window or VOI LUT shows nothing"),
        ({"WindowCenter": "0", "WindowWidth": "inf"}, "window or VOI LUT shows nothing"),
        ({"WindowCenter": "1500", "WindowWidth": "2000", "VOILUTFunction": "CUBIC"}, "none of the standard's"),
        ({"PresentationLUTShape": "INVERSE"}, "which end is white"),
        ({"BitsStored": 8, "HighBit": 7}, "outside the bits"),
    ],
)
def test_a_dicom_header_that_does_not_fit_its_pixels_leaves_the_image_out(
    tmp_path: Path, tags: dict[str, object], message: str
) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom(DEEP, **tags))
    with pytest.raises(UnreadableImage, match=message):
        read_pixels(tmp_path / "a.dcm")


def test_padding_under_a_window_does_not_hide_that_it_shows_nothing(tmp_path: Path) -> None:
    padded = DEEP.copy()
    padded[:4] = 0
    window = {"WindowCenter": "200", "WindowWidth": "100", "PixelPaddingValue": 0}
    (tmp_path / "a.dcm").write_bytes(dicom(padded, **window))
    with pytest.raises(UnreadableImage, match="shows nothing"):
        read_pixels(tmp_path / "a.dcm")


@pytest.mark.parametrize("extended", [True, False])
def test_signed_pixels_of_twelve_bits_keep_their_sign(tmp_path: Path, extended: bool) -> None:
    values = np.linspace(-2000, 2000, 144).astype(np.int16).reshape(12, 12)
    stored = values.view(np.uint16) if extended else values.view(np.uint16) & 0x0FFF
    (tmp_path / "a.dcm").write_bytes(dicom(stored, BitsStored=12, HighBit=11, PixelRepresentation=1))
    assert np.array_equal(read_pixels(tmp_path / "a.dcm").values, values)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPE", "a.jfif"])
def test_a_jpeg_whose_end_is_zeros_is_left_out(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    whole = picture(noise, "JPEG")
    (tmp_path / name).write_bytes(whole + b"\0" * 100)  # padded to a block: nothing is lost
    assert read_pixels(tmp_path / name).values.shape == (64, 64)
    (tmp_path / name).write_bytes(whole + b"film \xff\xda of a phone")  # what follows the end is no matter
    assert read_pixels(tmp_path / name).values.shape == (64, 64)
    preview = picture(noise[:8, :8], "JPEG")  # in a segment of the file, with an end of its own
    whole = whole[:2] + b"\xff\xef" + (len(preview) + 2).to_bytes(2, "big") + preview + whole[2:]
    (tmp_path / name).write_bytes(whole)
    assert read_pixels(tmp_path / name).values.shape == (64, 64)
    half = 2 * len(whole) // 3
    (tmp_path / name).write_bytes(
        whole[:half] + b"\0" * (len(whole) - half)
    )  # a download that was cut off, on a disk that made room
    with pytest.raises(UnreadableImage, match="scans have no end"):
        read_pixels(tmp_path / name)


def masks_of(root: Path, masks: list[np.ndarray | Image.Image], suffix: str = ".png", **declared: object) -> object:
    pictures(root, len(masks))
    names = [f"m{row}{suffix}" for row in range(len(masks))]
    for name, mask in zip(names, masks, strict=True):
        (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(root / name)
    return read(root, rows(len(masks), mask=names), mask=[{"column": "mask", "name": "a", **declared}])


@pytest.mark.parametrize("top", [3, 100])
def test_dim_masks_beside_bright_ones_never_become_empty(tmp_path: Path, top: int) -> None:
    soft = np.linspace(0, top, SIDE).astype(np.uint8)[None].repeat(SIDE, 0)
    got = masks_of(tmp_path, [soft, LEFT * np.uint8(255)], encoding="grey")
    assert reasons(got) == {
        "0.png": f"mask holds values up to {top}, none above half of 255; declare `encoding: file` for it"
    }


def test_a_label_map_that_was_saved_with_loss_is_left_out_and_soft_edges_are_not(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, :24], stripes[:, 24:48] = 100, 200
    Image.fromarray(stripes).save(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImage, match="holds several greys"):
        read_label_map(tmp_path / "a.jpg")
    disc = ((np.indices((64, 64)) - 31.5) ** 2).sum(axis=0) < 300
    for mask in (Image.fromarray(disc).convert("L"), Image.fromarray(disc).convert("L").resize((16, 16))):
        mask.save(tmp_path / "b.jpg", quality=60)
        assert read_label_map(tmp_path / "b.jpg").present() == [0, 255]


def test_a_palette_in_which_another_index_is_black_is_left_out(tmp_path: Path) -> None:
    indexed = Image.frombytes("P", (SIDE, SIDE), (~LEFT).astype(np.uint8).tobytes())
    indexed.putpalette([255, 0, 0, 0, 0, 0])
    indexed.save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="another index than 0 black"):
        read_label_map(tmp_path / "a.png")
    indexed.putpalette([0, 0, 0, 255, 0, 0])
    indexed.save(tmp_path / "b.png")
    assert np.array_equal(read_label_map(tmp_path / "b.png").values != 0, ~LEFT)


def test_an_image_that_is_named_as_its_own_mask_is_left_out(tmp_path: Path) -> None:
    pictures(tmp_path)
    Image.fromarray(LEFT).save(tmp_path / "m.png")
    got = read(
        tmp_path,
        rows(mask=["0.png", "./1.png", "m.png", ""]),
        mask=[{"column": "mask", "name": "a"}],
    )
    assert reasons(got) == {
        "0.png": "mask 0.png is the image itself; check the column mask",
        "1.png": "mask ./1.png is the image itself; check the column mask",
    }
