"""The table adapter: columns, masks, ids and every bad input of a user's table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthgain.datasets.files import is_below
from synthgain.datasets.table import prepare
from synthgain.runtime.errors import SynthGainError

IMAGE = {"size": 16, "channels": 1, "fit": "pad", "intensity": "none"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (20, 24), dtype=np.uint8)).save(folder / f"images/{i}.png")
    mask = np.zeros((20, 24), bool)
    mask[5:15, 5:15] = True
    for i in (0, 2):
        Image.fromarray(mask).save(folder / f"mask{i}.png")
    rows = {
        "image": [f"images/{i}.png" for i in range(6)],
        "mask": ["mask0.png", "", "mask2.png", "", "", ""],
        "label": ["pneumonia", "normal", "pneumonia", "normal", "", "normal"],
        "findings": ["A|B", "None", "B", "", "A", "C"],
        "edema": ["1", "0", "-1", "", "1.0", "0"],
        "person": ["p0", "p0", "p1", "p2", "p3", "p4"],
        "hospital": ["h1", "h1", "h1", "h2", "h2", "h2"],
        "age": ["30", "431", "x", "", "64", "65"],
    }
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return tmp_path


def options(**more: Any) -> dict[str, Any]:
    return {"table": "set/table.csv", "patient_id": "person", **more}


OPACITY = {"opacity": {"column": "label", "map": {"pneumonia": 1, "normal": 0}}}


def test_maps_masks_and_sites(root: Path) -> None:
    mask = [{"column": "mask", "name": "lung"}]
    got = prepare(options(targets=OPACITY, site="hospital", mask=mask, constants={"view": "PA"}), IMAGE, 0, root, 2)
    assert got.images.shape == (6, 16, 16, 1)
    assert got.table["opacity"].tolist()[:4] == [1, 0, 1, 0]
    assert np.isnan(got.table["opacity"][4])
    assert got.table["site"].tolist() == ["h1"] * 3 + ["h2"] * 3
    assert got.masks is not None
    assert got.masks.shape == (6, 16, 16, 1)
    assert got.table["has_mask_lung"].tolist() == [True, False, True, False, False, False]
    assert got.masks.any(axis=(1, 2, 3)).tolist() == got.table["has_mask_lung"].tolist()
    assert got.columns["view"] == {"role": "covariate", "kind": "category", "levels": ["PA"]}
    assert got.facts["split_unit"] == "patient"


def test_parquet_and_threads_give_the_same(root: Path) -> None:
    table = pd.read_csv(root / "set/table.csv")  # ids and ages now numbers and NaN
    table.to_parquet(root / "set/table.parquet")
    one = prepare(options(targets=OPACITY), IMAGE, 0, root, 1)
    two = prepare(options(targets=OPACITY, table="set/table.parquet"), IMAGE, 0, root, 3)
    assert np.array_equal(one.images, two.images)
    pd.testing.assert_frame_equal(one.table, two.table)


def test_multilabel_where_and_keep(root: Path) -> None:
    multi = {"column": "findings", "labels": ["A", "B", "C"], "negative": ["None"]}
    got = prepare(options(multilabel=multi, where={"hospital": ["h1"]}, keep=["label"]), IMAGE, 0, root)
    assert got.table[["A", "B", "C"]].to_numpy().tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert got.table["label"].tolist() == ["pneumonia", "normal", "pneumonia"]
    strict = prepare(options(multilabel={**multi, "labels": ["A", "B"], "other": "quarantine"}), IMAGE, 0, root)
    assert strict.quarantine["image"].tolist() == ["images/5.png"]
    assert "'C' is not listed" in strict.quarantine["reason"][0]
    assert len(prepare(options(multilabel={**multi, "labels": ["A"]}), IMAGE, 0, root).table) == 6


@pytest.mark.parametrize(
    ("policy", "expected"), [("zero", [1, 0, 0, 9, 1, 0]), ("one", [1, 0, 1, 9, 1, 0]), ("drop", [1, 0, 9, 9, 1, 0])]
)
def test_uncertain_labels(root: Path, policy: str, expected: list[int]) -> None:
    spec = {"edema": {"column": "edema", "uncertain": {"value": -1, "policy": policy}}}
    got = prepare(options(targets=spec), IMAGE, 0, root)
    assert got.table["edema"].fillna(9).tolist() == expected
    assert got.quarantine.empty


def test_impossible_numbers_become_unknown_and_counted_and_bins_are_half_open(root: Path) -> None:
    age = {"column": "age", "kind": "continuous", "range": [0, 120]}
    got = prepare(options(covariates={"age": age, "group": {**age, "bins": [0, 30, 65, 120]}}), IMAGE, 0, root)
    assert got.table["age"].fillna(-1).tolist() == [30, -1, -1, -1, 64, 65]
    assert got.facts["impossible_values"] == {"age": 2, "group": 2}
    assert got.table["group"].tolist() == ["30-65", None, None, None, "30-65", "65-120"]


def test_label_outside_the_map_is_quarantined_and_named(root: Path) -> None:
    got = prepare(options(targets={"opacity": {"column": "label", "map": {"pneumonia": 1}}}), IMAGE, 0, root)
    assert got.quarantine["image"].tolist() == ["images/1.png", "images/3.png", "images/5.png"]
    assert "'normal' is not in the map" in got.quarantine["reason"][0]
    levels = prepare(
        options(targets={"x": {"column": "label", "kind": "category", "levels": ["normal"]}}), IMAGE, 0, root
    )
    assert levels.table["x"].tolist() == ["normal", "normal", None, "normal"]


def test_unreadable_other_size_and_escaping_paths_are_quarantined(root: Path) -> None:
    (root / "secret.png").write_bytes((root / "set/images/0.png").read_bytes())
    (root / "set/images/1.png").write_bytes(b"not an image")
    Image.fromarray(np.zeros((9, 31), np.uint8)).save(root / "set/images/2.png")
    table = pd.read_csv(root / "set/table.csv", dtype=str, keep_default_na=False)
    table.loc[3, "image"] = "../secret.png"
    table.loc[4, "image"] = str(root / "secret.png")
    table.loc[5, "person"] = ""
    table.to_csv(root / "set/table.csv", index=False)
    got = prepare(options(mask=[{"column": "mask", "name": "lung"}]), IMAGE, 0, root, 2)
    reasons = dict(zip(got.quarantine["image"], got.quarantine["reason"], strict=True))
    assert "not a whole PNG" in reasons["images/1.png"]
    assert "mask is (20, 24), its image (9, 31)" in reasons["images/2.png"]
    assert ".." in reasons["../secret.png"]
    assert "absolute" in reasons[str(root / "secret.png")]
    assert reasons["images/5.png"] == "no patient id"
    assert got.table["image_id"].tolist() == ["images/0.png"]
    assert len(got.images) == 1
    assert got.masks is not None
    assert len(got.masks) == 1


def test_explicit_null_patient_is_an_image_level_split(root: Path) -> None:
    got = prepare(options(patient_id=None), IMAGE, 0, root)
    assert got.facts["split_unit"] == "image"
    assert got.table["patient_id"].tolist() == got.table["image_id"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": {"opacity": {"column": "lable"}}}, "no column 'lable'.*did you mean 'label'"),
        ({"multilabel": {"column": "label", "labels": ["pneumona"]}}, "has the label 'pneumona'; did you mean"),
        ({"patient_id": "persn"}, "did you mean 'person'"),
        ({"where": {"hospital": "h9"}}, "leaves no row"),
        ({"table": "set/nothing.csv"}, "no such table"),
        ({"table": "../table.csv"}, "without '..'"),
        ({"images": "/etc"}, "below the data root"),
        ({"targets": {"patient_id": {"column": "label"}}}, "cannot be named"),
        ({"targets": OPACITY, "constants": {"opacity": "1"}}, "declared twice"),
        ({"targets": {"x": {"column": "label", "kind": "text"}}}, "unknown 'text'; known: binary, category"),
    ],
)
def test_wrong_options_stop_with_one_line(root: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SynthGainError, match=message) as error:
        prepare(options(**change), IMAGE, 0, root)
    assert "\n" not in str(error.value)


def test_missing_root_and_missing_patient_key(root: Path) -> None:
    with pytest.raises(SynthGainError, match="data root is missing: pass --config data_root=FOLDER"):
        prepare(options(), IMAGE, 0, None)
    with pytest.raises(SynthGainError, match="SYNTHGAIN_DATA"):
        prepare(options(), IMAGE, 0, root / "nowhere")
    with pytest.raises(SynthGainError, match=r"table\.patient_id: is missing"):
        prepare({"table": "set/table.csv"}, IMAGE, 0, root)


def test_sixteen_bit_without_a_rule_stops(root: Path) -> None:
    Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24)).save(root / "set/images/0.png")
    with pytest.raises(SynthGainError, match=r"images/0.png: more than 8 bits.*image.intensity: minmax"):
        prepare(options(), IMAGE, 0, root)
    assert len(prepare(options(), {**IMAGE, "intensity": "percentile"}, 0, root).table) == 6


@pytest.mark.parametrize(("text", "fine"), [("a/b.png", True), ("", False), ("/a", False), ("a/../b", False),
                                            ("C:\\a", False), ("..\\a", False), ("a..b/c", True)])  # fmt: skip
def test_is_below(text: str, fine: bool) -> None:
    assert is_below(text) is fine
