"""The folder adapter: class folders, parts, masks, Hugging Face's metadata, and what else lies in real folders."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from synthgain.datasets.entries.folder import FolderDataset
from synthgain.datasets.folder import prepare
from synthgain.datasets.folder_layout import alike, folder_source, paired_masks, read_layout
from synthgain.datasets.split import SplitColumn, split_from_column
from synthgain.runtime.errors import SynthGainError

DOCUMENT = Path(__file__).parents[1] / "docs" / "your_data.md"
IMAGE = {"size": 16, "channels": 1, "fit": "pad", "intensity": "none"}
SICK = {"sick": {"column": "class", "map": {"Normal": 0, "TB positive": 1}}}


def draw(root: Path, *names: str) -> None:
    """Write an image of its own under each name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(abs(hash(name)) % 2**32).integers(0, 255, (20, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def draw_mask(root: Path, *names: str) -> None:
    for name in names:
        mask = np.zeros((20, 24), bool)
        mask[5:15, 5:15] = True
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / name)


def read(root: Path, **options: Any) -> Any:
    return prepare({"folder": "My Films", "patient_id": None, **options}, IMAGE, 0, root)


def checked(root: Path, **options: Any) -> str | None:
    """What planning makes of a data set: its identity, or SynthGainError."""
    entry = {"adapter": "folder", "folder": "My Films", "patient_id": None, **options}
    return FolderDataset.model_validate(entry).source(root)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "My Films"
    draw(folder, *(f"Normal/film {i}.png" for i in range(4)), *(f"TB positive/deeper/{i}.PNG" for i in range(3)))
    for stray in ("Thumbs.db", "Normal/.DS_Store", "Normal/._film 1.png", "__MACOSX/Normal/film 1.png", "README.txt"):
        (folder / stray).parent.mkdir(parents=True, exist_ok=True)
        (folder / stray).write_bytes(b"not an image")
    return tmp_path


def test_class_folders_are_labels_whatever_lies_deeper_or_beside(films: Path) -> None:
    found = read(films, targets=SICK)
    assert found.table["sick"].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert found.table["image_id"].tolist()[-1] == "TB positive/deeper/2.PNG"
    assert found.facts["split_unit"] == "image"
    assert found.facts["passed_over"] == {
        "count": 5,
        "listed": sorted(
            ["Normal/.DS_Store", "Normal/._film 1.png", "README.txt", "Thumbs.db", "__MACOSX/Normal/film 1.png"]
        ),
    }
    assert found.quarantine.empty


def test_unreadable_and_strange_pictures_are_quarantined_not_passed_over(films: Path) -> None:
    folder = films / "My Films"
    (folder / "Normal/broken.jpg").write_bytes(b"cut off")
    (folder / "Normal/volume.nii.gz").write_bytes(b"a volume")
    draw(folder, "overview.png")
    found = read(films, targets=SICK)
    reasons = dict(zip(found.quarantine["image"], found.quarantine["reason"], strict=True))
    assert len(found.table) == 7
    assert "not a whole JPEG" in reasons["Normal/broken.jpg"]
    assert "file type .gz is not read" in reasons["Normal/volume.nii.gz"]
    assert reasons["overview.png"] == "lies in no class folder"


@pytest.mark.parametrize("form", ["{part}/{kind}/{i}.png", "{kind}/{part}/{i}.png"])
def test_part_folders_give_the_split_in_any_case_and_order(tmp_path: Path, form: str) -> None:
    for part in ("Train", "VAL", "testing"):
        draw(tmp_path / "My Films", *(form.format(part=part, kind=kind, i=i) for kind in "ab" for i in range(2)))
    target = {"kind": {"column": "class", "kind": "category"}}
    found = read(tmp_path, targets=target, keep=["split"])
    assert found.columns["kind"]["levels"] == ["a", "b"]
    counts = found.table.groupby(["split", "kind"]).size()
    assert counts.to_dict() == {(p, k): 2 for p in ("train", "validation", "test") for k in "ab"}


def test_a_patient_in_two_part_folders_is_an_alarm(tmp_path: Path) -> None:
    draw(tmp_path / "My Films", "train/a/p1_1.png", "train/b/p2_1.png", "test/a/p1_2.png")
    found = read(tmp_path, keep=["split"], patient_id={"pattern": r"(p\d+)_"})
    assert found.table["patient_id"].tolist() == ["p1", "p1", "p2"]
    groups = np.unique(found.table["patient_id"], return_inverse=True)[1]
    with pytest.raises(SynthGainError, match="patient p1 stands in test and train"):
        split_from_column(found.table, groups, SplitColumn("split"), pd.DataFrame(), np.random.default_rng(0))


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    draw(tmp_path / "My Films", *(f"{i}.png" for i in range(3)))
    found = read(tmp_path)
    assert len(found.table) == 3
    assert found.columns == {}
    with pytest.raises(
        SynthGainError, match=r"no column 'class' \(asked for by targets.sick\); its folders give file_name"
    ):
        checked(tmp_path, targets=SICK)


def test_levels_name_what_folders_mean(tmp_path: Path) -> None:
    draw(tmp_path / "My Films", "north/2020/p1/1.png", "north/2021/p1/2.png", "south/2020/p2/1.png")
    found = read(tmp_path, levels=["site", "_", "person"], patient_id="person")
    assert found.table["site"].tolist() == ["unknown"] * 3
    assert read(tmp_path, levels=["site", "_", "person"], site="site").table["site"].tolist() == ["north"] * 2 + [
        "south"
    ]
    assert found.table["patient_id"].tolist() == ["p1", "p1", "p2"]


def test_patients_by_a_pattern_and_images_where_it_is_not_found(tmp_path: Path) -> None:
    draw(tmp_path / "My Films", "person1_virus_2.png", "person1_virus_3.png", "IM-2.png")
    found = read(tmp_path, patient_id={"pattern": r"person\d+"})
    assert found.table["patient_id"].tolist() == ["person1", "person1"]
    assert found.quarantine["reason"].tolist() == ["no patient id"]
    for pattern, text in (("(", "no regular expression"), ("(a)(b)", "has 2 groups")):
        with pytest.raises(ValueError, match=text):
            checked(tmp_path, patient_id={"pattern": pattern})


@pytest.mark.parametrize(
    ("images", "masks", "column"),
    [
        (["images/1.png", "images/2.png"], ["masks/1.png", "masks/2.png"], "mask"),
        (["train/Images/1.jpg", "train/Images/2.jpg"], ["train/Masks/1.png", "train/Masks/2.png"], "mask"),
        (["images/train/1.png", "images/test/1.png"], ["labels/train/1.png", "labels/test/1.png"], "mask"),
        (["benign/b (1).png", "benign/b (2).png"], ["benign/b (1)_mask.png", "benign/b (2)_mask.png"], "mask"),
        (["img/1.png"], ["Ground Truth/1_mask.png"], "mask"),
        (["CXR_png/a.png"], ["ManualMask/leftMask/a.png"], "mask_leftmask"),
        (["1.png"], ["masks/1.png"], "mask"),
    ],
)
def test_masks_are_paired_with_their_images(images: list[str], masks: list[str], column: str) -> None:
    found = paired_masks([*images, *masks])
    assert found.files == set(masks)
    assert found.columns == (column,)
    assert [found.of(image)[column] for image in images] == masks


def test_a_class_called_mask_is_no_mask() -> None:
    assert not paired_masks(["with mask/1.png", "with mask/2.png", "mask/1.png", "mask/5.png", "no/1.png"]).files


def test_paired_masks_are_read_and_one_without_an_image_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "My Films"
    draw(folder, *(f"Images/{i}.png" for i in range(3)))
    draw_mask(folder, "Masks/0.png", "Masks/2.png", "Masks/9.png")
    found = read(tmp_path, mask=[{"column": "mask", "name": "polyp"}])
    assert found.table["has_mask_polyp"].tolist() == [True, False, True]
    assert found.facts["passed_over"]["listed"] == ["Masks/9.png"]
    assert checked(tmp_path, mask=[{"column": "mask", "name": "polyp"}])


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_hugging_face_metadata_name_the_images_from_their_own_folder(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "My Films"
    draw(folder, "train/sub/Größe 1.png", "train/2.png", "train/extra.png", "test/1.png")
    names = {"train": ["sub\\" + unicodedata.normalize("NFD", "Größe 1.png"), "2.png", "gone.png"], "test": ["1.png"]}
    for part, files in names.items():
        table = pd.DataFrame({"file_name": files, "patient": [f"{part}{i}" for i in range(len(files))], "edema": 1})
        path = folder / part / f"metadata.{suffix}"
        if suffix == "csv":
            table.to_csv(path, index=False)
        elif suffix == "jsonl":
            table.to_json(path, orient="records", lines=True, force_ascii=False)
        else:
            table.to_parquet(path)
    found = read(tmp_path, targets={"edema": {"column": "edema"}}, patient_id="patient", keep=["split"])
    assert found.table["image_id"].tolist() == ["test/1.png", "train/2.png", "train/sub/Größe 1.png"]
    assert found.table["patient_id"].tolist() == ["test0", "train1", "train0"]
    assert found.table["split"].tolist() == ["test", "train", "train"]
    reasons = dict(zip(found.quarantine["image"], found.quarantine["reason"], strict=True))
    assert reasons["train/extra.png"] == "no row of the metadata names it"
    assert "file not found" in reasons["train/gone.png"]


def test_metadata_without_file_names_stop_with_one_line(films: Path) -> None:
    (films / "My Films/metadata.csv").write_text("image,label\na.png,1\n")
    with pytest.raises(SynthGainError, match=r"metadata.csv: no column 'file_name'.*it has 'image', 'label'"):
        read(films)


def test_a_changed_label_or_a_new_file_changes_the_identity_and_a_stray_hidden_one_does_not(films: Path) -> None:
    folder = films / "My Films"
    (folder / "metadata.csv").write_text("file_name,label\na.png,1\n")
    first = folder_source(folder)
    (folder / "Normal/.hidden").write_text("x")
    assert folder_source(folder) == first
    (folder / "metadata.csv").write_text("file_name,label\na.png,0\n")
    second = folder_source(folder)
    draw(folder, "Normal/new.png")
    assert len({first, second, folder_source(folder)}) == 3


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("normal/x.png", {"targets": SICK}, "'Normal' and 'normal' differ only by case"),
        ("Normal /x.png", {"targets": SICK}, "'Normal' and 'Normal ' differ only by case, blanks"),
        ("Other/x.png", {"targets": SICK}, "class folder 'Other' is not in the map of targets.sick"),
        ("empty/", {"targets": SICK}, "class folder 'empty' holds no image"),
        ("", {"targets": {"sick": {"column": "class", "map": {"normal": 0}}}}, "'Normal' is not in the map.*'normal'"),
        ("", {"targets": {"sick": {"column": "klass"}}}, "no column 'klass'"),
        ("", {"targets": {"s": {"column": "class", "kind": "category"}}, "where": {"class": "Normal"}}, "one class"),
        ("", {"split": {"column": "split"}}, r"no column 'split' \(asked for by split.column\)"),
    ],
)  # fmt: skip
def test_what_names_tell_is_refused_while_planning(
    films: Path, change: str, options: dict[str, Any], message: str
) -> None:
    if change.endswith("/"):
        (films / "My Films" / change).mkdir()
    elif change:
        draw(films / "My Films", change)
    split = {"split": {"train": 0.5, "validation": 0.2, "test": 0.3}}
    with pytest.raises(SynthGainError, match=message) as error:
        checked(films, **{**split, **options})
    assert "\n" not in str(error.value)


def test_folders_of_one_name_in_two_unicode_forms_are_named(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        draw(tmp_path / "My Films", f"{unicodedata.normalize(form, 'Ödem')}/{form}.png", "gesund/1.png")
    target = {"edema": {"column": "class", "map": {"Ödem": 1, "gesund": 0}}}
    with pytest.raises(SynthGainError, match=r"differ only by .*Unicode form") as error:
        checked(tmp_path, targets=target)
    assert r"\u0308" in str(error.value)


def test_one_decomposed_folder_is_found_by_its_composed_name(tmp_path: Path) -> None:
    draw(tmp_path / "My Films", f"{unicodedata.normalize('NFD', 'Ödem')}/1.png", "gesund/1.png")
    target = {"edema": {"column": "class", "map": {unicodedata.normalize("NFC", "Ödem"): 1, "gesund": 0}}}
    assert checked(tmp_path, targets=target)
    assert sorted(read(tmp_path, targets=target).table["edema"]) == [0, 1]


def test_case_twins_that_a_map_joins_are_fine(films: Path) -> None:
    draw(films / "My Films", "normal/x.png")
    target = {"sick": {"column": "class", "map": {"Normal": 0, "normal": 0, "TB positive": 1}}}
    assert read(films, targets=target).table["sick"].tolist().count(0) == 5
    assert alike(["a", "b"]) == []


def test_no_image_and_a_folder_that_holds_itself_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "My Films/a").mkdir(parents=True)
    with pytest.raises(SynthGainError, match="holds no image; known are"):
        read_layout(tmp_path / "My Films")
    (tmp_path / "My Films/a/loop").symlink_to(tmp_path / "My Films")
    with pytest.raises(SynthGainError, match="a link to a folder that holds it"):
        read_layout(tmp_path / "My Films")


def test_the_example_of_the_document_reads_as_it_stands(tmp_path: Path) -> None:
    (block,) = [text.partition("```")[0] for text in DOCUMENT.read_text().split("```yaml\n")[1:]]
    entry = yaml.safe_load(block)["datasets"]["ours"]
    draw(
        tmp_path,
        *(f"{entry['folder']}/{name}/patient{n // 2}_{n}.png" for n in range(4) for name in ("NORMAL", "PNEUMONIA")),
    )
    got = prepare(FolderDataset.model_validate(entry).job_options("ours"), IMAGE, 0, tmp_path)
    assert got.table["pneumonia"].value_counts().to_dict() == {0.0: 4, 1.0: 4}
    assert set(got.table["patient_id"]) == {"patient0", "patient1"}
    assert got.quarantine.empty
