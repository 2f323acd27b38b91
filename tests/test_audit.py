"""The audit: exact and near duplicates within and between sets, crossing, exclusions, the page."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthgain.datasets.audit import (
    AuditedSet,
    audit_between,
    audit_one,
    check_findings,
    excluded_images,
    with_copies,
)
from synthgain.datasets.audit_page import audit_page
from synthgain.datasets.contact_sheet import COLUMNS, SIDE, contact_sheet
from synthgain.datasets.duplicates import calibrated_threshold, near_pairs, nearest, small_copies
from synthgain.errors import SynthGainError
from synthgain.images import write_image_set

COLUMN = {"opacity": {"role": "target", "kind": "binary"}, "age": {"role": "covariate", "kind": "continuous"}}


def chests(count: int, seed: int, side: int = 32) -> np.ndarray:
    """Images that all look alike, as chest films do: one common shape plus smooth patient-specific variation."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    common = np.exp(-((x - 0.4) ** 2 + y**2) * 4) + np.exp(-((x + 0.4) ** 2 + y**2) * 4)
    waves = np.stack([np.cos(np.pi * (i * x + j * y)) for i in range(4) for j in range(4)])
    own = np.tensordot(rng.normal(size=(count, 16)), waves, 1) * 0.08
    return np.clip(60 + 120 * (common + own), 0, 255).astype(np.uint8)[..., None]


def make_set(folder: Path, images: np.ndarray, name: str, patients: list[str], parts: list[str]) -> AuditedSet:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"image_id": [f"{name}{i}" for i in range(len(images))], "patient_id": patients})
    table = table.assign(site=name, origin="real", opacity=rng.integers(0, 2, len(images)).astype(np.float32))
    table["age"] = rng.uniform(20, 80, len(images)).astype(np.float32)
    data = write_image_set(folder / name, images, table, COLUMN, "id")
    quarantine = pd.DataFrame({"image": ["<b>bad</b>.png"], "reason": ["not a whole PNG file"]})
    return with_copies(AuditedSet(name, data, np.array(parts, dtype=object), quarantine))


@pytest.fixture
def sets(tmp_path: Path) -> list[AuditedSet]:
    first, second = chests(80, 0), chests(70, 1)
    first[1] = first[0]  # exact, same patient
    first[11] = np.clip(first[10].astype(int) * 0.97 + 4, 0, 255).astype(np.uint8)  # near, across parts
    second[5] = first[20]  # a test image of the second set that the first is trained on
    second[6] = np.clip(first[21].astype(int) + 3, 0, 255).astype(np.uint8)
    patients = ["p0", "p0", *[f"p{i}" for i in range(2, 80)]]
    parts = ["train"] * 80
    parts[11] = "test"
    return [
        make_set(tmp_path, first, "a", patients, parts),
        make_set(tmp_path, second, "b", ["p7", *[f"q{i}" for i in range(1, 70)]], ["test"] * 70),
    ]


def test_near_duplicates_are_found_and_unrelated_chests_are_not(sets: list[AuditedSet]) -> None:
    facts = audit_one(sets[0])
    listed = facts["near_duplicates"]["listed"]
    assert [(pair["first"], pair["second"], pair["crosses"]) for pair in listed] == [("a10", "a11", True)]
    assert facts["crossing"] == {"patients": 0, "exact_duplicates": 0, "near_duplicates": 1}
    assert facts["exact_duplicates"]["listed"] == [{"images": ["a0", "a1"], "patients": ["p0"], "parts": ["train"]}]
    assert audit_one(sets[1])["near_duplicates"]["pairs"] == 0


def test_false_alarms_on_unrelated_sets_are_as_rare_as_declared() -> None:
    alarms = 0
    for seed in range(20):
        images = chests(100, 100 + seed)
        ids = pd.Series([str(i) for i in range(100)])
        alarms += bool(near_pairs(images, ids, ids).pairs)
    assert alarms <= 4  # 0.05 expected in each


def test_small_sets_are_not_calibrated_and_constant_images_do_not_correlate() -> None:
    assert calibrated_threshold(np.full(10, 0.9, np.float32)) is None
    images = np.zeros((3, 32, 32, 1), np.uint8)
    best, _ = nearest(small_copies(images), small_copies(images), np.arange(3), np.arange(3))
    assert (best == 0).all()


def test_nearest_passes_over_equal_groups() -> None:
    copies = small_copies(chests(30, 3))
    groups = np.repeat(np.arange(15), 2)
    best, index = nearest(copies, copies, groups, groups)
    correlation = np.corrcoef(copies)
    correlation[groups[:, None] == groups[None, :]] = -2
    assert np.allclose(best, correlation.max(axis=1), atol=1e-4)
    assert (groups[index] != groups).all()


def test_between_sets(sets: list[AuditedSet]) -> None:
    thresholds = tuple(audit_one(one)["near_duplicates"]["threshold"] for one in sets)
    facts = audit_between(sets[0], sets[1], thresholds)
    assert facts["exact_listed"] == [["a20", "b5"]]
    assert [(pair["first"], pair["second"]) for pair in facts["near_listed"]] == [("a21", "b6")]
    assert facts["shared_patients_listed"] == ["p7"]
    assert excluded_images(sets) == {"b": ["b5"]}


def test_findings_stop_the_run(sets: list[AuditedSet]) -> None:
    audit = {"datasets": {"a": audit_one(sets[0])}}
    check_findings(audit, ["patients", "exact_duplicates", "impossible_labels"], 1, "page")
    with pytest.raises(SynthGainError, match=r"100.0 % of the test images have a near duplicate"):
        check_findings(audit, ["near_duplicates"], 0.5, "page")
    sets[0].parts[0] = "test"
    crossing = {"datasets": {"a": audit_one(sets[0])}}
    with pytest.raises(SynthGainError, match="1 patients cross the split; see page"):
        check_findings(crossing, ["patients"], 1, "page")
    sets[0].table.loc[3, "opacity"] = 7
    assert audit_one(sets[0])["impossible_labels"] == {"opacity": 1}


def test_page_is_self_contained_and_escaped(sets: list[AuditedSet]) -> None:
    audit = {"datasets": {one.name: {"role": "test", **audit_one(one)} for one in sets}, "between": [], "excluded": {}}
    page = audit_page(audit, {"a": b"png"})
    assert "<b>bad</b>" not in page
    assert "&lt;b&gt;bad&lt;/b&gt;.png" in page
    assert "http" not in page
    assert "data:image/png;base64," in page
    assert "a10, a11" in page


def test_contact_sheet_has_a_row_per_class_and_mask_outlines(sets: list[AuditedSet]) -> None:
    one = sets[0]
    masks = np.zeros((80, 32, 32, 1), np.uint8)
    masks[:, 8:24, 8:24] = 1
    rng = np.random.default_rng(0)
    sheet = contact_sheet(one.data.images, one.table, ["opacity"], rng, masks)
    assert isinstance(sheet, Image.Image)
    assert sheet.width > COLUMNS * SIDE
    assert 2 * SIDE < sheet.height < 3 * SIDE
    colours = np.array(sheet).reshape(-1, 3)
    assert (colours == (255, 160, 0)).all(axis=1).sum() > 100
