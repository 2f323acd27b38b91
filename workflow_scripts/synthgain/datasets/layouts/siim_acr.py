"""SIIM-ACR pneumothorax as published: `dicom-images-train/<study>/<series>/<image>.dcm` and `train-rle.csv`.

Masks are relative run lengths down the columns, several rows per image where there are several regions; "-1" means no
pneumothorax. Films that the table does not name have an unknown mask and label. No patient is named: headers are not
read.
"""

import os
from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.layouts.boxes import region_of
from synthgain.datasets.layouts.companions import companion
from synthgain.runtime.errors import SynthGainError

LICENCE = "terms of the SIIM-ACR Pneumothorax Segmentation challenge; films of the NIH Clinical Center"
CITATION = (
    "SIIM-ACR Pneumothorax Segmentation, 2019, kaggle.com/c/siim-acr-pneumothorax-segmentation; Filice RW et al. "
    "J Digit Imaging 2020;33:490-496"
)
GET = (
    "get the training films and train-rle.csv of kaggle.com/c/siim-acr-pneumothorax-segmentation (a Kaggle account is "
    "needed) and put them there, so that it holds dicom-images-train/ and train-rle.csv"
)
READING = {
    "image_id": "image_id",
    "patient_id": None,
    "site": {"constant": "nih"},
    "mask": [{"column": "runs", "name": "pneumothorax", "encoding": "rle_relative", "order": "column"}],
    "targets": {"pneumothorax": {"column": "pneumothorax", "kind": "binary"}},
}
FILMS, TABLE = "dicom-images-train", "train-rle.csv"


def rows(folder: Path) -> pd.DataFrame:
    """Return one row per film and region: image_id, image, runs ("" unknown, "-1" none), pneumothorax."""
    films, runs = _films(folder), _runs(folder / TABLE)
    found = []
    for name in sorted({*films, *runs}):
        regions = runs.get(name, [""])
        label = "" if regions == [""] else str(int(any(region != "-1" for region in regions)))
        image = films.get(name, f"{FILMS}/{name}.dcm")  # named by the table alone: quarantined as not found
        found += [{"image_id": name, "image": image, "runs": cell, "pneumothorax": label} for cell in regions]
    return pd.DataFrame(found)


def _films(folder: Path) -> dict[str, str]:
    if not (folder / FILMS).is_dir():
        raise SynthGainError(f"{folder}: no folder {FILMS!r} in it; {GET}")
    return {
        PurePosixPath(name).stem: Path(place, name).relative_to(folder).as_posix()
        for place, _, names in os.walk(folder / FILMS)
        for name in names
        if name.endswith(".dcm")
    }


def _runs(path: Path) -> dict[str, list[str]]:
    table = companion(path.parent, (path.name,), GET)
    if not {"ImageId", "EncodedPixels"} <= set(table.columns):
        raise SynthGainError(f"{path}: wanted columns ImageId and EncodedPixels, it has {', '.join(table.columns)}")
    cells = table["EncodedPixels"].map(lambda cell: region_of(cell, path))
    return {str(name): list(group) for name, group in cells.groupby(table["ImageId"].str.strip())}
