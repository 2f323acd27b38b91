"""Published chest film tables as they come back from spreadsheets and scripts: the right value, or one clear line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_chest_siblings import MIMIC, copied, edited, put, read_copy, renamed, sets

from synthgain.datasets.layout_options import LabelPolicy, LayoutOptions
from synthgain.datasets.layouts import candid_ptx, chexpert, mimic_cxr_jpg, nih_cxr14, padchest, siim_acr, vindr_cxr
from synthgain.datasets.layouts.chest_labels import CHEXPERT, snake
from synthgain.runtime.errors import SynthGainError

__all__ = ["sets"]
Change = Callable[[pd.DataFrame], pd.DataFrame]
RSNA, CANDID, NIH = "stage_2_train_labels.csv", "Pneumothorax_reports.csv", "Data_Entry_2017.csv"
PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
VINDR = "annotations/image_labels_train.csv"


def added(**values: str) -> Change:
    """The first row once more, with other values."""
    return lambda table: pd.concat([table, table.iloc[:1].assign(**values)], ignore_index=True)


def floats(*columns: str) -> Change:
    return lambda table: table.assign(**{name: table[name] + ".0" for name in columns})


@pytest.mark.parametrize(
    ("layout", "file", "change", "said"),
    [
        ("chexpert", "train.csv", put("Sex", "1"), r"train\.csv: 'Sex' holds '1'"),
        ("chexpert", "train.csv", put("Age", "90+", 0), r"train\.csv: 'Age' holds '90\+', which is no number"),
        ("chexpert", "train.csv", renamed(Edema="Oedema"), "no column 'Edema'"),
        ("mimic_cxr_jpg", f"{MIMIC}split.csv.gz", put("split", "val", 0), "'split' holds 'val'; "),
        ("mimic_cxr_jpg", f"{MIMIC}split.csv.gz", added(split="test"), "dicom_id '.*' has two rows, with 'split' '"),
        ("mimic_cxr_jpg", f"{MIMIC}chexpert.csv.gz", added(Edema="7"), "study_id '.*' has two rows, with 'Edema'"),
        ("mimic_cxr_jpg", "patients.csv.gz", added(gender="X"), "'10000032' has two rows, with 'gender'"),
        ("mimic_cxr_jpg", "patients.csv.gz", put("anchor_age", ">89", 0), "'anchor_age' holds '>89', which is no num"),
        ("nih_cxr14", NIH, renamed(Patient_Age="Age"), "no column 'Patient Age'"),
        ("nih_cxr14", NIH, put("Patient Gender", "058Y", 0), "'Patient Gender' holds '058y'"),
        ("nih_cxr14", NIH, put("Finding Labels", "Efusion", 0), "did you mean 'effusion'"),
        ("rsna_pneumonia", RSNA, put("width", "", 0), "is no box"),
        ("rsna_pneumonia", RSNA, put("width", "0", 0), "is no box"),
        ("rsna_pneumonia", RSNA, put("height", "inf", 0), "is no box"),
        ("rsna_pneumonia", RSNA, put("Target", "0"), "has a box and Target 0"),
        ("candid_ptx", CANDID, put("EncodedPixels", "[]", 0), r"'\[\]' is neither run lengths"),
        ("candid_ptx", CANDID, put("EncodedPixels", "10.5 3", 0), "is neither run lengths"),
        ("siim_acr", "train-rle.csv", put(1, "no mask", 0), "'no mask' is neither run lengths"),
        ("vindr_cxr", VINDR, put("Cardiomegaly", "", 0), "holds ''; a reader's vote is 0 or 1"),
        ("vindr_cxr", VINDR, added(Cardiomegaly="7"), "has two rows, with 'Cardiomegaly'"),
        ("padchest", PADCHEST, put("PatientBirth", "?938", 0), "'PatientBirth' holds '.938', which is no number"),
        ("padchest", PADCHEST, put("PatientSex_DICOM", "H"), "'PatientSex_DICOM' holds 'h'"),
    ],
)
def test_what_cannot_be_right_is_one_line(
    sets: Path, tmp_path: Path, layout: str, file: str, change: Change, said: str
) -> None:
    edited(copied(sets, tmp_path, layout) / file, change)
    with pytest.raises(SynthGainError, match=said) as caught:
        read_copy(tmp_path, layout)
    assert "\n" not in str(caught.value)


def rows_after(sets: Path, root: Path, layout: str, module: Any, file: str, change: Change, **options: Any) -> Any:
    """Return the rows of a miniature before and after a change to one of its tables."""
    folder = copied(sets, root, layout)
    told = () if layout == "siim_acr" else (LayoutOptions(**options),)
    before = module.rows(folder, *told)
    edited(folder / file, change)
    return before, module.rows(folder, *told)


FINDINGS = [snake(name) for name in CHEXPERT]
ZERO = {"labels": LabelPolicy(blank="zero"), "findings": FINDINGS}


@pytest.mark.parametrize(
    ("layout", "module", "file", "change", "options"),
    [
        ("chexpert", chexpert, "train.csv", lambda table: table.replace("", "nan"), ZERO),
        (
            "chexpert",
            chexpert,
            "train.csv",
            lambda table: table.replace({"-1.0": "-1", "1.0": " 1", "0.0": "0 "}),
            ZERO,
        ),
        ("chexpert", chexpert, "train.csv", lambda table: table.assign(Sex=table["Sex"].str.upper()), ZERO),
        ("chexpert", chexpert, "train.csv", lambda table: table.rename_axis("").reset_index(), ZERO),
        ("mimic_cxr_jpg", mimic_cxr_jpg, f"{MIMIC}chexpert.csv.gz", lambda table: table.replace("", "NaN"), ZERO),
        ("mimic_cxr_jpg", mimic_cxr_jpg, f"{MIMIC}metadata.csv.gz", floats("subject_id", "study_id"), ZERO),
        ("mimic_cxr_jpg", mimic_cxr_jpg, f"{MIMIC}chexpert.csv.gz", floats("subject_id", "study_id"), ZERO),
        ("mimic_cxr_jpg", mimic_cxr_jpg, "patients.csv.gz", floats("subject_id", "anchor_age"), ZERO),
        ("mimic_cxr_jpg", mimic_cxr_jpg, f"{MIMIC}split.csv.gz", added(), ZERO),
        ("nih_cxr14", nih_cxr14, NIH, lambda table: table.assign(**{"Unnamed: 11": ""}), {"findings": ["effusion"]}),
        (
            "nih_cxr14",
            nih_cxr14,
            NIH,
            lambda table: table.assign(**{"Patient Gender": table["Patient Gender"].str.lower()}),
            {"findings": ["effusion"]},
        ),
        ("nih_cxr14", nih_cxr14, NIH, renamed(Patient_Gender="Patient Sex"), {"findings": ["effusion"]}),
        ("candid_ptx", candid_ptx, CANDID, lambda table: table.replace("-1", "-1.0"), {}),
        ("candid_ptx", candid_ptx, CANDID, lambda table: table.replace("-1", " -1 "), {}),
        ("siim_acr", siim_acr, "train-rle.csv", lambda table: table.replace(" -1", "-1.0").replace("-1", "-1.0"), {}),
        ("vindr_cxr", vindr_cxr, VINDR, added(), {"findings": ["cardiomegaly", "lung_opacity"]}),
        (
            "padchest",
            padchest,
            PADCHEST,
            lambda table: table.assign(Labels=table["Labels"].str.replace("'", '"')),
            {"findings": ["nodule", "effusion"]},
        ),
        (
            "padchest",
            padchest,
            PADCHEST,
            lambda table: table.assign(Labels=table["Labels"].str.replace("'", "")),
            {"findings": ["nodule", "effusion"]},
        ),
        (
            "padchest",
            padchest,
            PADCHEST,
            lambda table: table.assign(Labels=table["Labels"].str.replace("', '", " ' '")),
            {"findings": ["nodule", "effusion"]},
        ),
        ("padchest", padchest, PADCHEST, lambda table: table.replace("", "nan"), {"findings": ["nodule", "effusion"]}),
        ("padchest", padchest, PADCHEST, floats("PatientBirth", "StudyDate_DICOM"), {"findings": ["nodule"]}),
    ],
)
def test_another_spelling_is_the_same_value(
    sets: Path, tmp_path: Path, layout: str, module: Any, file: str, change: Change, options: dict[str, Any]
) -> None:
    before, after = rows_after(sets, tmp_path, layout, module, file, change, **options)
    pd.testing.assert_frame_equal(before, after)


def test_a_fourth_reader_counts_and_two_of_four_are_no_majority(sets: Path, tmp_path: Path) -> None:
    """Of the first film one of three readers says cardiomegaly, two say lung opacity."""
    found = {}
    for vote in ("0", "1"):
        change = added(rad_id="R17", **{"Cardiomegaly": vote, "Lung Opacity": vote})
        options = {"findings": ["cardiomegaly", "lung_opacity"]}
        _, after = rows_after(sets, tmp_path / vote, "vindr_cxr", vindr_cxr, VINDR, change, **options)
        found[vote] = after.loc[0, ["readers", "cardiomegaly", "lung_opacity"]].tolist()
    assert found == {"0": ["4", "0", "0"], "1": ["4", "0", "1"]}


def test_pneumonia_without_a_box_has_unknown_boxes_not_none(sets: Path, tmp_path: Path) -> None:
    """The first film has two boxes; a script wrote nan in place of both."""

    def blank(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table["patientId"] == table["patientId"].iloc[0], ["x", "y", "width", "height"]] = "nan"
        return table

    edited(copied(sets, tmp_path, "rsna_pneumonia") / RSNA, blank)
    table = read_copy(tmp_path, "rsna_pneumonia").table
    assert table["pneumonia"].iloc[0] == 1
    assert table["has_mask_pneumonia_box"].tolist() == [False] + [True] * (len(table) - 1)


def test_run_lengths_that_start_one_too_late_are_left_out_where_they_leave_the_film(sets: Path, tmp_path: Path) -> None:
    """A shift by one pixel elsewhere cannot be seen but in the audit's outlines, which `confirmed` is for."""
    path = copied(sets, tmp_path, "candid_ptx") / CANDID
    edited(path, lambda table: table.assign(EncodedPixels=[*table["EncodedPixels"].iloc[:-1], f"{1024 * 1024 - 4} 5"]))
    assert len(read_copy(tmp_path, "candid_ptx", confirmed=True).quarantine) == 2  # the other is under two patients


def test_nih_ages_of_both_releases(sets: Path, tmp_path: Path) -> None:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        ages = ["058Y", "58", "414", "006M", "058 Y"]
        return table.assign(**{"Patient Age": [*ages, *table["Patient Age"].iloc[len(ages) :]]})

    edited(copied(sets, tmp_path, "nih_cxr14") / NIH, change)
    ages = read_copy(tmp_path, "nih_cxr14").table["age"].tolist()[:5]
    assert [ages[0], ages[1], ages[4]] == [58, 58, 58]
    assert pd.isna(ages[2])  # impossible, and counted so
    assert pd.isna(ages[3])  # half a year is below the range, too
