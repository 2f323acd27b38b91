"""The published chest film sets, each read from its miniature: expected values are written by hand, trap by trap."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from synthgain.datasets.known_layouts import CHEXPERT_FINDINGS, KNOWN_LAYOUTS
from synthgain.datasets.layout_options import LabelPolicy, LayoutOptions
from synthgain.datasets.layouts import candid_ptx, chexpert, chexpert_plus, mimic_cxr_jpg, nih_cxr14, padchest
from synthgain.datasets.layouts.boxes import Box, runs_of
from synthgain.datasets.layouts.chest_labels import findings_of, race_of
from synthgain.datasets.miniatures import MINIATURES, write_miniature
from synthgain.datasets.published import prepare
from synthgain.datasets.source import Prepared
from synthgain.runtime.errors import SynthGainError
from synthgain.study.data import Dataset
from synthgain.study.load import parse_study

CONFIG: TypeAdapter[Any] = TypeAdapter(Dataset)
GEOMETRY = {"size": 32, "channels": 1, "fit": "pad", "intensity": "none"}
ALL = LayoutOptions(findings=list(CHEXPERT_FINDINGS))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with every miniature."""
    root = tmp_path_factory.mktemp("sets")
    for name in MINIATURES:
        write_miniature(name, root, KNOWN_LAYOUTS[name].folder, patients=8)
    return root


def read(root: Path, layout: str, image: dict[str, object] | None = None, **options: Any) -> Prepared:
    config = CONFIG.validate_python({"adapter": "published", "layout": layout, **options})
    return prepare({**config.job_options("one"), **config.settings}, {**GEOMETRY, **(image or {})}, 0, root, 2)


def reasons(got: Prepared) -> list[str]:
    return sorted(got.quarantine["reason"])


@pytest.mark.parametrize(
    ("layout", "extra"),
    [
        ("chexpert", {}),
        ("mimic_cxr_jpg", {}),
        ("nih_cxr14", {}),
        ("rsna_pneumonia", {}),
        ("candid_ptx", {"confirmed": True}),
        ("vindr_cxr", {"findings": ["cardiomegaly", "lung_opacity"]}),
        ("padchest", {"findings": ["nodule", "effusion"], "image": {"intensity": "minmax"}}),
        ("siim_acr", {}),
    ],
)
def test_a_miniature_is_read_whole(sets: Path, layout: str, extra: dict[str, Any]) -> None:
    got = read(sets, layout, **extra)
    assert len(got.table) >= 8
    assert got.images.std() > 10
    assert (
        set(got.columns)
        <= CONFIG.validate_python(
            {"adapter": "published", "layout": layout, **{k: v for k, v in extra.items() if k != "image"}}
        ).known_columns
    )


def test_chexpert_patients_views_ages_and_parts(sets: Path) -> None:
    table = chexpert.rows(sets / "CheXpert-v1.0", ALL).set_index("image_id")
    first = table.loc["patient00001-study1-view1_frontal"]
    assert first["image"] == "train/patient00001/study1/view1_frontal.jpg"  # without CheXpert-v1.0-small/
    assert first["patient"] == "patient00001"
    assert (first["sex"], first["age"]) == ("", "")  # Unknown; 0 is no age
    assert table.loc["patient00002-study1-view2_frontal", "age"] == "90"
    assert table.loc["patient00003-study1-view4_lateral", "view"] == "lateral"
    assert table.loc["patient64741-study1-view1_frontal", ["part", "sex", "age"]].tolist() == ["test", "", ""]
    assert table.loc["patient64741-study1-view1_frontal", "edema"] == "1"
    assert first["race"] == "white"
    assert table.loc["patient00002-study1-view2_frontal", "race"] == "black"
    assert table[table["patient"] == "patient00005"]["race"].iloc[0] == "other"


@pytest.mark.parametrize(
    ("policy", "uncertain", "zero", "blank", "clear", "devices"),
    [
        ({}, "", "0", "", "", ""),
        ({"uncertain": "zero"}, "0", "0", "", "", ""),
        ({"uncertain": "one"}, "1", "0", "", "", ""),
        ({"uncertain": "own_class"}, "uncertain", "0", "", "", ""),
        ({"blank": "zero"}, "", "0", "0", "0", "0"),
        ({"blank": "zero_if_no_finding"}, "", "0", "", "0", ""),
    ],
    ids=["default", "zero", "one", "own class", "blank zero", "blank zero if no finding"],
)
def test_chexpert_label_policies(
    sets: Path, policy: dict[str, str], uncertain: str, zero: str, blank: str, clear: str, devices: str
) -> None:
    options = LayoutOptions(labels=LabelPolicy(**policy), findings=list(CHEXPERT_FINDINGS))
    table = chexpert.rows(sets / "CheXpert-v1.0", options).set_index("image_id")
    first, third = table.loc["patient00001-study1-view1_frontal"], table.loc["patient00002-study1-view3_frontal"]
    assert first["edema"] == uncertain  # −1.0
    assert first["pleural_effusion"] == zero  # 0.0
    assert first["fracture"] == blank
    assert third["no_finding"] == "1"
    assert third["fracture"] == clear
    assert third["support_devices"] == devices  # No Finding says nothing of devices


def test_numbers_are_one_value_however_they_are_spelled() -> None:
    labels = pd.DataFrame({"edema": ["1", "1.0", "0", "0.00", "-1", "-1.0", "", "?"]})
    found = findings_of(labels, LayoutOptions(labels=LabelPolicy(uncertain="zero")))
    assert found["edema"].tolist() == ["1", "1", "0", "0", "0", "0", "", "?"]  # ? is quarantined where it is read


def test_an_uncertain_label_may_be_a_class(sets: Path) -> None:
    got = read(sets, "chexpert", labels={"uncertain": "own_class"}, findings=["edema"])
    assert got.columns["edema"]["levels"] == ["0", "1", "uncertain"]
    assert got.table.set_index("image_id").loc["patient00001-study1-view1_frontal", "edema"] == "uncertain"


def test_chexpert_test_labels_by_study(sets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "CheXpert-v1.0"
    shutil.copytree(sets / "CheXpert-v1.0", folder)
    (folder / "test_labels.csv").unlink()
    (folder / "groundtruth.csv").write_text("Study,Edema\nCheXpert-v1.0/test/patient64741/study1,1\n")
    table = chexpert.rows(folder, ALL).set_index("image_id")
    assert table.loc["patient64741-study1-view1_frontal", "edema"] == "1"
    assert table.loc["patient64741-study1-view1_frontal", "fracture"] == ""  # the table has no such column


def test_mimic_labels_by_study_test_labels_by_radiologists_and_people(sets: Path) -> None:
    table = mimic_cxr_jpg.rows(sets / "mimic-cxr-jpg", ALL)
    first = table.iloc[0]
    assert first["image"] == "files/p10/p10000032/s50414267/00000000-00000000.jpg"
    assert (first["patient"], first["part"], first["view"]) == ("p10000032", "train", "PA")
    assert first["age"] == "42"  # 40 in 2178, the study in 2180
    assert first["race"] == "asian"  # WHITE once, ASIAN - CHINESE twice
    assert first["impression"] == "No acute cardiopulmonary process."
    unmatched = table[table["patient"] == "p10000133"].iloc[0]
    assert (unmatched["sex"], unmatched["age"]) == ("", "")
    tested = table[table["part"] == "test"].iloc[0]
    assert (tested["lung_opacity"], tested["edema"], tested["no_finding"]) == ("1", "0", "")
    assert table[table["patient"] == "p10000335"]["part"].unique().tolist() == ["validation"]  # published as validate
    same = table.groupby("patient")[list(CHEXPERT_FINDINGS)].nunique()
    assert same.max().max() == 1  # labels are per study


def test_mimic_labels_of_negbio(sets: Path) -> None:
    options = LayoutOptions(labels=LabelPolicy(source="negbio", uncertain="one"), findings=["edema"])
    table = mimic_cxr_jpg.rows(sets / "mimic-cxr-jpg", options)
    assert table[table["part"] == "train"]["edema"].eq("1").all()


def test_an_age_over_89_is_91(sets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mimic"
    shutil.copytree(sets / "mimic-cxr-jpg", folder)
    (folder / "patients.csv.gz").unlink()
    (folder / "patients.csv").write_text("subject_id,gender,anchor_age,anchor_year\n10000032,F,91,2176\n")
    assert mimic_cxr_jpg.rows(folder, ALL).iloc[0]["age"] == "91"


def test_nih_broken_headers_ages_lists_and_boxes(sets: Path) -> None:
    options = LayoutOptions(findings=["effusion", "infiltration", "no_finding"])
    table = nih_cxr14.rows(sets / "nih-cxr14", options).set_index("image_id")
    assert table.loc["00000001_000", "image"] == "images_001/images/00000001_000.png"
    assert table.loc["00000002_000", "image"] == "images_002/images/00000002_000.png"
    assert table.loc["00000001_000", ["age", "patient", "part"]].tolist() == ["58", "00000001", "train"]
    assert table.loc["00000004_000", "part"] == "test"
    assert table.loc["00000002_000", "age"] == "414"
    assert table.loc["00000001_000", "infiltration_box"].startswith("204901 300 ")  # row 200, column 100
    assert table.loc["00000002_000", "infiltration_box"] == ""
    got = read(sets, "nih_cxr14")
    assert np.isnan(got.table.set_index("image_id").loc["00000002_000", "age"])  # impossible
    assert got.facts["impossible_values"]["age"] == 1
    assert got.masks is not None
    plane = got.masks[0, :, :, got.mask_names.index("infiltration_box")]
    assert plane.sum() == pytest.approx(300 * 150 / 1024**2 * 32**2, rel=0.25)
    assert got.table["has_mask_infiltration_box"].tolist()[:2] == [True, False]


def test_boxes_become_run_lengths() -> None:
    assert runs_of([Box(1, 0, 2, 2)], 3, 4) == "2 2 6 2"
    assert runs_of([Box(0, 0, 1, 1), Box(0, 0, 2, 1)], 2, 2) == "1 2"
    assert runs_of([Box(-5, -5, 100, 100)], 2, 2) == "1 4"  # cut at the edge
    with pytest.raises(SynthGainError, match="no box"):
        Box.of(["1", "x", "3", "4"], "t.csv")


def test_rsna_boxes_are_grouped_and_patients_are_those_of_the_nih(sets: Path) -> None:
    got = read(sets, "rsna_pneumonia")
    table = got.table
    assert not table["image_id"].duplicated().any()  # a row per box becomes a row per film
    assert got.masks is not None
    two = got.masks[0, :, :, 0]
    assert two[5:16, 9:14].all()  # both boxes of the first film: columns 264 to 477 …
    assert two[5:16, 18:25].all()  # … and 562 to 818 of 1024, at 32 pixels
    assert not two[5:16, 16].any()
    assert table["class"].iloc[0] == "lung_opacity"
    assert set(table["class"]) <= {"lung_opacity", "normal", "not_normal"}
    assert table["patient_id"].iloc[0] == "00000001"
    assert table["patient_id"].nunique() == 8
    assert len(table) > 8
    assert got.facts["split_unit"] == "patient"
    negative = table["pneumonia"].eq(0).to_numpy()
    assert not got.masks[negative].any()
    assert table["has_mask_pneumonia_box"].all()  # known to be empty


def test_rsna_without_the_mapping_is_refused_or_said(sets: Path, tmp_path: Path) -> None:
    shutil.copytree(sets / "rsna-pneumonia", tmp_path / "rsna-pneumonia")
    next((tmp_path / "rsna-pneumonia").glob("*mappings*")).unlink()
    with pytest.raises(SynthGainError, match=r"mappings_2018\.json .* mapping: false"):
        read(tmp_path, "rsna_pneumonia")
    got = read(tmp_path, "rsna_pneumonia", mapping=False)
    assert got.facts["split_unit"] == "image"
    assert not CONFIG.validate_python(
        {"adapter": "published", "layout": "rsna_pneumonia", "mapping": False}
    ).has_patients


def test_candid_twins_two_patients_regions_and_confirmation(sets: Path) -> None:
    folder = sets / "candid-ptx"
    table = candid_ptx.rows(folder, LayoutOptions())
    assert not table["image_id"].duplicated().any()  # the first film is listed twice
    assert table["patient"].iloc[0] == "P0000"
    assert table["patient"].iloc[1] == ""  # under P0000 and P9999
    assert table["chest_tube"].tolist()[:4] == ["1", "0", "0", "1"]
    without = read(sets, "candid_ptx")
    assert without.masks is None  # the convention of the run lengths is not verified
    assert reasons(without) == ["under two patients"]
    confirmed = read(sets, "candid_ptx", confirmed=True)
    assert confirmed.mask_names == ["pneumothorax", "chest_tube", "rib_fracture"]


@pytest.mark.parametrize("layout", ["chexpert", "candid_ptx"])
def test_miniatures_hold_the_lungs_and_hearts_of_chexmask(sets: Path, layout: str) -> None:
    folder = KNOWN_LAYOUTS[layout].folder
    got = read(sets, layout, chexmask=f"{folder}/chexmask.csv")
    assert {"lungs", "heart"} <= set(got.mask_names)
    assert got.masks is not None
    lungs, heart = (got.masks[..., got.mask_names.index(name)].astype(bool) for name in ("lungs", "heart"))
    known = got.table["has_mask_lungs"].to_numpy()
    assert not known.all()
    grey = got.images[..., 0].astype(float)
    assert grey[known][lungs[known]].mean() + 40 < grey[known][heart[known]].mean()


@pytest.mark.parametrize(("votes", "heart", "opacity"), [("majority", 0, 1), ("any", 1, 1), ("all", 0, 0)])
def test_vindr_votes(sets: Path, votes: str, heart: int, opacity: int) -> None:
    """Of the first film one of three readers says cardiomegaly, two say lung opacity."""
    got = read(sets, "vindr_cxr", labels={"votes": votes}, findings=["cardiomegaly", "lung_opacity", "other_diseases"])
    first = got.table.set_index("image_id").loc[f"{0:032x}"]
    assert (first["cardiomegaly"], first["lung_opacity"]) == (heart, opacity)
    assert got.table["other_diseases"].notna().all()  # `Other disease` of the test table is the same
    assert got.facts["split_unit"] == "image"


def test_vindr_films_with_white_as_zero_are_turned(sets: Path) -> None:
    got = read(sets, "vindr_cxr", findings=["cardiomegaly"])
    means = got.images.reshape(len(got.images), -1).mean(axis=1)
    assert np.ptp(means) < 60  # every other one is MONOCHROME1: not turned, they would be the negative


def test_padchest_labels_depth_and_damage(sets: Path) -> None:
    table = padchest.rows(sets / "padchest", LayoutOptions(findings=["effusion", "normal"]))
    assert table["effusion"].iloc[0] == ""  # blank is unknown, not normal
    assert table["usable"].iloc[1] == ""  # excluded
    assert table["view"].iloc[2] == "AP_horizontal"
    assert table["age"].iloc[2] == "76"  # 2014 − 1938
    with pytest.raises(SynthGainError, match="intensity"):
        read(sets, "padchest", findings=["nodule"])
    got = read(sets, "padchest", findings=["nodule"], image={"intensity": "minmax"})
    assert "excluded by its readers, or suboptimal" in reasons(got)
    assert len(reasons(got)) == 2  # and the file that cannot be read
    with pytest.raises(SynthGainError, match="no film has the finding 'effusions'; did you mean 'effusion'"):
        read(sets, "padchest", findings=["effusions"], image={"intensity": "minmax"})


def test_chexpert_plus(tmp_path: Path) -> None:
    folder = tmp_path / "chexpert-plus"
    (folder / "chexbert_labels").mkdir(parents=True)
    columns = "path_to_image,frontal_lateral,ap_pa,deid_patient_id,age,sex,race,section_impression,split"
    path = "train/patient1/study1/view1_frontal.jpg"
    (folder / "df_chexpert_plus_240401.csv").write_text(
        f'{columns}\n{path},Frontal,AP,patient1,63.0,Female,Asian,"1. NO\nCHANGE.",train\n'
    )
    labels = dict.fromkeys(chexpert.CHEXPERT) | {"Edema": 1.0, "Fracture": -1.0, "path_to_image": path}
    (folder / "chexbert_labels" / "impression_fixed.json").write_text(json.dumps(labels) + "\n")
    (row,) = chexpert_plus.rows(folder, ALL).to_dict("records")
    assert row["image"] == "PNG/train/patient1/study1/view1_frontal.png"
    assert (row["age"], row["sex"], row["race"], row["part"]) == ("63", "F", "asian", "train")
    assert (row["edema"], row["fracture"], row["pneumonia"]) == ("1", "", "")
    assert row["impression"] == "1. NO CHANGE."


@pytest.mark.parametrize(
    ("words", "race"),
    [
        ("White, non-Hispanic", "white"),
        ("Black or African American", "black"),
        ("ASIAN - CHINESE", "asian"),
        ("Native Hawaiian or Other Pacific Islander", "other"),
        ("Patient Refused", ""),
        ("Unknown", ""),
        ("UNABLE TO OBTAIN", ""),
        ("", ""),
    ],
)
def test_words_for_race(words: str, race: str) -> None:
    assert race_of(pd.Series([words])).tolist() == [race]


def test_chexmask_lungs_and_heart(sets: Path, tmp_path: Path) -> None:
    root = tmp_path
    shutil.copytree(sets / "nih-cxr14", root / "nih-cxr14")
    runs = runs_of([Box(0, 0, 512, 1024)], 1024, 1024)
    rows = [
        "Image Index,Dice RCA (Mean),Landmarks,Left Lung,Right Lung,Heart,Height,Width",
        f"00000001_000.png,0.9,x,{runs},1 10,5 2,1024,1024",
        f"00000002_000.png,0.3,x,{runs},1 10,5 2,1024,1024",
    ]
    (root / "mask.csv").write_text("\n".join(rows) + "\n")
    got = read(root, "nih_cxr14", chexmask="mask.csv")
    assert {"lungs", "heart"} <= set(got.mask_names)
    assert got.masks is not None
    assert got.masks[0, :, :, got.mask_names.index("lungs")].mean() == pytest.approx(0.5, abs=0.05)
    assert got.table["has_mask_lungs"].tolist()[:2] == [True, False]  # the second is below the authors' limit
    (root / "other.csv").write_text(rows[0] + "\nx.png,0.9,x,1 1,1 1,1 1,1,1\n")
    with pytest.raises(SynthGainError, match="names none of the"):
        read(root, "nih_cxr14", chexmask="other.csv")
    with pytest.raises(SynthGainError, match="no column 'Left Lung'"):
        read(root, "nih_cxr14", chexmask="nih-cxr14/Data_Entry_2017.csv")


@pytest.mark.parametrize(
    ("layout", "file", "change", "said"),
    [
        ("chexpert", "train.csv", ("Pleural Effusion", "Effusion"), "no column 'Pleural Effusion'"),
        ("chexpert", "train.csv", ("patient0", "person0"), "no patient in the path"),
        ("nih_cxr14", "Data_Entry_2017.csv", ("Image Index", "Path"), "is it NIH's Data_Entry_2017"),
        ("rsna_pneumonia", "stage_2_train_labels.csv", ("Target", "Class"), "no column 'Target'"),
        ("vindr_cxr", "annotations/image_labels_test.csv", ("Cardiomegaly", "Heart"), "no column for 'cardiomegaly'"),
        ("candid_ptx", "Pneumothorax_reports.csv", ("filename", "name"), "no column 'filename'"),
    ],
)
def test_a_renamed_column_or_another_set_is_one_line(
    sets: Path, tmp_path: Path, layout: str, file: str, change: tuple[str, str], said: str
) -> None:
    folder = KNOWN_LAYOUTS[layout].folder
    shutil.copytree(sets / folder, tmp_path / folder)
    path = tmp_path / folder / file
    path.write_text(path.read_text().replace(*change))
    extra = {"findings": ["cardiomegaly"]} if layout == "vindr_cxr" else {}
    with pytest.raises(SynthGainError, match=said) as caught:
        read(tmp_path, layout, **extra)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("chexpert", "train.csv"),
        ("mimic_cxr_jpg", "mimic-cxr-2.0.0-split.csv.gz"),
        ("nih_cxr14", "Data_Entry_2017.csv"),
        ("rsna_pneumonia", "stage_2_train_labels.csv"),
        ("padchest", "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"),
    ],
)
def test_a_missing_companion_says_what_to_get(sets: Path, tmp_path: Path, layout: str, file: str) -> None:
    folder = KNOWN_LAYOUTS[layout].folder
    shutil.copytree(sets / folder, tmp_path / folder)
    (tmp_path / folder / file).unlink()
    with pytest.raises(SynthGainError, match=r"https://|register at"):
        read(tmp_path, layout, **({"findings": ["nodule"]} if layout == "padchest" else {}))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"layout": "siim_acr", "labels": {"uncertain": "one"}}, "does not heed it"),
        ({"layout": "chexpert", "findings": ["edma"]}, "did you mean 'edema'"),
        ({"layout": "vindr_cxr"}, "name those that are read"),
        ({"layout": "chexpert", "labels": {"uncertain": "maybe"}}, "uncertain"),
        ({"layout": "chexprt"}, "layout"),
    ],
    ids=range(5),
)
def test_wrong_keys_are_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CONFIG.validate_python({"adapter": "published", **config})


def overlapping(**external: Any) -> dict[str, Any]:
    published = {"adapter": "published"}
    split = {"split": {"train": 0.6, "validation": 0.2, "test": 0.2}}
    return {
        "study": "overlap",
        "datasets": {
            "nih": {**published, "layout": "nih_cxr14", "findings": ["pneumonia"], **split},
            "rsna": {**published, "layout": "rsna_pneumonia", **external},
        },
        "models": {"cnn": {"targets": ["pneumonia"], "steps": 10}},
        "arms": {"real": {"real": "nih"}},
        "evaluate_on": ["nih", "rsna"],
        "analysis": {},
        "rehearsal": True,
    }


def test_a_set_cut_from_the_training_set_is_no_external_test() -> None:
    with pytest.raises(SynthGainError, match=r"films of 'rsna' and 'nih' are of the same patients \(nih\)"):
        parse_study(overlapping())
    parse_study(overlapping(shares_films="shown in the audit"))


def test_many_rows_are_read(tmp_path: Path) -> None:
    """How long 223,414 rows take is measured in benchmarks/."""
    rows = 4000
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *chexpert.CHEXPERT]
    path = "CheXpert-v1.0/train/patient{:05d}/study1/view1_frontal.jpg"
    table = pd.DataFrame({name: ["1.0"] * rows for name in columns})
    table["Path"] = [path.format(i) for i in range(rows)]
    table["Frontal/Lateral"] = "Frontal"
    table["Sex"] = "Male"
    table.to_csv(tmp_path / "train.csv", index=False)
    found = chexpert.rows(tmp_path, ALL)
    assert len(found) == rows
    assert found["patient"].nunique() == rows


def test_a_miniature_is_never_written_over(sets: Path) -> None:
    with pytest.raises(SynthGainError, match="there already"):
        write_miniature("chexpert", sets, "CheXpert-v1.0", patients=3)
