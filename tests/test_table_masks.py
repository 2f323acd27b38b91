"""Masks of the table adapter: every encoding, several columns of a structure, and every bad mask by its reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthgain.datasets.source import Prepared
from synthgain.datasets.table import prepare
from synthgain.runtime.errors import SynthGainError

IMAGE = {"size": 8, "channels": 1, "fit": "stretch", "intensity": "none"}
SHAPE = (8, 8)


def square(top: int, left: int, side: int = 3, value: int = 1) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[top : top + side, left : left + side] = value
    return mask


def write_set(root: Path, masks: list[Any], **columns: list[str]) -> None:
    """Images 0.png … and a table; a mask is an array (written as PNG), a cell's text, or None for an empty cell."""
    (root / "masks").mkdir(exist_ok=True)
    cells = []
    for i, mask in enumerate(masks):
        Image.fromarray(np.full(SHAPE, 20 * i, np.uint8)).save(root / f"{i}.png")
        if isinstance(mask, np.ndarray):
            Image.fromarray(mask).save(root / f"masks/{i}.png")
            cells.append(f"masks/{i}.png")
        else:
            cells.append(mask or "")
    table = {"image": [f"{i}.png" for i in range(len(masks))], "mask": cells, **columns}
    pd.DataFrame(table).to_csv(root / "t.csv", index=False)


def read(root: Path, *entries: dict[str, Any], **options: Any) -> Prepared:
    listed = [{"column": "mask", "name": "lesion", **entry} for entry in entries or ({},)]
    return prepare({"table": "t.csv", "patient_id": None, "mask": listed, **options}, IMAGE, 0, root)


def reasons(got: Prepared) -> dict[str, str]:
    return dict(zip(got.quarantine["image"], got.quarantine["reason"], strict=True))


def test_one_bit_grey_and_label_maps_give_their_planes(tmp_path: Path) -> None:
    labels = square(0, 0, value=1) + square(4, 4, value=2)
    write_set(tmp_path, [labels, None, square(2, 2, value=2)])
    got = read(tmp_path, {"name": "a", "value": 1}, {"name": "b", "value": 2}, {"name": "any", "value": [1, 2]})
    assert got.mask_names == ["a", "b", "any"]
    assert got.masks is not None
    assert np.array_equal(got.masks[0, :, :, 0], labels == 1)
    assert np.array_equal(got.masks[0, :, :, 1], labels == 2)
    assert np.array_equal(got.masks[0, :, :, 2], labels > 0)
    assert got.table[["has_mask_a", "has_mask_any"]].to_numpy().tolist() == [[True] * 2, [False] * 2, [True] * 2]
    findings = got.facts["mask_findings"]
    assert findings["a"]["empty"] == 1  # the third file has no 1
    assert findings["b"]["values"] == {"0": 2, "1": 1, "2": 2}
    soft = np.array(Image.fromarray(square(1, 1, 5, 255)).resize((8, 8), Image.Resampling.BILINEAR, box=(0, 0, 7, 7)))
    write_set(tmp_path, [soft, square(1, 1, 5, 1).astype(bool)])
    grey = read(tmp_path, {"encoding": "grey"})
    assert grey.masks is not None
    assert np.array_equal(grey.masks[0, :, :, 0], soft > 127)
    assert grey.masks[1].sum() == 25
    assert "declare `value`" in reasons(read(tmp_path))["0.png"]


def test_jpeg_masks_are_cut_at_half(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    write_set(tmp_path, ["m.jpg"])
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "0.png")
    Image.fromarray(np.repeat(mask[..., None], 3, axis=2)).save(tmp_path / "m.jpg", quality=70)  # noise, in colour
    got = read(tmp_path)
    assert got.masks is not None
    assert got.masks.sum() == 16
    assert got.facts["mask_findings"]["lesion"]["values"] == {"0": 1, "255": 1}


def test_run_lengths_in_long_and_wide_tables(tmp_path: Path) -> None:
    write_set(tmp_path, ["1 2", "-1", ""])
    with (tmp_path / "t.csv").open("a") as table:
        table.write("0.png,64 1\n")  # a second region of the first image
    got = read(tmp_path, {"encoding": "rle"})
    assert got.masks is not None
    assert np.argwhere(got.masks[0, :, :, 0]).tolist() == [[0, 0], [1, 0], [7, 7]]
    assert got.table["has_mask_lesion"].tolist() == [True, True, False]
    assert got.quarantine.empty
    rows = read(tmp_path, {"encoding": "rle", "order": "row"})
    assert rows.masks is not None
    assert np.argwhere(rows.masks[0, :, :, 0]).tolist() == [[0, 0], [0, 1], [7, 7]]


def test_two_columns_of_one_structure_are_joined_and_halves_refused(tmp_path: Path) -> None:
    write_set(tmp_path, [square(0, 0), square(0, 0), None], right=["r0.png", "", ""])
    Image.fromarray(square(5, 5)).save(tmp_path / "r0.png")
    got = read(tmp_path, {}, {"column": "right"})
    assert got.mask_names == ["lesion"]
    assert got.masks is not None
    assert np.array_equal(got.masks[0, :, :, 0], square(0, 0) | square(5, 5))
    assert got.table["has_mask_lesion"].tolist() == [True, False]
    assert reasons(got) == {"1.png": "mask of lesion: right is empty while mask is not"}


def test_bad_masks_are_quarantined_with_their_reason(tmp_path: Path) -> None:
    other_size = np.ones((5, 9), np.uint8)
    write_set(
        tmp_path,
        [square(1, 1), other_size, square(1, 1, value=7), "gone.png", "../secret.png", square(0, 0), "masks/5.png"],
    )
    got = read(tmp_path, {"value": [1], "allowed": [1, 2]})
    found = reasons(got)
    assert found["1.png"] == "mask is (5, 9), its image (8, 8)"
    assert found["2.png"] == "label value 7 in mask is out of range (0, 1, 2)"
    assert found["3.png"] == "mask file not found"
    assert "'..'" in found["4.png"]
    assert found["5.png"] == "mask masks/5.png is also that of 6.png; one mask, one image"
    assert found["6.png"] == "mask masks/5.png is also that of 5.png; one mask, one image"
    assert got.table["image_id"].tolist() == ["0.png"]
    assert got.facts["mask_findings"]["lesion"]["wrong_size"] == 1


def test_a_value_that_the_depth_cannot_hold(tmp_path: Path) -> None:
    write_set(tmp_path, [square(1, 1), square(1, 1).astype(bool)])
    got = read(tmp_path, {"value": 300})
    assert reasons(got)["0.png"] == "value 300 cannot stand in a mask of 0 to 255"
    assert reasons(got)["1.png"] == "value 300 cannot stand in a mask of 0 to 1"


def test_run_lengths_that_overrun_name_their_image(tmp_path: Path) -> None:
    write_set(tmp_path, ["1 2", "60 9"])
    got = read(tmp_path, {"encoding": "rle"})
    assert "they end at pixel 68, it has 64" in reasons(got)["1.png"]
    assert len(got.table) == 1


@pytest.mark.parametrize(
    ("masks", "entry", "message"),
    [
        ([square(0, 0, 0), square(0, 0, 0), None], {}, r"t.csv: all 2 masks of lesion \(column mask\) are empty"),
        ([square(1, 1), square(1, 1)], {"value": 2}, r"all 2 masks of lesion .* check `value`"),
        (["-1", "-1"], {"encoding": "rle"}, "all 2 masks of lesion"),
        ([None, None], {}, "no row names a mask of lesion"),
        ([square(1, 1)], {"column": "maks"}, "no column 'maks'.*did you mean 'mask'"),
        ([square(1, 1)], {"encoding": "polygon"}, r"encoding: unknown 'polygon'; known: file, grey, rle"),
    ],
)
def test_what_spoils_the_whole_set_is_one_error(
    tmp_path: Path, masks: list[Any], entry: dict[str, Any], message: str
) -> None:
    write_set(tmp_path, masks)
    with pytest.raises(SynthGainError, match=message) as error:
        read(tmp_path, entry)
    assert "\n" not in str(error.value)


def test_files_that_no_row_names_and_masks_that_vanish_are_counted(tmp_path: Path) -> None:
    small = np.zeros((64, 64), np.uint8)
    small[3, 3] = 1
    write_set(tmp_path, [square(0, 0), np.ones(SHAPE, np.uint8), small], site_name=["a", "a", "b"])
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "2.png")
    Image.fromarray(square(0, 0)).save(tmp_path / "masks/orphan.png")
    (tmp_path / "masks/readme.txt").write_text("not a mask")
    one = read(tmp_path).facts["mask_findings"]["lesion"]
    assert (one["without_image"], one["without_image_listed"]) == (1, ["masks/orphan.png"])
    assert (one["full"], one["vanished"], one["empty"]) == (1, 1, 0)
    of_a = read(tmp_path, where={"site_name": "a"}).facts["mask_findings"]["lesion"]
    assert of_a["without_image"] == 1  # the file of the row that `where` leaves out has an image
