"""CheXpert v1.0 and v1.0-small as published: `train.csv`, `valid.csv`, `train/`, `valid/`, and what came later.

Columns, counts and traps: Irvin et al., arXiv:1901.07031; the tables in torchxrayvision (mlmed/torchxrayvision, data/).
Labels are per study, equal on all its views. The patient is in the path. Paths start with the release's name
(CheXpert-v1.0/, CheXpert-v1.0-small/), which is taken off. Age 90 is a cap (7,579 films of 90 or more), age 0 means
unknown, one film has the sex Unknown. AP/PA also holds LL and RL, and is blank for laterals.
Next to them, where they are: `CHEXPERT DEMO.xlsx` (or .csv; race), `test_labels.csv` (CheXlocalize, rajpurkarlab) or
`groundtruth.csv` for the part `test`, which has no sex and no age.
"""

from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts.chest_labels import (
    CHEXPERT,
    COVARIATES,
    RACES,
    columns_or_error,
    findings_of,
    race_of,
    renamed_or_error,
    sex_of,
    snake,
    targets_of,
)
from synthgain.datasets.layouts.companions import companion, numbers_of, optional_companion, same_release
from synthgain.datasets.layouts.files import images_in
from synthgain.runtime.errors import SynthGainError

LICENCE = "Stanford University dataset research use agreement; not to be shared"
CITATION = "Irvin J et al. CheXpert. AAAI 2019;33:590-597 (arXiv:1901.07031)"
GET = (
    "register at https://stanfordmlgroup.github.io/competitions/chexpert and put the release there, so that "
    "it holds train.csv, "
    "valid.csv, train/ and valid/ (race, if wanted: CHEXPERT DEMO.xlsx; test labels: test_labels.csv)"
)
PATIENT = r"(patient\d+)"
_NEEDED = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT)
_BESIDE = ("Path", "Study", "Sex", "Age", "Frontal/Lateral", "AP/PA")  # columns of test tables that are no labels
_PARTS = {"train": ("train.csv",), "valid": ("valid.csv",)}
_DEMOGRAPHICS = ("CHEXPERT DEMO.csv", "CHEXPERT DEMO.xlsx")


def reading(table: pd.DataFrame, options: LayoutOptions) -> dict[str, object]:
    """Return how the rows are read."""
    covariates: dict[str, object] = {**COVARIATES, "view": {"column": "view", "kind": "category"}}
    if "race" in table:
        covariates["race"] = {"column": "race", "kind": "category", "levels": list(RACES)}
    return {
        "image_id": "image_id",
        "patient_id": "patient",
        "site": {"constant": "chexpert"},
        "mask": [],
        "targets": targets_of(options.findings, options),
        "covariates": covariates,
    }


def rows(folder: Path, options: LayoutOptions) -> pd.DataFrame:
    """Return one row per film: image_id, image, patient, part, view, sex, age, race, the findings."""
    companion(folder, _PARTS["train"], GET)  # said before anything else is read
    tables = [_official(folder, part, files) for part, files in _PARTS.items()]
    tables.append(_test(folder))
    table = pd.concat([one for one in tables if one is not None], ignore_index=True)
    labels = table[[name for name in CHEXPERT if name in table]].rename(columns=snake)
    table = table.join(findings_of(labels, options)[list(options.findings)])
    demographics = optional_companion(folder, _DEMOGRAPHICS)
    if demographics is not None:
        columns_or_error(
            demographics, ("PATIENT", "PRIMARY_RACE"), folder / _DEMOGRAPHICS[0], "CheXpert's demographics"
        )
        same_release(demographics["PATIENT"], table["patient"], folder / _DEMOGRAPHICS[0], "patients")
        race = race_of(demographics.drop_duplicates("PATIENT").set_index("PATIENT")["PRIMARY_RACE"])
        table["race"] = table["patient"].map(race).fillna("")
    return table.drop(columns=[name for name in CHEXPERT if name in table])


def _official(folder: Path, part: str, files: tuple[str, ...]) -> pd.DataFrame | None:
    table = optional_companion(folder, files)
    if table is None:
        return None
    columns_or_error(table, _NEEDED, folder / files[0], "CheXpert v1.0")
    lateral = table["Frontal/Lateral"].str.strip().str.lower().eq("lateral")
    view = table["AP/PA"].str.strip().mask(lateral, "lateral")
    age = numbers_of(table["Age"], folder / files[0])
    made = _named(table["Path"].str.strip(), folder / files[0])
    made = made.assign(
        part=part, view=view, sex=sex_of(table["Sex"], folder / files[0]), age=age.where(age > 0).map(_whole)
    )
    return made.join(table[list(CHEXPERT)])


def _test(folder: Path) -> pd.DataFrame | None:
    """The 500 studies of the test set: labels by path (CheXlocalize) or by study (groundtruth.csv)."""
    by_path = optional_companion(folder, ("test_labels.csv",))
    if by_path is not None:
        columns_or_error(by_path, ("Path",), folder / "test_labels.csv", "CheXlocalize")
        renamed_or_error(by_path, CHEXPERT, _BESIDE, folder / "test_labels.csv", "CheXlocalize")
        return _test_rows(by_path["Path"].str.strip(), by_path, folder / "test_labels.csv")
    by_study = optional_companion(folder, ("groundtruth.csv",))
    if by_study is None:
        return None
    columns_or_error(by_study, ("Study",), folder / "groundtruth.csv", "the CheXpert test set")
    renamed_or_error(by_study, CHEXPERT, _BESIDE, folder / "groundtruth.csv", "the CheXpert test set")
    films = [(place, film) for place, study in enumerate(by_study["Study"]) for film in _films(folder, study)]
    chosen = by_study.iloc[[place for place, _ in films]].reset_index(drop=True)
    return _test_rows(pd.Series([film for _, film in films], dtype=object), chosen, folder / "groundtruth.csv")


def _films(folder: Path, study: str) -> list[str]:
    return images_in(folder, _inside(study.strip()))


def _test_rows(paths: pd.Series, labels: pd.DataFrame, file: Path) -> pd.DataFrame:
    made = _named(paths, file)
    lateral = paths.str.contains("lateral", case=False)
    made = made.assign(part="test", view=lateral.map({True: "lateral", False: ""}), sex="", age="")
    return made.join(labels[[name for name in CHEXPERT if name in labels]])


def _named(paths: pd.Series, file: Path) -> pd.DataFrame:
    """Return image, image_id and patient from paths of the release."""
    patient = paths.str.extract(PATIENT, expand=False)
    if patient.isna().any():
        raise SynthGainError(
            f"{file}: no patient in the path {paths[patient.isna()].iloc[0]!r}; is it of CheXpert v1.0?"
        )
    images = paths.map(_inside)
    ids = images.str.replace(r"\.\w+$", "", regex=True).str.split("/", n=1).str[-1].str.replace("/", "-")
    return pd.DataFrame({"image_id": ids, "image": images, "patient": patient}).reset_index(drop=True)


def _inside(path: str) -> str:
    """Return a path without the release's name before train, valid or test."""
    parts = PurePosixPath(path).parts
    start = next((i for i, part in enumerate(parts) if part in ("train", "valid", "test")), 0)
    return str(PurePosixPath(*parts[start:]))


def _whole(value: float) -> str:
    return "" if pd.isna(value) else f"{value:g}"
