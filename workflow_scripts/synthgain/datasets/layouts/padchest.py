"""PadChest as published: 16-bit PNG films in folders 0 … 54 and a table, `PADCHEST_…_160K_01.02.19.csv`.

Bustos et al., Med Image Anal 2020;66:101797 (arXiv:1901.07441). `Labels` is a Python list as text; a blank one is
unknown, not normal; `exclude` and `suboptimal study` rows are left out. `Projection` AP_horizontal is a supine film.
Age: year of the study minus year of birth. Some 20 files cannot be read (torchxrayvision lists them): they are
quarantined. Films are deeper than 8 bit: the study needs `image: {intensity: minmax}` or percentile.
"""

import difflib
import os
import re
from pathlib import Path

import pandas as pd

from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts.chest_labels import COVARIATES, columns_or_error, sex_of, snake
from synthgain.datasets.layouts.companions import companion, numbers_of
from synthgain.runtime.errors import SynthGainError

LICENCE = "PadChest dataset research use agreement (BIMCV); not to be shared"
CITATION = "Bustos A et al. PadChest. Med Image Anal 2020;66:101797 (arXiv:1901.07441)"
GET = (
    "get https://bimcv.cipf.es/bimcv-projects/padchest and put it there, so that it holds the films and "
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
)
TABLES = tuple(f"PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv{suffix}" for suffix in ("", ".gz"))
_NEEDED = ("ImageID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection", "Labels", "StudyDate_DICOM")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_LEFT_OUT = {"exclude", "suboptimal_study"}


def reading(table: pd.DataFrame, options: LayoutOptions) -> dict[str, object]:
    """Return how the rows are read."""
    return {
        "image_id": "image_id",
        "patient_id": "patient",
        "site": {"constant": "padchest"},
        "mask": [],
        "targets": {name: {"column": name, "kind": "binary"} for name in options.findings},
        "covariates": {**COVARIATES, "view": {"column": "view", "kind": "category"}},
        "required": {"usable": "excluded by its readers, or suboptimal"},
    }


def rows(folder: Path, options: LayoutOptions) -> pd.DataFrame:
    """Return one row per film: image_id, image, patient, view, sex, age, usable, the findings."""
    table = companion(folder, TABLES, GET)
    columns_or_error(table, _NEEDED, TABLES[0], "PadChest 160K")
    labels = table["Labels"].map(_labels)
    names = table["ImageID"].str.strip()
    films = _films(folder)
    year, birth = (
        numbers_of(table[name].str.strip().str[:4], TABLES[0]) for name in ("StudyDate_DICOM", "PatientBirth")
    )
    age = year - birth
    made = pd.DataFrame(
        {
            "image_id": names.str.replace(r"\.png$", "", regex=True),
            "image": [films.get(name, name) for name in names],
            "patient": table["PatientID"].str.strip(),
            "view": table["Projection"].str.strip(),
            "sex": sex_of(table["PatientSex_DICOM"], TABLES[0]),
            "age": ["" if pd.isna(value) else f"{value:g}" for value in age],
            "usable": ["" if found & _LEFT_OUT else "1" for found in labels],
        }
    )
    for finding in options.findings:
        made[finding] = ["" if not found else str(int(finding in found)) for found in labels]
    everything = set().union(*labels)
    for finding in set(options.findings) - everything:
        near = difflib.get_close_matches(finding, sorted(everything), n=1, cutoff=0.8)
        if near:  # without a near one it may be true of the part that was fetched
            raise SynthGainError(f"{folder}: no film has the finding {finding!r}; did you mean {near[0]!r}?")
    return made


def _labels(cell: str) -> set[str]:
    """Return the labels of a cell such as `['cardiomegaly', 'pleural effusion']` in snake_case; none of a blank one.

    However the list was written again: other quotes or none, without brackets, without commas between quotes.
    """
    quoted = [one or other for one, other in _QUOTED.findall(cell)]
    found = quoted or cell.strip().strip("[](){}").replace("|", ",").replace(";", ",").split(",")
    return {name for name in map(snake, found) if name and name not in ("nan", "none")}


def _films(folder: Path) -> dict[str, str]:
    return {
        name: (Path(place).relative_to(folder) / name).as_posix()
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(".png")
    }
