"""NIH ChestX-ray14 as published: `images_001/images/` … `images_012/images/` (or `images/`), `Data_Entry_2017*.csv`.

Wang et al., CVPR 2017 (arXiv:1705.02315); the archive's README and FAQ. The header of both tables is broken at commas
(`OriginalImage[Width,Height]`, `Bbox [x,y,w,h],,,`): what stands before is read, of boxes by position. The first
release writes ages as 058Y, and has ages above 100. Labels are text-mined, 54 % of films have No Finding; labels that
are not named are 0. Official lists: `train_val_list.txt` and `test_list.txt` (Kaggle: `…_NIH.txt`), column `part`.
Boxes of `BBox_List_2017.csv` (880 films) are masks `<finding>_box`; other films' boxes are unknown. There,
Infiltration is written Infiltrate.
"""

import os
import re
from pathlib import Path

import pandas as pd

from synthgain.datasets.known_layouts import NIH_FINDINGS
from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts.boxes import Box, runs_of
from synthgain.datasets.layouts.chest_labels import COVARIATES, columns_or_error, sex_of, snake
from synthgain.datasets.layouts.companions import companion, lines_of, optional_companion, same_release
from synthgain.entry import nearest
from synthgain.runtime.errors import SynthGainError

LICENCE = "NIH Clinical Center: no restrictions; attribution and a link are asked for"
CITATION = "Wang X et al. ChestX-ray8. CVPR 2017:2097-2106 (arXiv:1705.02315)"
GET = (
    "get https://nihcc.app.box.com/v/ChestXray-NIHCC and put it there, so that it holds images_001/ … (or images/) and "
    "Data_Entry_2017_v2020.csv (lists: train_val_list.txt, test_list.txt; boxes: BBox_List_2017.csv)"
)
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES = ("BBox_List_2017.csv",)
SIDE = 1024  # of every film of the release, in pixels: boxes are in them
_FIRST, _LABELS = "Image Index", "Finding Labels"
_COLUMNS = (_FIRST, _LABELS, "Patient ID", "Patient Age", "View Position")  # they stand before the broken names
_LISTS = {"train": ("train_val_list.txt", "train_val_list_NIH.txt"), "test": ("test_list.txt", "test_list_NIH.txt")}
_AGE = re.compile(r"^0*(\d+)\s*([YMD]?)$", re.IGNORECASE)
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "D": 365.25}
_BOXED = {"Infiltrate": "infiltration"}


def reading(table: pd.DataFrame, options: LayoutOptions) -> dict[str, object]:
    """Return how the rows are read."""
    boxes = [name for name in map(str, table) if name.endswith("_box")]
    return {
        "image_id": "image_id",
        "patient_id": "patient",
        "site": {"constant": "nih"},
        "mask": [{"column": name, "name": name, "encoding": "rle", "order": "row"} for name in boxes],
        "targets": {name: {"column": name, "kind": "binary"} for name in options.findings},
        "covariates": {**COVARIATES, "view": {"column": "view", "kind": "category", "levels": ["AP", "PA"]}},
    }


def rows(folder: Path, options: LayoutOptions) -> pd.DataFrame:
    """Return one row per film of the table: image_id, image, patient, part, view, sex, age, findings, boxes."""
    table = companion(folder, TABLES, GET)
    if table.columns[0] != _FIRST:
        raise SynthGainError(
            f"{folder}: its table starts with {table.columns[0]!r}, not with {_FIRST!r}; is it NIH's Data_Entry_2017?"
        )
    sex = "Patient Sex" if "Patient Sex" in table else "Patient Gender"
    columns_or_error(table, (*_COLUMNS, sex), folder, "NIH's Data_Entry_2017")
    names = table[_FIRST].str.strip()
    films, parts = _films(folder), _parts(folder)
    same_release(parts, names, "the official lists", "films")
    labels = table[_LABELS].str.split("|").apply(lambda found: {snake(one) for one in found if one.strip()})
    strange = sorted(set().union(*labels) - set(NIH_FINDINGS))
    if strange:
        raise SynthGainError(
            f"{folder}: {strange[0]!r} in column {_LABELS!r} is none of NIH's findings; "
            f"{nearest(strange[0], NIH_FINDINGS)}; another release needs `adapter: table`"
        )
    made = pd.DataFrame(
        {
            "image_id": names.str.replace(r"\.png$", "", regex=True),
            "image": [films.get(name, f"images/{name}") for name in names],  # missing: quarantined as not found
            "patient": table["Patient ID"].str.strip().str.zfill(8),
            "part": names.map(parts).fillna(""),
            "view": table["View Position"].str.strip(),
            "sex": sex_of(table[sex], folder),
            "age": table["Patient Age"].map(_years),
        }
    )
    for finding in options.findings:
        made[finding] = [str(int(finding in found)) if found else "" for found in labels]
    boxes = optional_companion(folder, BOXES)
    return made if boxes is None else made.join(_boxes(boxes, names, folder))


def _boxes(table: pd.DataFrame, names: pd.Series, folder: Path) -> pd.DataFrame:
    if len(table.columns) < 6:
        raise SynthGainError(
            f"{folder / BOXES[0]}: {len(table.columns)} columns, a box needs six (film, finding, x, y, w, h)"
        )
    same_release(table.iloc[:, 0].str.strip(), names, folder / BOXES[0], "films")
    found: dict[str, dict[str, list[Box]]] = {}
    for film, finding, *sides in table.iloc[:, :6].itertuples(index=False):
        name = f"{_BOXED.get(finding.strip(), snake(finding))}_box"
        found.setdefault(name, {}).setdefault(film.strip(), []).append(Box.of(sides, folder / BOXES[0]))
    return pd.DataFrame(
        {name: [runs_of(films.get(film, []), SIDE, SIDE) for film in names] for name, films in sorted(found.items())}
    )


def _films(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, _, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        if inside.parts and inside.parts[0].startswith("images"):
            found |= {name: (inside / name).as_posix() for name in names if name.endswith(".png")}
    if not found:
        raise SynthGainError(f"{folder}: no films below images/ or images_001/ … in it; {GET}")
    return found


def _parts(folder: Path) -> dict[str, str]:
    """Return {film: train or test} of the official lists; train is what the publisher calls train_val."""
    found: dict[str, str] = {}
    for part, names in _LISTS.items():
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        found |= {} if path is None else dict.fromkeys(lines_of(path), part)
    return found


def _years(cell: str) -> str:
    match = _AGE.match(cell.strip())
    return cell if match is None else f"{int(match[1]) / _PER_YEAR[match[2].upper()]:.3g}"
