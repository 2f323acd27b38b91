"""MIMIC-CXR-JPG 2.x as published: `files/p10/p10000032/s…/<dicom_id>.jpg` and its gzipped tables.

Johnson et al., arXiv:1901.07042; physionet.org/content/mimic-cxr-jpg. Labels are per study, by CheXpert's labeler or
NegBio (`labels: {source: negbio}`). Test studies have labels by radiologists in
`mimic-cxr-2.1.0-test-set-labeled.csv` (687 studies; Lung Opacity is Airspace Opacity there): where the file is, they
take the place of the labeler's. Next to them, where they are: MIMIC-IV's `patients.csv.gz` (sex; age = anchor_age +
year of the study − anchor_year; over 89 is stored as 91) and `admissions.csv.gz` (race: the commonest of a
patient's), and the reports `files/p10/p10000032/s….txt` or `mimic-cxr-reports/files/…`, whose impression becomes the
column `impression`.
"""

import re
from pathlib import Path

import pandas as pd

from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts.chest_labels import (
    CHEXPERT,
    COVARIATES,
    RACES,
    columns_or_error,
    findings_at,
    race_of,
    renamed_or_error,
    sex_of,
    snake,
    targets_of,
)
from synthgain.datasets.layouts.companions import (
    companion,
    numbers_of,
    one_row_each,
    optional_companion,
    same_release,
    words_of,
)
from synthgain.datasets.values import id_text

LICENCE = "PhysioNet credentialed health data licence; not to be shared"
CITATION = "Johnson AEW et al. MIMIC-CXR-JPG. arXiv:1901.07042; PhysioNet, doi:10.13026/8360-t248"
GET = (
    "get https://physionet.org/content/mimic-cxr-jpg (credentialed access) and put it there, so that "
    "it holds files/ and the "
    "mimic-cxr-2.0.0-*.csv.gz tables (age, sex, race: patients.csv.gz and admissions.csv.gz of "
    "MIMIC-IV; impression: mimic-cxr-reports/ of MIMIC-CXR)"
)
RELEASE = "MIMIC-CXR-JPG 2.0"
METADATA = ("mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-metadata.csv")
SPLIT = ("mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-split.csv")
TEST = ("mimic-cxr-2.1.0-test-set-labeled.csv",)
_PARTS = {"train": "train", "validate": "validation", "test": "test"}
_PERSON = ("gender", "anchor_age", "anchor_year")
_RENAMED = {"Airspace Opacity": "Lung Opacity"}
_REPORTS = ("mimic-cxr-reports/files", "files")
_IMPRESSION = re.compile(r"IMPRESSION:\s*(.+?)(?:\n\s*[A-Z][A-Z /]+:|\Z)", re.DOTALL)


def reading(table: pd.DataFrame, options: LayoutOptions) -> dict[str, object]:
    """Return how the rows are read."""
    covariates: dict[str, object] = {"view": {"column": "view", "kind": "category"}}
    covariates |= {name: spec for name, spec in COVARIATES.items() if name in table}
    if "race" in table:
        covariates["race"] = {"column": "race", "kind": "category", "levels": list(RACES)}
    return {
        "image_id": "image_id",
        "patient_id": "patient",
        "site": {"constant": "mimic"},
        "mask": [],
        "targets": targets_of(options.findings, options),
        "covariates": covariates,
    }


def rows(folder: Path, options: LayoutOptions) -> pd.DataFrame:
    """Return one row per film: image_id, image, patient, part, view, sex, age, race, impression, the findings."""
    metadata = _with_ids(companion(folder, METADATA, GET))
    columns_or_error(
        metadata, ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate"), METADATA[0], RELEASE
    )
    split = companion(folder, SPLIT, GET)
    columns_or_error(split, ("dicom_id", "split"), SPLIT[0], RELEASE)
    same_release(split["dicom_id"], metadata["dicom_id"], SPLIT[0], "films")
    parts = words_of(one_row_each(split, "dicom_id", ["split"], SPLIT[0])["split"], _PARTS, SPLIT[0])
    patient = ("p" + metadata["subject_id"]).where(metadata["subject_id"] != "", "")
    study = "s" + metadata["study_id"]
    places = "files/" + patient.str[:3] + "/" + patient + "/" + study
    made = pd.DataFrame(
        {
            "image_id": metadata["dicom_id"],
            "image": places + "/" + metadata["dicom_id"] + ".jpg",
            "patient": patient,
            "part": metadata["dicom_id"].map(parts).fillna(""),
            "view": metadata["ViewPosition"].str.strip(),
        }
    )
    source = f"mimic-cxr-2.0.0-{options.labels.source}.csv.gz"
    found = findings_at(
        _labels(folder, options, metadata["study_id"]), metadata["study_id"], options, source, "studies"
    )
    made = made.join(found[list(options.findings)])
    made = made.join(_people(folder, metadata))
    reports = next((folder / name for name in _REPORTS if any((folder / name).glob("p1*/p*/s*.txt"))), None)
    if reports is not None:
        texts = {place: _impression(reports / f"{place.removeprefix('files/')}.txt") for place in places.unique()}
        made["impression"] = places.map(texts)
    return made


def _labels(folder: Path, options: LayoutOptions, studies: pd.Series) -> pd.DataFrame:
    """Return the findings by study_id, the radiologists' in place of the labeler's where there are any."""
    source = options.labels.source
    names = (f"mimic-cxr-2.0.0-{source}.csv.gz", f"mimic-cxr-2.0.0-{source}.csv")
    table = _with_ids(companion(folder, names, GET))
    columns_or_error(table, ("study_id", *CHEXPERT), names[0], RELEASE)
    same_release(table["study_id"], studies, names[0], "studies")
    labels = one_row_each(table, "study_id", CHEXPERT, names[0])
    test = optional_companion(folder, TEST)
    if test is not None:
        test = _with_ids(test.rename(columns=_RENAMED))
        columns_or_error(test, ("study_id",), TEST[0], "MIMIC-CXR-JPG 2.1")
        renamed_or_error(test, CHEXPERT, ("study_id", "subject_id"), TEST[0], "MIMIC-CXR-JPG 2.1")
        told = [name for name in CHEXPERT if name in test]
        read = one_row_each(test, "study_id", told, TEST[0]).reindex(columns=list(CHEXPERT)).fillna("")
        labels = pd.concat([labels[~labels.index.isin(read.index)], read])
    return labels.rename(columns=snake)


def _with_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose ids are whole numbers, whatever a program made of them (10000032.0)."""
    ids = [name for name in ("subject_id", "study_id") if name in table]
    return table.assign(**{name: table[name].str.strip().map(id_text) for name in ids})


def _people(folder: Path, metadata: pd.DataFrame) -> pd.DataFrame:
    """Return sex, age and race of each film, as far as MIMIC-IV's tables are there."""
    found = pd.DataFrame(index=metadata.index)
    patients = optional_companion(folder, ("patients.csv.gz", "patients.csv"))
    if patients is not None:
        columns_or_error(patients, ("subject_id", *_PERSON), "patients.csv.gz", "MIMIC-IV")
        patients = _with_ids(patients)
        same_release(patients["subject_id"], metadata["subject_id"], "patients.csv.gz", "patients")
        people = one_row_each(patients, "subject_id", _PERSON, "patients.csv.gz").reindex(metadata["subject_id"])
        found["sex"] = sex_of(people["gender"], "patients.csv.gz").to_numpy()
        anchors = people[["anchor_age", "anchor_year"]].apply(numbers_of, file="patients.csv.gz").to_numpy()
        year = pd.to_numeric(metadata["StudyDate"].str[:4], errors="coerce").to_numpy()
        age = anchors[:, 0] + year - anchors[:, 1]
        found["age"] = ["" if pd.isna(value) else f"{min(value, 91):g}" for value in age]
    admissions = optional_companion(folder, ("admissions.csv.gz", "admissions.csv"))
    if admissions is not None:
        columns_or_error(admissions, ("subject_id", "race"), "admissions.csv.gz", "MIMIC-IV 2")
        admissions = _with_ids(admissions)
        same_release(admissions["subject_id"], metadata["subject_id"], "admissions.csv.gz", "patients")
        admissions = admissions.assign(race=race_of(admissions["race"]))
        told = admissions[admissions["race"] != ""]
        commonest = told.groupby("subject_id")["race"].agg(lambda cells: cells.mode().iloc[0])
        found["race"] = metadata["subject_id"].map(commonest).fillna("").to_numpy()
    return found


def _impression(path: Path) -> str:
    """Return the impression of a report as one line, "" where there is no report or no impression."""
    if not path.is_file():
        return ""
    match = _IMPRESSION.search(path.read_text(encoding="utf-8", errors="replace"))
    return " ".join(match[1].split()) if match else ""
