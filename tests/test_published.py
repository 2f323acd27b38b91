"""Published layouts, each on a miniature that the test writes; downloads against a local server."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_server import serving
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from test_reading import _dicom

from synthgain.datasets.entries.published import PublishedDataset
from synthgain.datasets.known_layouts import KNOWN_LAYOUTS
from synthgain.datasets.layouts.cvc_clinicdb import LAST_FRAMES, sequence
from synthgain.datasets.layouts.readings import read_reading
from synthgain.datasets.published import prepare
from synthgain.datasets.source import Prepared
from synthgain.registry import ADAPTERS, LAYOUTS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.listing import source_identity
from synthgain.runtime.loading import load
from synthgain.study.data import Dataset

GEOMETRY = {"size": 16, "channels": 3, "fit": "pad", "intensity": "none"}
SHAPE = (24, 20)
CONFIG: TypeAdapter[Any] = TypeAdapter(Dataset)


def put(path: Path, pixels: np.ndarray, **saving: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **saving)


def frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def blob(seed: int, inside: int = 255) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[4 : 12 + seed % 5, 6:14] = inside
    return mask


def settings(layout: str, **options: Any) -> PublishedDataset:
    return CONFIG.validate_python({"adapter": "published", "layout": layout, **options})


def read(root: Path, layout: str, **options: Any) -> Prepared:
    config = settings(layout, **options)
    return prepare({**config.job_options("one"), **config.settings}, GEOMETRY, 0, root, 2)


def reasons(got: Prepared) -> dict[str, str]:
    return dict(zip(got.quarantine["image"], got.quarantine["reason"], strict=True))


def area(got: Prepared, plane: int = 0) -> list[int]:
    assert got.masks is not None
    return [int(mask[:, :, plane].sum()) for mask in got.masks]


def kvasir(folder: Path, count: int = 3) -> None:
    for i in range(count):
        put(folder / f"images/cju{i}.jpg", frame(i), quality=95)
        put(folder / f"masks/cju{i}.jpg", np.repeat(blob(i)[..., None], 3, axis=2), quality=80)
    (folder / "kavsir_bboxes.json").write_text("{}")


@pytest.mark.parametrize("layout", ["kvasir_seg", "hyperkvasir"])
def test_kvasir_and_hyperkvasir(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / KNOWN_LAYOUTS[layout].folder
    kvasir(folder)
    put(folder / "images/no_mask.jpg", frame(9))
    put(folder / "masks/no_image.jpg", blob(1))
    got = read(tmp_path, layout)
    assert got.table["image_id"].tolist() == ["cju0", "cju1", "cju2", "no_mask"]
    assert got.mask_names == ["polyp"]
    assert got.table["has_mask_polyp"].tolist() == [True, True, True, False]
    assert min(area(got)[:3]) > 10
    assert got.facts["split_unit"] == "image"
    assert got.facts["mask_findings"]["polyp"]["without_image_listed"] == ["masks/no_image.jpg"]
    assert got.facts["source"] == source_identity(folder)
    assert got.facts["licence"] != ""
    assert got.table["patient_id"].tolist() == got.table["image_id"].tolist()


@pytest.mark.parametrize("inner", ["", "TIF/", "PNG/"])
def test_cvc_clinicdb_groups_by_sequence(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / "CVC-ClinicDB"
    suffix = "png" if inner == "PNG/" else "tif"
    for number in (1, 25, 26, 612):
        put(folder / f"{inner}Original/{number}.{suffix}", frame(number))
        soft = blob(number)
        soft[4] = 100  # resized masks are grey at the border
        put(folder / f"{inner}Ground Truth/{number}.{suffix}", soft)
    put(folder / f"{inner}Original/613.{suffix}", frame(5))
    got = read(tmp_path, "cvc_clinicdb")
    groups = dict(zip(got.table["image_id"], got.table["patient_id"], strict=True))
    assert groups == {
        "frame-001": "sequence-01", "frame-025": "sequence-01", "frame-026": "sequence-02", "frame-612": "sequence-29",
    }  # fmt: skip
    assert list(reasons(got).values()) == ["no patient id"]
    assert got.facts["split_unit"] == "sequence"
    assert min(area(got)) > 10


def test_the_29_sequences_cover_all_612_frames_in_order() -> None:
    names = [sequence(str(number)) for number in range(1, 613)]
    assert sorted(set(names)) == [f"sequence-{i:02d}" for i in range(1, 30)]
    assert names == sorted(names)
    assert len(LAST_FRAMES) == 29
    assert sequence("0") == sequence("613") == sequence("frame1") == ""


def test_polypgen_centres_sequences_and_negatives(tmp_path: Path) -> None:
    root = tmp_path / "PolypGen2021_MultiCenterData_v3"
    singles = {
        "C1": ["144OLCV1_100H0022", "144OLCV1_100H0024", "100H0050"],
        "C3": ["C3_EndoCV2021_00489_"],
        "C4": ["4_endocv2021_positive_34"],
        "C6": ["EndoCV2021_C6_0100018"],
    }
    for centre, names in singles.items():
        for i, name in enumerate(names):
            put(root / f"data_{centre}/images_{centre}/{name}.jpg", frame(i))
            put(root / f"data_{centre}/masks_{centre}/{name.rstrip('_')}_mask.jpg", blob(i))
    seq = root / "sequenceData/positive/seq2"
    for number in (1, 2):
        put(seq / f"images_seq2/1_endocv2021_positive_{number}.jpg", frame(number))
        put(seq / f"masks_seq2/1_endocv2021_positive_{number}_mask.jpg", blob(number) * (number > 1))
        (seq / f"masks_seq2/1_endocv2021_positive_{number}.txt").write_text("polyp 1 2 3 4")
    put(root / "sequenceData/negativeOnly/seq1_neg/7.jpg", frame(7))
    (root / "imagesAll_positive").mkdir()
    got = read(tmp_path, "polypgen")
    table = got.table.set_index("image_id")
    assert len(table) == 9
    assert table["site"].value_counts().to_dict() == {"C1": 3, "unknown": 3, "C3": 1, "C4": 1, "C6": 1}
    assert table.loc["C1-144OLCV1_100H0022", "patient_id"] == table.loc["C1-144OLCV1_100H0024", "patient_id"]
    assert table["patient_id"].nunique() == 7
    assert table.loc["seq2-1_endocv2021_positive_1", "patient_id"] == "video-1"
    assert table.loc["seq1_neg-7", "patient_id"] == "seq1_neg"
    assert table["has_mask_polyp"].all()  # a frame without a polyp has a mask: an empty one
    assert got.facts["mask_findings"]["polyp"]["empty"] == 2
    assert reasons(got) == {}
    of_c6 = read(tmp_path, "polypgen", where={"centre": "C6"})
    assert of_c6.table["site"].tolist() == ["C6"]
    single = read(tmp_path, "polypgen", where={"part": ["single"]})
    assert len(single.table) == 6


def test_montgomery_joins_lungs_and_repeated_patients(tmp_path: Path) -> None:
    folder = tmp_path / "MontgomerySet"
    readings = {
        "MCUCXR_0001_0": "Patient's Sex: F \nPatient's Age: 027Y\nnormal",
        "MCUCXR_0162_1": "Patient's Sex: M \nPatient's Age: 049Y\nTB",
        "MCUCXR_0166_1": "Patient's Sex: M \nPatient's Age: 049Y\nNO REPORT (same pt as MCUCXR_0162_1)",
    }
    for i, (name, text) in enumerate(readings.items()):
        put(folder / f"CXR_png/{name}.png", frame(i)[:, :, 0])
        left, right = np.zeros((2, *SHAPE), bool)
        left[5:20, 11:18], right[5:20, 2:9] = True, True
        put(folder / f"ManualMask/leftMask/{name}.png", left)
        put(folder / f"ManualMask/rightMask/{name}.png", right)
        (folder / "ClinicalReadings").mkdir(exist_ok=True)
        (folder / f"ClinicalReadings/{name}.txt").write_text(text)
    got = read(tmp_path, "montgomery")
    assert got.mask_names == ["lungs"]
    assert got.masks is not None
    assert got.masks[0, :, :8].any()  # right lung, left in the picture
    assert got.masks[0, :, 8:].any()
    assert got.table["tb"].tolist() == [0, 1, 1]
    assert got.table["sex"].tolist() == ["F", "M", "M"]
    assert got.table["age"].tolist() == [27, 49, 49]
    assert got.table["patient_id"].tolist() == ["MCUCXR_0001", "MCUCXR_0162", "MCUCXR_0162"]
    (folder / "ManualMask/leftMask/MCUCXR_0001_0.png").unlink()
    assert reasons(read(tmp_path, "montgomery"))["CXR_png/MCUCXR_0001_0.png"] == (
        "mask of lungs: left is empty while right is not"
    )


def test_shenzhen_with_and_without_masks(tmp_path: Path) -> None:
    folder = tmp_path / "ChinaSet_AllFiles"
    for name, text in {"CHNCXR_0001_0": "male 45yrs\nnormal", "CHNCXR_0327_1": "femal 16month\nPTB"}.items():
        put(folder / f"CXR_png/{name}.png", frame(1))
        (folder / "ClinicalReadings").mkdir(exist_ok=True)
        (folder / f"ClinicalReadings/{name}.txt").write_text(text)
    without = read(tmp_path, "shenzhen")
    assert without.masks is None
    assert without.mask_names == []
    assert without.table["tb"].tolist() == [0, 1]
    assert without.table["age"].tolist() == [45, pytest.approx(1.33)]
    put(folder / "mask/CHNCXR_0001_0_mask.png", blob(0))
    got = read(tmp_path, "shenzhen")
    assert got.table["has_mask_lungs"].tolist() == [True, False]
    assert got.facts["source"] != without.facts["source"]


@pytest.mark.parametrize(
    ("text", "sex", "age"),
    [
        ("male 45yrs\nnormal", "M", "45"), ("female24yrs\nnormal", "F", "24"), ("Female, 28yrs", "F", "28"),
        ("male , 29yrs  \t\nbilateral secondary PTB", "M", "29"), ("female 64days", "F", "0.175"),
        ("male 42\n2 mm nodule", "M", ""), ("Patient's Sex: O \nPatient's Age: 005Y\nnormal", "", "5"), ("", "", ""),
    ],
)  # fmt: skip
def test_readings_as_they_are_written(tmp_path: Path, text: str, sex: str, age: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read_reading(tmp_path / "a.txt")[:2] == (sex, age)
    assert read_reading(tmp_path / "none.txt") == ("", "", "")


def siim(folder: Path, table: str) -> None:
    for i, name in enumerate(["1.2.3.1", "1.2.3.2", "1.2.3.3"]):
        place = folder / f"dicom-images-train/study{i}/series{i}"
        place.mkdir(parents=True)
        _dicom(place / f"{name}.dcm", frame(i)[:, :, 0])
    (folder / "train-rle.csv").write_text(table)


def test_siim_acr_joins_the_regions_of_a_film(tmp_path: Path) -> None:
    regions = "ImageId, EncodedPixels\n1.2.3.1, 0 24 24 24\n1.2.3.1, 96 48\n1.2.3.2,-1\n1.2.3.9, 1 2\n"
    siim(tmp_path / "siim-acr", regions)
    got = read(tmp_path, "siim_acr")
    assert got.table["image_id"].tolist() == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert got.table["pneumothorax"].fillna(-1).tolist() == [1, 0, -1]
    assert got.table["has_mask_pneumothorax"].tolist() == [True, True, False]
    assert got.masks is not None
    # columns 0, 2, 4 and 5 of 20, padded to 24 and halved or so: the left of the film only
    assert got.masks[0, :, :8].any()
    assert not got.masks[0, :, 8:].any()
    assert reasons(got) == {"dicom-images-train/1.2.3.9.dcm": "file not found"}


def test_siim_acr_runs_for_another_size_are_refused(tmp_path: Path) -> None:
    siim(tmp_path / "siim-acr", "ImageId, EncodedPixels\n1.2.3.1, 387620 23 996 33\n1.2.3.2, 0 5\n")
    got = read(tmp_path, "siim_acr")
    assert "overrun the image" in reasons(got)["dicom-images-train/study0/series0/1.2.3.1.dcm"]
    (tmp_path / "siim-acr/train-rle.csv").write_text("Image;Pixels\n")
    with pytest.raises(SynthGainError, match="wanted columns ImageId and EncodedPixels"):
        read(tmp_path, "siim_acr")


@pytest.mark.parametrize("layout", sorted(KNOWN_LAYOUTS))
def test_what_is_missing_is_one_clear_instruction(tmp_path: Path, layout: str) -> None:
    config = settings(layout, **({} if KNOWN_LAYOUTS[layout].findings is not None else {"findings": ["nodule"]}))
    options = {**config.job_options("one"), "archive": None}
    with pytest.raises(SynthGainError, match=r"no such folder; (get|ask|register) .*(https://|kaggle\.com)") as error:
        prepare(options, GEOMETRY, 0, tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / config.source_folder).mkdir()
    with pytest.raises(SynthGainError, match=rf"{config.source_folder}.*(no [\w./]+|neither data_C1)") as error:
        prepare(options, GEOMETRY, 0, tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(SynthGainError, match="data root is missing"):
        prepare(options, GEOMETRY, 0, None)


def archived(folder: Path, top: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{top}/{path.relative_to(folder).as_posix()}")
    return buffer.getvalue()


def test_a_published_archive_is_downloaded_resumed_checked_and_unpacked_once(tmp_path: Path) -> None:
    kvasir(tmp_path / "original")
    content = archived(tmp_path / "original", "Kvasir-SEG")
    for algorithm in ("md5", "sha256", "sha384"):
        checksum = hashlib.new(algorithm, content).hexdigest()
        root = tmp_path / algorithm
        root.mkdir()
        with serving(content) as server:
            server.breaks_left, server.break_after = 1, len(content) // 2
            config = settings("kvasir_seg", url=f"{server.url}/k.zip", checksum=checksum)
            before = source_identity(root / config.source_folder, config.archive and config.archive["checksum"])
            (root / "Kvasir-SEG.zip.part").write_bytes(content[: len(content) // 3])  # an earlier run broke off
            got = read(root, "kvasir_seg", url=f"{server.url}/k.zip", checksum=checksum)
            read(root, "kvasir_seg", url=f"{server.url}/k.zip", checksum=checksum)
            assert server.ranges[0] == f"bytes={len(content) // 3}-"
        assert len(got.table) == 3
        assert got.facts["source"] == before == checksum  # the same identity before and after the download
        assert not list(root.glob("Kvasir-SEG.zip*"))


def test_a_wrong_archive_leaves_nothing(tmp_path: Path) -> None:
    with serving(b"not the archive") as server:
        with pytest.raises(SynthGainError, match="checksum differs"):
            read(tmp_path, "kvasir_seg", url=f"{server.url}/k.zip")
        with pytest.raises(SynthGainError, match="none of md5"):
            read(tmp_path, "kvasir_seg", url=f"{server.url}/k.zip", checksum="12")
        wrong = hashlib.sha256(b"not the archive").hexdigest()
        with pytest.raises(SynthGainError, match="cannot be unpacked"):
            read(tmp_path, "kvasir_seg", url=f"{server.url}/k.zip", checksum=wrong)
    assert not (tmp_path / "Kvasir-SEG").exists()


def test_every_layout_is_what_the_config_says() -> None:
    for name, known in KNOWN_LAYOUTS.items():
        module = load(LAYOUTS, known.module)
        assert known.module == name
        assert module.LICENCE
        assert module.CITATION
        assert "\n" not in module.GET
        if known.takes:  # how it is read depends on its options: tests/test_chest_layouts.py
            continue
        assert {entry["name"] for entry in module.READING["mask"]} == set(known.structures)
        named = {*module.READING.get("targets", {}), *module.READING.get("covariates", {})}
        assert named == set(known.columns)
        assert (module.READING["patient_id"] is not None) == known.patients
        if known.archive is not None:
            assert known.archive[0] in module.GET
            assert len(known.archive[1]) in (32, 64, 96)
    assert ADAPTERS["published"] == prepare.__module__


def test_the_config_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="kvasir_seg"):
        settings("kvasir")
    assert settings("cvc_clinicdb").archive is None
    assert settings("cvc_clinicdb", url="http://x/a.zip", checksum="AB").archive == {
        "url": "http://x/a.zip", "checksum": "ab",
    }  # fmt: skip
    table = {"adapter": "table", "table": "t.csv", "patient_id": None}
    with pytest.raises(ValidationError, match="value and allowed are for label maps"):
        CONFIG.validate_python({**table, "mask": [{"column": "m", "name": "a", "encoding": "rle", "value": 1}]})
    with pytest.raises(ValidationError, match="less than or equal to 65535"):
        CONFIG.validate_python({**table, "mask": [{"column": "m", "name": "a", "value": 70000}]})
