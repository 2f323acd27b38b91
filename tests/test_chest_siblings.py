"""Chest film sets that do not fit together: another release, another set's file, a renamed column: one line each."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_chest_layouts import overlapping, read, reasons

from synthgain.datasets.known_layouts import KNOWN_LAYOUTS
from synthgain.datasets.layout_options import LabelPolicy, LayoutOptions
from synthgain.datasets.layouts import mimic_cxr_jpg
from synthgain.datasets.miniatures import MINIATURES, write_miniature
from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study

FINDINGS: dict[str, list[str]] = {"vindr_cxr": ["cardiomegaly"], "padchest": ["nodule"]}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name in MINIATURES:
        write_miniature(name, root, KNOWN_LAYOUTS[name].folder, patients=8)
    return root


def copied(sets: Path, root: Path, layout: str) -> Path:
    folder = KNOWN_LAYOUTS[layout].folder
    return Path(shutil.copytree(sets / folder, root / folder))


def read_copy(root: Path, layout: str, **options: Any) -> Any:
    image = {"intensity": "minmax"} if layout == "padchest" else None
    found = {"findings": FINDINGS[layout]} if layout in FINDINGS else {}
    return read(root, layout, image, **found, **options)


def edited(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table).to_csv(path, index=False)


def renamed(**names: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.rename(columns={old.replace("_", " "): new for old, new in names.items()})


def put(column: str | int, value: str, row: int | None = None) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        name = table.columns[column] if isinstance(column, int) else column
        if row is None:
            table[name] = value
        else:
            table.loc[row, name] = value
        return table

    return change


MIMIC = "mimic-cxr-2.0.0-"


@pytest.mark.parametrize(
    ("layout", "file", "change", "said"),
    [
        ("chexpert", "test_labels.csv", renamed(Edema="Oedema"), "no column 'Edema', but 'Oedema'"),
        ("mimic_cxr_jpg", "mimic-cxr-2.1.0-test-set-labeled.csv", renamed(Edema="Oedema"), "'Edema', but 'Oedema'"),
        ("mimic_cxr_jpg", f"{MIMIC}chexpert.csv.gz", renamed(Edema="Oedema"), "no column 'Edema'"),
        ("mimic_cxr_jpg", f"{MIMIC}chexpert.csv.gz", put("study_id", "9"), "names none of the set's studies"),
        ("mimic_cxr_jpg", f"{MIMIC}split.csv.gz", put("dicom_id", "x"), "names none of the set's films"),
        ("mimic_cxr_jpg", "patients.csv.gz", put("subject_id", "9"), "patients.csv.gz: it names none .* patients"),
        ("mimic_cxr_jpg", "admissions.csv.gz", put("subject_id", "9"), "admissions.csv.gz: it names none"),
        ("nih_cxr14", "Data_Entry_2017.csv", put(1, "Efusion", 0), "'efusion' in .* did you mean 'effusion'"),
        ("nih_cxr14", "BBox_List_2017.csv", put(0, "x.png"), "BBox_List_2017.csv: it names none of the set's films"),
        ("rsna_pneumonia", "stage_2_detailed_class_info.csv", put("patientId", "x"), "names none of the set's films"),
        ("candid_ptx", "chest_tube.csv", put("anon_SOPUID", "1.2.3"), "chest_tube.csv: it names none"),
        ("vindr_cxr", "annotations/image_labels_train.csv", put("Cardiomegaly", "yes", 0), "holds 'yes'; a reader"),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" not in value else "",
)
def test_what_does_not_fit_is_one_line(
    sets: Path, tmp_path: Path, layout: str, file: str, change: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    edited(copied(sets, tmp_path, layout) / file, change)
    with pytest.raises(SynthGainError, match=said) as caught:
        read_copy(tmp_path, layout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("mimic_cxr_jpg", f"{MIMIC}metadata.csv.gz"),
        ("mimic_cxr_jpg", f"{MIMIC}chexpert.csv.gz"),
        ("candid_ptx", "Pneumothorax_reports.csv"),
        ("vindr_cxr", "annotations/image_labels_train.csv"),
        ("siim_acr", "train-rle.csv"),
        ("rsna_pneumonia", "pneumonia-challenge-dataset-mappings_2018.json"),
    ],
)
def test_each_file_that_is_needed_is_named_with_what_to_do(sets: Path, tmp_path: Path, layout: str, file: str) -> None:
    (copied(sets, tmp_path, layout) / file).unlink()
    with pytest.raises(SynthGainError, match=Path(file).name.split(".")[0]) as caught:
        read_copy(tmp_path, layout)
    assert "get " in str(caught.value) or "ask for" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_without_labels_is_unknown_whatever_blank_labels_become(sets: Path, tmp_path: Path) -> None:
    folder = copied(sets, tmp_path, "mimic_cxr_jpg")
    options = LayoutOptions(labels=LabelPolicy(blank="zero"), findings=["edema", "fracture"])
    before = mimic_cxr_jpg.rows(folder, options)
    study = before["image"].str.split("/").str[3]
    lost = study[before["part"] == "train"].iloc[0]
    edited(folder / f"{MIMIC}chexpert.csv.gz", lambda table: table[table["study_id"] != lost.removeprefix("s")])
    after = mimic_cxr_jpg.rows(folder, options)
    assert (after.loc[study == lost, ["edema", "fracture"]] == "").all(axis=None)
    assert (after.loc[study != lost, "edema"] == before.loc[study != lost, "edema"]).all()


def test_rows_of_another_set_are_left_out_with_their_reason(sets: Path, tmp_path: Path) -> None:
    path = copied(sets, tmp_path, "rsna_pneumonia") / "stage_2_train_labels.csv"
    path.write_text(path.read_text() + "00000001_000.png,,,,,Effusion\n")
    got = read_copy(tmp_path, "rsna_pneumonia", mapping=False)
    assert any("neither 0 nor 1" in reason for reason in reasons(got))
    assert "00000001_000.png" not in set(got.table["image_id"])
    path = copied(sets, tmp_path, "nih_cxr14") / "Data_Entry_2017.csv"
    edited(path, put(1, "", 0))  # no label is not the label No Finding
    first = read_copy(tmp_path, "nih_cxr14").table.iloc[0]
    assert first[["effusion", "no_finding"]].isna().all()
    folder = copied(sets, tmp_path, "mimic_cxr_jpg")
    edited(folder / f"{MIMIC}metadata.csv.gz", put("subject_id", "", 0))
    assert any("no patient id" in reason for reason in reasons(read_copy(tmp_path, "mimic_cxr_jpg")))


def test_reports_without_an_impression_are_counted_and_none_at_all_says_where_they_go(
    sets: Path, tmp_path: Path
) -> None:
    folder = copied(sets, tmp_path, "mimic_cxr_jpg")
    reports = sorted(folder.glob("**/s*.txt"))
    assert reports, "the miniature has reports"
    reports[0].write_text("FINDINGS: clear lungs.\n")
    text = {"split": {"column": "impression"}}  # any column that the study reads as text
    got = read_copy(tmp_path, "mimic_cxr_jpg", **text)
    assert any(note.startswith("impression: ") and "cells are empty" in note for note in got.facts["notes"])
    for report in reports:
        report.unlink()
    with pytest.raises(SynthGainError, match=r"no 'impression', which the study reads; .*mimic-cxr-reports"):
        read_copy(tmp_path, "mimic_cxr_jpg", **text)


@pytest.mark.parametrize("mapping", [True, False])
def test_rsna_next_to_nih_is_no_external_test_with_or_without_its_mapping(mapping: bool) -> None:
    with pytest.raises(SynthGainError, match="so it is no external test") as caught:
        parse_study(overlapping(mapping=mapping))
    assert "\n" not in str(caught.value)
