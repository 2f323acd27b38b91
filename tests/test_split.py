"""Splits: disjoint, stratified, deterministic; from a column; refused where they cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_inputs import new_job

from split_dataset import split_dataset
from synthgain.data.image_set import write_image_set
from synthgain.datasets.duplicates import exact_groups
from synthgain.datasets.split import (
    SplitColumn,
    assert_disjoint,
    check_classes,
    label_indicators,
    split_by_fractions,
    split_from_column,
)
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table

FRACTIONS = {"train": 0.5, "validation": 0.2, "test": 0.3}


def make_table(patients: int, labels: int, seed: int = 0, largest: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"p{i}" for i in range(patients)], rng.integers(1, largest + 1, patients))
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(ids))], "patient_id": ids})
    table["sha256"] = table["image_id"]
    for label in range(labels):
        rate = 0.5 / (label + 1)
        table[f"t{label}"] = (rng.random(len(ids)) < rate).astype(np.float32)
    return table


def split(table: pd.DataFrame, columns: list[str], seed: int = 0) -> np.ndarray:
    groups = exact_groups(table["patient_id"], table["sha256"])
    return split_by_fractions(groups, label_indicators(table, columns), FRACTIONS, np.random.default_rng(seed))


def as_frame(table: pd.DataFrame, parts: np.ndarray) -> pd.DataFrame:
    return table[["image_id", "patient_id"]].assign(part=parts)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 80), st.integers(0, 4), st.integers(0, 10_000))
def test_no_patient_crosses_and_every_image_has_a_part(patients: int, labels: int, seed: int) -> None:
    table = make_table(patients, labels, seed)
    parts = split(table, [f"t{i}" for i in range(labels)], seed)
    assert_disjoint(as_frame(table, parts))
    assert len(parts) == len(table)


def test_stratified_in_every_label_and_size() -> None:
    table = make_table(600, 5)
    parts = split(table, [f"t{i}" for i in range(5)])
    for part, share in FRACTIONS.items():
        rows = parts == part
        assert rows.mean() == pytest.approx(share, abs=0.01)
        assert table.loc[rows, "patient_id"].nunique() / 600 == pytest.approx(share, abs=0.04)
        for label in range(5):
            assert table.loc[rows, f"t{label}"].sum() / table[f"t{label}"].sum() == pytest.approx(share, abs=0.02)


def test_deterministic_and_seeded() -> None:
    table = make_table(100, 2)
    assert (split(table, ["t0"], 1) == split(table, ["t0"], 1)).all()
    assert (split(table, ["t0"], 1) != split(table, ["t0"], 2)).any()


def test_continuous_and_category_columns_stratify() -> None:
    table = make_table(300, 0).assign(site="a")
    table["age"] = np.arange(len(table), dtype=np.float32)
    table.loc[0, "age"] = np.nan
    table.loc[: len(table) // 3, "site"] = "b"
    labels = label_indicators(table, ["age", "site"])
    assert [name for name in labels if name.startswith("site")] == ["site = a", "site = b"]
    assert labels.filter(like="age").shape[1] == 4
    assert labels.filter(like="age").iloc[0].sum() == 0


def test_duplicates_join_patients() -> None:
    table = make_table(40, 1)
    table.loc[table.index[-1], "sha256"] = table.loc[0, "sha256"]
    groups = exact_groups(table["patient_id"], table["sha256"])
    assert groups[0] == groups[-1]
    assert len(np.unique(groups)) == 39
    joined = exact_groups(table["patient_id"], table["sha256"], [(0, 5)])
    assert joined[0] == joined[5] == joined[-1]


def test_planted_shared_patient_fails() -> None:
    table = make_table(30, 1)
    frame = as_frame(table, split(table, ["t0"]))
    several = frame["patient_id"].value_counts()
    patient = several[several > 1].index[0]
    row = frame.index[frame["patient_id"] == patient][0]
    frame.loc[row, "part"] = "test" if frame.loc[row, "part"] != "test" else "train"
    with pytest.raises(SynthGainError, match=f"patient {patient} stands in"):
        assert_disjoint(frame)


def test_planted_duplicate_group_and_unknown_part_fail() -> None:
    frame = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["p", "q"], "part": ["train", "test"]})
    assert_disjoint(frame)
    with pytest.raises(SynthGainError, match="duplicate group of a"):
        assert_disjoint(frame, np.array([0, 0]))
    with pytest.raises(SynthGainError, match="unknown part"):
        assert_disjoint(frame.assign(part=["train", "tset"]))
    with pytest.raises(SynthGainError, match="stands"):
        assert_disjoint(frame.assign(image_id="a", part="train"))


def column_split(table: pd.DataFrame, **column: Any) -> tuple[np.ndarray, int]:
    groups = exact_groups(table["patient_id"], table["sha256"])
    labels = label_indicators(table, [])
    return split_from_column(table, groups, SplitColumn("fold", **column), labels, np.random.default_rng(0))


def test_from_column_refuses_or_regroups_a_crossing_patient() -> None:
    table = make_table(50, 0)
    table["fold"] = np.where(table["patient_id"].isin([f"p{i}" for i in range(10)]), "testing", "training")
    parts, moved = column_split(table)
    assert moved == 0
    assert set(parts) == {"train", "test"}
    rows = table.index[table["patient_id"] == table["patient_id"].value_counts().index[0]]
    table.loc[rows, "fold"] = ["testing"] + ["training"] * (len(rows) - 1)
    with pytest.raises(SynthGainError, match=f"patient {table.loc[rows[0], 'patient_id']} stands in test and train"):
        column_split(table)
    parts, moved = column_split(table, on_conflict="regroup")
    assert moved == 1
    assert set(parts[rows]) == {"train"}
    assert_disjoint(as_frame(table, parts))


def test_from_column_sets_validation_aside_and_checks_values() -> None:
    table = make_table(100, 0)
    table["fold"] = np.where(table["patient_id"] < "p5", "a", "b")
    parts, _ = column_split(table, map={"a": "train", "b": "test"}, validation=0.25)
    inside = parts[table["fold"] == "a"]
    assert (inside == "validation").mean() == pytest.approx(0.25, abs=0.03)
    assert set(parts[table["fold"] == "b"]) == {"test"}
    with pytest.raises(SynthGainError, match="fold of i0 is 'a', not one of"):
        column_split(table)
    with pytest.raises(SynthGainError, match="no column 'fold'"):
        column_split(table.drop(columns="fold"))
    with pytest.raises(SynthGainError, match="parts are train"):
        column_split(table, map={"a": "train", "b": "tets"})


def test_empty_class_and_zero_training_images_are_named() -> None:
    table = make_table(20, 0)
    table["rare"] = np.float32(0)
    table.loc[0, "rare"] = 1
    targets = {"rare": {"kind": "binary"}}
    parts = split(table, ["rare"])
    with pytest.raises(SynthGainError, match=r"set_a: no image with rare = 1.0 in the .* \(1 patients have it"):
        check_classes(table, parts, targets, list(FRACTIONS), "set_a")
    with pytest.raises(SynthGainError, match="the training part has no image"):
        check_classes(table, np.full(len(table), "test", object), targets, ["train"], "set_a")
    check_classes(table.assign(rare=np.float32(1)), parts, targets, ["train"], "set_a")


def test_wrong_fractions() -> None:
    table = make_table(5, 0)
    with pytest.raises(SynthGainError, match="sum to 1"):
        split_by_fractions(np.arange(len(table)), label_indicators(table, []), {"train": 0.9}, np.random.default_rng(0))


def test_masks_alone_are_stratified_by_area(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sides = rng.permutation(np.repeat([0, 3, 6, 12], 30))
    masks = np.zeros((120, 16, 16, 1), np.uint8)
    for row, side in enumerate(sides):
        masks[row, :side, :side] = 1
    ids = [f"i{row}" for row in range(120)]
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "site": "a", "origin": "real", "has_mask_polyp": True})
    images = rng.integers(0, 256, (120, 16, 16, 1), dtype=np.uint8)
    run = tmp_path / "run"
    write_image_set(run / "datasets/a", images, table, {}, "data-a", masks=masks, mask_names=["polyp"])
    slice_ = {"dataset": "a", "fractions": FRACTIONS, "seed": 0}
    inputs = {"datasets/a/manifest.json": "data-a"}
    split_dataset(new_job(slice_, inputs, "code", "split-a", run, [run / "splits/a/manifest.json"], 1))
    parts = read_table(run / "splits/a/split.parquet", "split-a")["part"].to_numpy()
    for part, share in FRACTIONS.items():
        for side in (0, 3, 6, 12):
            assert abs((parts[sides == side] == part).sum() - 30 * share) <= 1
