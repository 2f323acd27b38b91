"""Films and patients that two data sets share, by name and by pixels: no test on them is called external."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from synthgain.data.image_set import write_image_set
from synthgain.datasets.audit import AuditedSet
from synthgain.datasets.overlaps import Between, audit_between, check_overlaps, overlaps
from synthgain.datasets.shared_films import LEAST, shared_films
from synthgain.runtime.errors import SynthGainError

SIDE = 64
COLUMN = {"tb": {"role": "target", "kind": "binary"}}


def films(count: int, seed: int) -> np.ndarray:
    """Films (N, 64, 64) that share a chest and differ in what fills it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    common = np.exp(-((x - 0.4) ** 2 + y**2) * 4) + np.exp(-((x + 0.4) ** 2 + y**2) * 4)
    own = ndimage.gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), (0, 2, 2))
    return np.clip(50 + 110 * common + 250 * own, 0, 255).astype(np.uint8)


def again(film: np.ndarray) -> np.ndarray:
    """A film of any size as the study reads it."""
    return np.asarray(Image.fromarray(film).resize((SIDE, SIDE), Image.Resampling.BOX))


def as_jpeg(film: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(film).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def windowed(film: np.ndarray) -> np.ndarray:
    """As a 16-bit DICOM film shown in another window."""
    low, high = np.percentile(film, [4, 96])
    return np.clip((film.astype(float) - low) / (high - low) * 255, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG": as_jpeg,
    "resized": lambda film: np.asarray(Image.fromarray(film).resize((41, 41), Image.Resampling.LANCZOS)),
    "inverted": lambda film: 255 - film,
    "another tone curve": lambda film: (255 * (film / 255) ** 0.6).astype(np.uint8),
    "inverted, another tone curve": lambda film: (255 * ((255 - film) / 255) ** 1.6).astype(np.uint8),
    "another window": windowed,
    "4 bits": lambda film: film // 16 * 17,
    "cropped": lambda film: film[3:-3, 3:-3],
    "cropped more": lambda film: film[6:-6, 6:-6],
    "padded": lambda film: np.pad(film, 4),
    "cut below": lambda film: film[:-5],
    "mirrored": lambda film: film[:, ::-1],
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("turned", [False, True])
def test_a_film_is_known_again_whatever_was_done_to_it(change: str, turned: bool) -> None:
    first, second = films(90, 0), films(80, 1)
    for row in range(10):
        second[70 + row] = again(np.ascontiguousarray(CHANGES[change](first[row])))
    sets = [second[..., None], first[..., None]] if turned else [first[..., None], second[..., None]]
    found = shared_films(*sets)
    assert found is not None
    pairs = {(film.second, film.first) if turned else (film.first, film.second) for film in found}
    true = {(row, 70 + row) for row in range(10)}
    assert len(pairs & true) >= 8
    assert not pairs - true
    assert min(film.similarity for film in found) > LEAST
    words = {"inverted": "inverted", "cropped": "cropped", "padded": "cropped", "mirrored": "mirrored"}
    said = {film.how for film in found}
    assert all(word in how for name, word in words.items() if name == change for how in said)
    if change == "cropped more":  # and it says whose border is missing
        assert said == {f"the {'first' if turned else 'second'} is cropped"}


def test_other_films_are_not_taken_for_the_same() -> None:
    alarms = [shared_films(films(70, seed)[..., None], films(60, 100 + seed)[..., None]) for seed in range(6)]
    assert alarms == [[]] * 6


def test_a_few_of_another_kind_are_not_taken_for_one_another() -> None:
    """Beside three inverted films all others look alike, upside down."""
    first, second = films(90, 0), films(80, 1)
    second[:3] = 255 - second[:3]
    assert shared_films(first[..., None], second[..., None]) == []
    assert shared_films(first[:5, ..., None], second[..., None]) == []


def test_too_few_images_say_nothing() -> None:
    assert shared_films(films(20, 0)[..., None], films(30, 1)[..., None]) is None


def made(folder: Path, name: str, images: np.ndarray, **columns: Any) -> AuditedSet:
    """A set of these images: `ids`, `patients`, `parts`, `unit` and options of an audited set."""
    count = len(images)
    ids = columns.pop("ids", [f"{name}{row}" for row in range(count)])
    patients = columns.pop("patients", [f"{name}-p{row}" for row in range(count)])
    parts = np.array(columns.pop("parts", ["test"] * count), dtype=object)
    table = pd.DataFrame({"image_id": ids, "patient_id": patients, "site": name, "origin": "real"})
    table["tb"] = np.arange(count, dtype=np.float32) % 2
    unit = columns.pop("unit", "patient")
    data = write_image_set(folder / name, images[..., None], table, COLUMN, "id", split_unit=unit)
    return AuditedSet(name, data, parts, pd.DataFrame({"image": [], "reason": []}), **columns)


def said(between: Between) -> list[str]:
    return list(check_overlaps(overlaps([between])[0], "page"))


TRAINING = ["train"] * 50 + ["validation"] * 10 + ["test"] * 10


def test_renamed_films_saved_anew_are_no_external_test(tmp_path: Path) -> None:
    images, outside = films(70, 0), films(60, 1)
    outside[:20] = [as_jpeg(film) for film in images[:20]]
    outside[20:25] = [as_jpeg(film) for film in images[60:65]]  # of the test part
    nih = made(tmp_path, "nih", images, parts=TRAINING)
    between = audit_between(nih, made(tmp_path, "other", outside))
    with pytest.raises(SynthGainError, match=r"^audit: 25 of the 60 test images of 'other' are films or patients of"):
        said(between)
    accepted = audit_between(nih, made(tmp_path / "b", "other", outside, accepted=True))
    assert "nearly equal pixels 25" in said(accepted)[0]
    excluded = overlaps([accepted])[1]  # what was learned from is never tested on; whole sets may be
    assert excluded == {"other": sorted(f"other{row}" for row in range(20))}


def test_one_film_in_common_is_left_out_with_its_patient(tmp_path: Path) -> None:
    images, outside = films(70, 0), films(300, 1)
    outside[7] = images[3]
    patients = [f"o{row // 2}" for row in range(300)]
    between = audit_between(
        made(tmp_path, "nih", images, parts=TRAINING), made(tmp_path, "other", outside, patients=patients)
    )
    assert said(between) == ["1 of the 300 test images of 'other' are films or patients of 'nih' too (equal pixels 1)"]
    assert overlaps([between])[1] == {"other": ["other6", "other7"]}


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ("CHNCXR_{:04d}_0", "imgs/extra/shenzhen/CHNCXR_{:04d}_0.png"),  # TBX11K holds them
        ("MCUCXR_{:04d}_1", "MCUCXR_{:04d}_1"),
        ("{:08d}_003", "images_004/images/{:08d}_003.jpg"),
        ("patient{:05d}-study1-view1_frontal", "CheXpert-v1.0-small/train/patient{:05d}/study1/view1_frontal.jpg"),
        ("{0:08x}-{0:08x}-{0:08x}-{0:08x}-{0:08x}", "files/{0:08x}-{0:08x}-{0:08x}-{0:08x}-{0:08x}.jpg"),
    ],
)
def test_films_of_one_name_are_the_same_whatever_their_pixels(tmp_path: Path, own: str, others: str) -> None:
    first = made(tmp_path, "a", films(20, 0), ids=[own.format(row) for row in range(20)], parts=["train"] * 20)
    second = made(tmp_path, "b", films(20, 1), ids=[others.format(row + 15) for row in range(20)])
    with pytest.raises(SynthGainError, match=r"5 of the 20 test images of 'b' .* \(equal names 5\), so it is no exter"):
        said(audit_between(first, second))


def test_names_that_every_hospital_gives_mean_nothing(tmp_path: Path) -> None:
    ids = [f"{row:08d}" for row in range(20)]
    patients = [str(row) for row in range(20)]
    first = made(tmp_path, "a", films(20, 0), ids=ids, patients=patients, parts=["train"] * 20)
    between = audit_between(first, made(tmp_path, "b", films(20, 1), ids=ids, patients=patients))
    assert said(between) == []
    assert between.facts()["shared_patient_ids"] == 20


def test_patients_of_one_collection_are_the_same_by_their_ids(tmp_path: Path) -> None:
    """RSNA's films under NIH's patients, as its mapping file tells, beside a table of NIH films."""
    ids = [f"{row:08d}_000" for row in range(20)]
    nih = made(tmp_path, "nih", films(20, 0), ids=ids, patients=[str(row) for row in range(20)], parts=["train"] * 20)
    names = [f"{row:08d}" for row in range(15, 35)]
    rsna = made(tmp_path, "rsna", films(20, 1), patients=names, films="nih")
    with pytest.raises(SynthGainError, match=r"5 of the 20 test images of 'rsna' .* \(equal patient ids 5\)"):
        said(audit_between(nih, rsna))
    apart = made(tmp_path / "b", "rsna", films(20, 1), patients=[*names[5:], *"abcde"], films="nih")
    assert said(audit_between(nih, apart)) == []
    unknown = made(tmp_path / "c", "rsna", films(20, 1), films="nih", unit="image")
    with pytest.raises(SynthGainError, match="both have films of nih, and not both of them name its patients"):
        said(audit_between(nih, unknown))


def test_a_set_that_nothing_is_tested_on_may_share_films(tmp_path: Path) -> None:
    """A generator learns from a set that holds the films of another's training part."""
    images = films(70, 0)
    pretrained = made(tmp_path, "a", images, parts=TRAINING, tested=False)
    tested = made(tmp_path, "b", np.concatenate([images[:2], films(300, 1)]), parts=["train"] * 70 + ["test"] * 232)
    assert len(said(audit_between(pretrained, tested))) == 0
    assert overlaps([audit_between(pretrained, tested)])[1] == {}
