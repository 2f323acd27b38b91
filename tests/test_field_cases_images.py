"""Grey values, masks and formats of the stage that a file says (cases 3, 7, 8, 10, 14, 19, 28)."""

import io
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from field_cases import SIDE, grey, pictures, read, reasons, rows
from mutations import dicom, look_up, picture, png, png_header
from PIL import Image

from synthgain.datasets.dicom import _as_stored
from synthgain.datasets.geometry import fit_image
from synthgain.datasets.label_maps import LabelMap, read_label_map
from synthgain.datasets.pixels import Pixels, UnreadableImage
from synthgain.datasets.reading import read_pixels

RAMP = np.arange(40, 190, dtype=np.uint8)[:144].reshape(12, 12)
LABELS = np.zeros((SIDE, SIDE), np.uint8)
LABELS[:4], LABELS[4:8] = 1, 2
HALF = np.zeros((SIDE, SIDE), bool)
HALF[:, :8] = True


def seen(pixels: Pixels, intensity: str = "none") -> np.ndarray:
    """Return the grey values (H, W) of a square picture as a study has them."""
    image = {"size": pixels.values.shape[0], "channels": 1, "fit": "stretch", "intensity": intensity}
    return fit_image(pixels, image, "a")[:, :, 0]


def of(content: bytes, root: Path, name: str) -> Pixels:
    (root / name).write_bytes(content)
    return read_pixels(root / name)


def mask_of(content: bytes, root: Path, name: str = "m.png") -> LabelMap:
    (root / name).write_bytes(content)
    return read_label_map(root / name)


@pytest.mark.parametrize(
    "tags",
    [
        {}, {"RescaleSlope": "1", "RescaleIntercept": "-1024"}, {"RescaleSlope": "0.1", "RescaleIntercept": "0"},
        {"RescaleIntercept": "500"},
    ],
)  # fmt: skip
def test_case_3_eight_bits_without_a_window_are_as_stored(tmp_path: Path, tags: dict[str, str]) -> None:
    got = of(dicom(RAMP, **tags), tmp_path, "a.dcm")
    assert np.array_equal(seen(got), RAMP)
    inverted = of(dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **tags), tmp_path, "b.dcm")
    assert np.array_equal(seen(inverted), 255 - RAMP)


@pytest.mark.parametrize("slope", ["-10", "0", "-1"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_case_3_a_slope_that_exchanges_black_and_white_needs_a_window(
    tmp_path: Path, slope: str, depth: type[np.generic]
) -> None:
    values = RAMP.astype(depth)
    with pytest.raises(UnreadableImage, match="slope is not a positive number and there is no window"):
        of(dicom(values, RescaleSlope=slope, RescaleIntercept="3000"), tmp_path, "a.dcm")
    if slope == "-10":
        window = {"WindowCenter": "1750", "WindowWidth": "2550", "VOILUTFunction": "LINEAR_EXACT"}
        got = of(dicom(values, RescaleSlope=slope, RescaleIntercept="3000", **window), tmp_path, "b.dcm")
        # 3000 - 10 v over 475 ... 3025 as 0 ... 255
        assert np.abs(seen(got).astype(float) - (2525 - 10.0 * RAMP) / 10).max() <= 0.51


def test_case_3_signed_few_bits_and_look_up_tables(tmp_path: Path) -> None:
    signed = np.arange(-72, 72, dtype=np.int8).reshape(12, 12)
    got = of(dicom(signed, PixelRepresentation=1), tmp_path, "a.dcm")
    assert got.value_range == (-128, 127)
    assert np.array_equal(seen(got), (signed.astype(int) + 128).astype(np.uint8))
    six = RAMP // 4
    got = of(dicom(six, BitsStored=6, HighBit=5), tmp_path, "b.dcm")
    assert got.value_range == (0, 63)
    assert np.array_equal(seen(got), np.rint(six * (255 / 63)).astype(np.uint8))
    assert of(dicom(RAMP, ModalityLUTSequence=[look_up()]), tmp_path, "c.dcm").value_range is None  # of 16 bits
    assert of(dicom(RAMP.astype(np.uint16), BitsStored=12, HighBit=11), tmp_path, "d.dcm").value_range is None


def test_pixels_that_do_not_start_at_the_lowest_bit_are_left_out(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) << 4
    with pytest.raises(UnreadableImage, match="outside the bits"):
        of(dicom(deep, BitsStored=12, HighBit=15), tmp_path, "a.dcm")
    assert _as_stored(63536, np.dtype(np.int16)) == -2000  # written as if it were unsigned
    assert _as_stored(-2000, np.dtype(np.uint16)) == 63536


def padded(kind: type[np.generic], padding: int) -> np.ndarray:
    """Return a picture of 8000 to 16000 whose left third is padding."""
    values = np.linspace(8000, 16000, 24 * 24).reshape(24, 24).astype(kind)
    values[:, :8] = padding
    return values


@pytest.mark.parametrize(
    ("kind", "padding", "tags"),
    [
        (np.uint16, 0, {"PixelPaddingValue": 0}),
        (np.uint16, 65535, {"PixelPaddingValue": 65535}),
        (np.int16, -2000, {"PixelPaddingValue": -2000, "PixelRepresentation": 1}),
        (np.uint16, 40, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 50}),
        (np.uint16, 40, {"PixelPaddingValue": 50, "PixelPaddingRangeLimit": 0}),
    ],
)
@pytest.mark.parametrize("intensity", ["minmax", "percentile"])
def test_case_10_padding_is_black_and_takes_no_part_in_the_range(
    tmp_path: Path, kind: type[np.generic], padding: int, tags: dict[str, int], intensity: str
) -> None:
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        got = of(dicom(padded(kind, padding), PhotometricInterpretation=photometric, **tags), tmp_path, "a.dcm")
        grey_values = seen(got, intensity)
        assert not grey_values[:, :8].any()
        inside = grey_values[:, 8:]
        assert (int(inside.min()), int(inside.max())) == (0, 255)
        assert len(np.unique(inside)) > 150
        assert (inside[0, 0] > inside[-1, -1]) == (photometric == "MONOCHROME1")


def test_padding_under_a_window_and_nothing_but_padding(tmp_path: Path) -> None:
    window = {"WindowCenter": "12000", "WindowWidth": "8000"}
    got = of(dicom(padded(np.uint16, 65535), PixelPaddingValue=65535, **window), tmp_path, "a.dcm")
    assert not seen(got)[:, :8].any()
    assert seen(got)[-1, -1] == 255
    with pytest.raises(UnreadableImage, match="nothing but padding"):
        of(dicom(np.full((12, 12), 7, np.uint8), PixelPaddingValue=7), tmp_path, "b.dcm")


def low_bits(values: np.ndarray, bits: int) -> bytes:
    """Return a grey PNG of 1, 2 or 4 bits."""
    steps = np.arange(bits)[::-1]
    packed = np.packbits(((values[..., None] >> steps) & 1).reshape(len(values), -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in packed)

    return png([png_header(values.shape[1], values.shape[0], bits), b"IDAT" + zlib.compress(raw), b"IEND"])


@pytest.mark.parametrize("bits", [2, 4])
def test_case_7_grey_of_few_bits_holds_the_values_that_are_stored(tmp_path: Path, bits: int) -> None:
    got = mask_of(low_bits(LABELS, bits), tmp_path)
    assert np.array_equal(got.values, LABELS)
    assert got.top == 2**bits - 1
    shown = of(low_bits(LABELS, bits), tmp_path, "a.png")
    assert np.unique(shown.values).tolist() == [0, 255 // (2**bits - 1), 2 * 255 // (2**bits - 1)]
    if bits == 2:
        assert got.above_half().sum() == SIDE * 4
    else:  # 1 and 2 of 15: as grey they would all be background
        with pytest.raises(UnreadableImage, match="values up to 2, none above half of 15"):
            got.above_half()


@pytest.mark.parametrize("top", [2, 7, 100, 255])
def test_a_white_of_its_own_in_a_pgm(tmp_path: Path, top: int) -> None:
    got = mask_of(b"P5 16 16 %d\n" % top + LABELS.tobytes(), tmp_path, "m.pgm")
    assert np.array_equal(got.values, LABELS)


def test_label_maps_of_every_depth_and_coding(tmp_path: Path) -> None:
    palette = Image.fromarray(LABELS).convert("L")
    indexed = Image.frombytes("P", palette.size, LABELS.tobytes())
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    for image, name in (
        (indexed, "m.png"), (indexed, "m.gif"), (indexed, "m.bmp"), (Image.fromarray(LABELS), "m.tif"),
        (Image.fromarray(LABELS.astype(np.uint16)), "m.png"), (Image.fromarray(LABELS.astype(np.float32)), "m.tif"),
        (Image.fromarray(LABELS.astype(np.int32)), "m.tif"), (Image.fromarray(LABELS), "m.jp2"),
        (Image.fromarray(np.stack([LABELS] * 3, axis=2)), "m.png"), (Image.fromarray(LABELS), "m.pgm"),
    ):  # fmt: skip
        image.save(tmp_path / name)
        assert np.array_equal(read_label_map(tmp_path / name).values, LABELS), (name, image.mode)
    Image.fromarray(np.stack([LABELS] * 3, axis=2)).save(tmp_path / "m.webp", lossless=True)
    assert np.array_equal(read_label_map(tmp_path / "m.webp").values, LABELS)
    binary = Image.fromarray((HALF * 255).astype(np.uint8)).convert("P")  # a palette of all greys, indices 0 and 255
    binary.save(tmp_path / "p.png")
    assert np.array_equal(read_label_map(tmp_path / "p.png").values, HALF * np.uint8(255))
    fractions = Image.fromarray(LABELS.astype(np.float32) / 2)
    fractions.save(tmp_path / "f.tif")
    with pytest.raises(UnreadableImage, match="mask of fractions"):
        read_label_map(tmp_path / "f.tif")


def coloured(colour: tuple[int, int, int] | np.ndarray, alpha: np.ndarray) -> bytes:
    channels = np.empty((SIDE, SIDE, 4), np.uint8)
    channels[..., :3] = colour if isinstance(colour, tuple) else colour[..., None]
    channels[..., 3] = alpha
    return picture(channels, "PNG")


def test_case_8_a_mask_in_the_alpha_channel(tmp_path: Path) -> None:
    alpha = (HALF * 255).astype(np.uint8)
    for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0)):
        got = mask_of(coloured(colour, alpha), tmp_path)
        assert np.array_equal(got.values != 0, HALF)
        assert np.array_equal(got.above_half(), HALF)
    both = mask_of(coloured(alpha, alpha), tmp_path)
    assert np.array_equal(both.values, alpha)
    opaque = mask_of(coloured(alpha, np.full((SIDE, SIDE), 255, np.uint8)), tmp_path)
    assert np.array_equal(opaque.values, alpha)
    with pytest.raises(UnreadableImage, match="both colours and transparency"):
        mask_of(coloured(alpha.T.copy(), alpha), tmp_path)
    buffer = io.BytesIO()
    Image.merge("LA", (Image.new("L", (SIDE, SIDE)), Image.fromarray(alpha))).save(buffer, "PNG")
    assert np.array_equal(mask_of(buffer.getvalue(), tmp_path).values, alpha)


def test_case_8_a_picture_that_is_partly_transparent(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="partly transparent: flatten it"):
        of(coloured((0, 0, 0), (HALF * 255).astype(np.uint8)), tmp_path, "a.png")
    with pytest.raises(UnreadableImage, match="partly transparent"):
        of(picture(RAMP, "PNG", transparency=50), tmp_path, "key.png")
    opaque = of(coloured(LABELS * 100, np.full((SIDE, SIDE), 255, np.uint8)), tmp_path, "b.png")
    assert np.array_equal(opaque.values[..., 0], LABELS * 100)


def test_case_14_the_first_picture_of_a_camera_file(tmp_path: Path) -> None:
    first, second = Image.fromarray(grey(40)), Image.fromarray(grey(200))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    assert np.array_equal(read_pixels(tmp_path / "a.jpg").values, grey(40))
    assert np.array_equal(read_pixels((tmp_path / "a.jpg").read_bytes()).values, grey(40))


FORMATS = ["a.gif", "a.bmp", "a.pgm", "a.pnm", "a.jp2", "a.j2k", "a.png", "a.tif"]


@pytest.mark.parametrize("name", FORMATS)
def test_case_28_lossless_formats_give_the_pixels_back(tmp_path: Path, name: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / name)
    assert np.array_equal(seen(read_pixels(tmp_path / name)), RAMP)
    assert np.array_equal(seen(read_pixels((tmp_path / name).read_bytes())), RAMP)
    Image.fromarray((HALF * 255).astype(np.uint8)).save(tmp_path / name)
    assert np.array_equal(read_label_map(tmp_path / name).values != 0, HALF)
    assert np.array_equal(read_label_map(tmp_path / name).above_half(), HALF)


def test_case_28_webp_bits_and_what_is_not_read(tmp_path: Path) -> None:
    Image.fromarray(RAMP).convert("RGB").save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(read_pixels(tmp_path / "a.webp").values[..., 1], RAMP)
    Image.fromarray(HALF).save(tmp_path / "a.pbm")
    assert np.array_equal(read_pixels(tmp_path / "a.pbm").values == 255, HALF)
    for name in ("a.gif", "a.webp", "a.tif", "a.png"):
        frames = [Image.fromarray(grey(value)) for value in (0, 90)]
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(UnreadableImage, match="frames, one is wanted"):
            read_pixels(tmp_path / name)
    Image.fromarray(RAMP).save(tmp_path / "a.tga")
    with pytest.raises(UnreadableImage, match=r"file type \.tga is not read"):
        read_pixels(tmp_path / "a.tga")
    Image.fromarray(RAMP).save(tmp_path / "b.png")
    (tmp_path / "b.gif").write_bytes((tmp_path / "b.png").read_bytes())
    with pytest.raises(UnreadableImage, match=r"named \.gif but holds PNG"):
        read_pixels(tmp_path / "b.gif")


def absurd_webp() -> bytes:
    """Return a WebP of a few bytes whose canvas is 16,384 × 16,384."""
    side = (16_383).to_bytes(3, "little")
    body = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + side + side
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body + bytes(40)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.webp", absurd_webp()), ("a.pgm", b"P5 60000 60000 255\n"), ("a.gif", b"GIF89a\x60\xea\x60\xea\0\0\0;")],
)
def test_absurd_sizes_of_the_new_formats_are_refused_by_their_headers(
    tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(UnreadableImage, match=r"header promises|not a whole"):
        of(content, tmp_path, name)
    with pytest.raises(UnreadableImage, match=r"header promises|not a whole"):
        read_pixels(content)


def mask_table(root: Path, masks: list[np.ndarray | Image.Image], suffix: str = ".png") -> pd.DataFrame:
    pictures(root, len(masks))
    for row, mask in enumerate(masks):
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        image.save(root / f"m{row}{suffix}")
    return rows(len(masks), mask=[f"m{row}{suffix}" for row in range(len(masks))])


def test_case_19_masks_of_0_1_beside_0_255_never_become_empty(tmp_path: Path) -> None:
    table = mask_table(tmp_path, [HALF * np.uint8(255), HALF * np.uint8(1), HALF * np.uint8(255), HALF])
    got = read(tmp_path, table, mask=[{"column": "mask", "name": "lesion", "encoding": "grey"}])
    assert reasons(got) == {
        "1.png": "mask holds 0 and 1 alone, none above half of 255; declare `encoding: file` for it"
    }
    assert got.masks is not None
    assert (got.masks[..., 0] == HALF).all()
    as_labels = read(tmp_path, mask=[{"column": "mask", "name": "lesion"}])
    assert as_labels.masks is not None
    assert (as_labels.masks[..., 0] == HALF).all()
    one = read(tmp_path, mask=[{"column": "mask", "name": "lesion", "value": 255}])
    assert one.facts["notes"][0] == (
        "masks of lesion hold values that mean no structure ('1 (1 files)'); are some coded otherwise? Check `value`"
    )


def test_case_19_grey_masks_of_palettes_and_few_bits_are_cut_as_shown(tmp_path: Path) -> None:
    indexed = Image.frombytes("P", (SIDE, SIDE), HALF.astype(np.uint8).tobytes())
    indexed.putpalette([0, 0, 0, 255, 255, 255])
    got = read(
        tmp_path, mask_table(tmp_path, [indexed] * 2, ".gif"),
        mask=[{"column": "mask", "name": "lesion", "encoding": "grey"}],
    )  # fmt: skip
    assert got.masks is not None
    assert (got.masks[..., 0] == HALF).all()
    indexed.putpalette([255, 255, 255, 0, 0, 0])
    falling = read(
        tmp_path, mask_table(tmp_path, [indexed, HALF * np.uint8(255)]), mask=[{"column": "mask", "name": "a"}]
    )
    assert "palette gets darker as its values rise" in reasons(falling)["0.png"]


def test_masks_of_lossy_compression_without_white_and_inverted_masks(tmp_path: Path) -> None:
    table = mask_table(tmp_path, [HALF * np.uint8(1), HALF * np.uint8(255), np.zeros((SIDE, SIDE), np.uint8)], ".jpg")
    got = read(tmp_path, table, mask=[{"column": "mask", "name": "lesion"}])
    assert "lossy compression has nothing above half" in reasons(got)["0.png"]
    assert got.table["image_id"].tolist() == ["1.png", "2.png"]
    most = ~HALF
    most[:, 2:] = True
    inverted = read(tmp_path, mask_table(tmp_path, [most * np.uint8(255)] * 3), mask=[{"column": "mask", "name": "a"}])
    assert inverted.facts["notes"] == ["masks of a fill 88 % of their image (median); are they inverted?"]


def test_sixteen_bit_colour_masks_and_white_is_zero(tmp_path: Path) -> None:
    raw = b"".join(b"\0" + np.repeat(row.astype(">u2"), 3).tobytes() for row in LABELS)

    with pytest.raises(UnreadableImage, match="16-bit colour"):
        mask_of(png([png_header(SIDE, SIDE, 16, 2), b"IDAT" + zlib.compress(raw), b"IEND"]), tmp_path)
    Image.fromarray(LABELS).save(tmp_path / "m.tif", tiffinfo={262: 0})
    with pytest.raises(UnreadableImage, match="counts from white"):
        read_label_map(tmp_path / "m.tif")
