"""The audit: exact and near duplicates within and between sets, crossing, exclusions, the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthgain.data.image_set import ImageSet, write_image_set
from synthgain.datasets import duplicates
from synthgain.datasets.audit import AuditedSet, audit_one, check_findings, with_copies
from synthgain.datasets.audit_page import audit_page
from synthgain.datasets.contact_sheet import COLUMNS, OUTLINES, SIDE, contact_sheet
from synthgain.datasets.duplicates import exact_groups, near_pairs, small_copies
from synthgain.datasets.mask_area import area_strata, mask_areas, strata_of
from synthgain.runtime.errors import SynthGainError

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


def altered(image: np.ndarray, rng: np.random.Generator, kind: str) -> np.ndarray:
    """The same film again: another exposure, turned by up to a degree, or saved with loss."""
    from scipy import ndimage

    film = image[..., 0].astype(float)
    if kind == "exposure":
        film = film * rng.uniform(0.9, 1.1) + rng.uniform(-8, 8)
    elif kind == "turned":
        film = ndimage.rotate(film, rng.uniform(-1, 1), reshape=False, order=1, mode="nearest")
    film += rng.normal(0, 3, film.shape)
    return np.clip(film, 0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize("kind", ["exposure", "turned"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6])
def test_twins_without_patient_ids_are_found_however_many_there_are(kind: str, share: float) -> None:
    """This share of the films has a twin, and nobody says whose: the twins must not calibrate themselves."""
    rng = np.random.default_rng(3)
    films = chests(300, 11)
    twins = round(len(films) * share / (2 - share))
    images = np.concatenate([films, *[altered(film, rng, kind)[None] for film in films[:twins]]])
    ids = pd.Series([str(i) for i in range(len(images))])
    pairs = {(pair.first, pair.second) for pair in near_pairs(images, ids, ids).pairs if pair.mutual}
    true = {(i, len(films) + i) for i in range(twins)}
    assert len(pairs & true) >= 0.9 * twins
    assert len(pairs - true) <= 1


def test_frames_of_one_scene_are_one_group_and_scenes_stay_apart() -> None:
    rng = np.random.default_rng(4)
    films = chests(120, 12)
    frames = [altered(film, rng, "turned")[None] for film in films[:10] for _ in range(12)]
    images = np.concatenate([films[10:], *frames])
    ids = pd.Series([str(i) for i in range(len(images))])
    pairs = [(pair.first, pair.second) for pair in near_pairs(images, ids, ids).pairs if pair.mutual]
    groups = exact_groups(ids, ids, pairs)
    scenes = groups[110:].reshape(10, 12)
    assert (scenes == scenes[:, :1]).all()
    assert len(set(scenes[:, 0])) == 10
    assert len(set(groups[:110])) == 110


def test_small_sets_are_not_calibrated_and_constant_images_do_not_correlate() -> None:
    few = pd.Series([str(i) for i in range(10)])
    assert near_pairs(chests(10, 1), few, few).threshold is None
    images = np.zeros((3, 32, 32, 1), np.uint8)
    assert (small_copies(images) == 0).all()


def test_each_image_has_its_nearest_whatever_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    copies = rng.standard_normal((150, 40)).astype(np.float32) + 2 * rng.standard_normal(40).astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    groups = rng.integers(0, 60, 150)
    whole = copies @ copies.T
    whole[groups[:, None] == groups[None, :]] = -1
    for tile in (1024, 64, 7):
        monkeypatch.setattr(duplicates, "BLOCK", tile)
        values, found = duplicates.nearest_many(copies, groups, 20)
        assert np.allclose(values, -np.sort(-whole, axis=1)[:, :20], atol=1e-6)
        assert np.allclose(np.take_along_axis(whole, found, axis=1), values, atol=1e-6)
    values, found = duplicates.nearest_many(copies, np.zeros(150, int), 3)
    assert (values == -1).all()
    assert (found == -1).all()


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
    page = audit_page(audit, {"a": b"png"}, {"a": [b"pair"]})
    assert "<b>bad</b>" not in page
    assert "&lt;b&gt;bad&lt;/b&gt;.png" in page
    assert "://" not in page
    assert "data:image/png;base64," in page
    assert "a10, a11" in page
    assert 'alt="a10 beside a11"' in page


def test_the_page_says_what_it_does_not_list_and_names_no_patients_where_none_are_known(sets: list[AuditedSet]) -> None:
    facts = {"role": "test", **audit_one(sets[0])}
    facts["split_unit"] = "image"
    facts["exact_duplicates"] = {"groups": 17, "listed": [{"images": [f"x{n}", f"y{n}"]} for n in range(17)]}
    page = audit_page({"datasets": {"a": facts}, "between": [], "excluded": {}}, {})
    assert page.index("x14, y14") < page.index("… and 2 more")
    assert "x15" not in page
    assert "<td>patients</td>" not in page
    assert "of different patients" not in page
    assert "<td>patients</td>" in audit_page({"datasets": {"a": {**facts, "split_unit": "patient"}}, "between": [],
                                              "excluded": {}}, {})  # fmt: skip


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
    assert (colours == OUTLINES[0]).all(axis=1).sum() > 100


def masked(folder: Path, present: list[bool], sides: list[int], **facts: Any) -> ImageSet:
    """A set with a square mask of each side in a 16 × 16 image; `present` says which are known."""
    masks = np.zeros((len(sides), 16, 16, 1), np.uint8)
    for row, side in enumerate(sides):
        masks[row, :side, :side] = 1
    ids = [f"i{row}" for row in range(len(sides))]
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "site": "a", "origin": "real"})
    table["has_mask_polyp"] = present
    images = np.random.default_rng(0).integers(0, 256, (len(sides), 16, 16, 3), dtype=np.uint8)
    return write_image_set(folder, images, table, {}, "id", masks=masks, mask_names=["polyp"], **facts)


def test_masks_are_counted_and_shown(tmp_path: Path) -> None:
    data = masked(tmp_path, [True] * 5 + [False], [0, 16, 4, 4, 8, 0])
    parts = np.full(6, "test", dtype=object)
    none = pd.DataFrame({"image": [], "reason": []})
    found = audit_one(AuditedSet("a", data, parts, none))["masks"]["polyp"]
    assert {key: found[key] for key in ("with_mask", "without_mask", "empty", "full")} == {
        "with_mask": 5, "without_mask": 1, "empty": 1, "full": 1,
    }  # fmt: skip
    assert found["area"]["median"] == pytest.approx((4 * 4 + 8 * 8) / 2 / 256, abs=1e-3)
    findings = {"empty": 1, "full": 2, "vanished": 3, "wrong_size": 4, "values": {"0": 5, "255": 5},
                "without_image": 1, "without_image_listed": ["<i>m</i>.png"]}  # fmt: skip
    read = masked(tmp_path / "read", [True] * 5 + [False], [0, 16, 4, 4, 8, 0], mask_findings={"polyp": findings},
                  licence="CC & more", citation="Jha D", split_unit="sequence")  # fmt: skip
    facts = audit_one(AuditedSet("a", read, parts, none))
    assert facts["masks"]["polyp"]["full"] == 2  # the files' own count: padding hides a full mask
    page = audit_page({"datasets": {"a": {"role": "test", **facts}}, "between": [], "excluded": {}}, {})
    for word in ("255 (5)", "&lt;i&gt;m&lt;/i&gt;.png", "CC &amp; more", "the unit of the split is the sequence"):
        assert word in page


def test_strata_of_areas_are_terciles(tmp_path: Path) -> None:
    areas = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9])
    present = np.array([True] * 7 + [False])
    strata = area_strata(areas, present)
    assert strata.tolist() == ["empty", "small", "small", "medium", "medium", "large", "large", None]
    assert area_strata(areas * 0, present).tolist() == ["empty"] * 7 + [None]
    data = masked(tmp_path, [True, True], [4, 16])
    assert mask_areas(data, 0).tolist() == [1 / 16, 1.0]
    found = strata_of(data)
    assert found is not None
    assert found[0] == "polyp"


def test_a_set_without_labels_is_shown_by_area(tmp_path: Path) -> None:
    data = masked(tmp_path, [True] * 9 + [False], [0, *range(3, 11), 0])
    rng = np.random.default_rng(0)
    sheet = contact_sheet(data.images, data.table, [], rng, data.masks, ["polyp"], strata_of(data))
    assert sheet.height > 5 * SIDE  # empty, small, medium, large, unknown
    assert sheet.height < 6 * SIDE + 100
