"""CANDID-PTX as published: `dataset/<SOPInstanceUID>` (DICOM without a suffix) and three tables of run lengths.

Feng et al., Radiol Artif Intell 2021;3:e210136. `Pneumothorax_reports.csv`: SOPInstanceUID, EncodedPixels (-1: none;
a row per region), filename, Report; `chest_tube.csv` and `acute_rib_fracture.csv`: anon_SOPUID, mask_rle. The patient
is what stands before the first `_` of the file name. Some films are listed twice and some under two patients: the
first are read once, the second are left out. **The convention of the run lengths could not be verified**: they are
read as gap and length down the columns, as those of SIIM-ACR, and only with `confirmed: true`, which the study says
when the outlines in the audit's pictures were seen to fit.
"""

from pathlib import Path

import pandas as pd

from synthgain.data.run_lengths import EMPTY
from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts.boxes import region_of
from synthgain.datasets.layouts.chest_labels import columns_or_error
from synthgain.datasets.layouts.companions import companion, optional_companion, same_release
from synthgain.runtime.errors import SynthGainError

LICENCE = "CANDID-PTX data use agreement (University of Otago); not to be shared"
CITATION = (
    "Feng S et al. Curation of the CANDID-PTX dataset with free-text reports. Radiol Artif Intell 2021;3(6):e210136"
)
GET = (
    "ask for https://doi.org/10.17608/k6.auckland.14173982 (ethics module and agreement) and put it "
    "there, so that it holds "
    "dataset/ and Pneumothorax_reports.csv"
)
FILMS, REPORTS = "dataset", ("Pneumothorax_reports.csv",)
_FURTHER = {"chest_tube": ("chest_tube.csv",), "rib_fracture": ("acute_rib_fracture.csv",)}
_RUNS = {"encoding": "rle_relative", "order": "column"}


def reading(table: pd.DataFrame, options: LayoutOptions) -> dict[str, object]:
    """Return how the rows are read; the masks only where their convention was confirmed."""
    structures = [name for name in ("pneumothorax", *_FURTHER) if f"{name}_runs" in table]
    return {
        "image_id": "image_id",
        "patient_id": "patient",
        "site": {"constant": "candid"},
        "mask": [{"column": f"{name}_runs", "name": name, **_RUNS} for name in structures] if options.confirmed else [],
        "targets": {name: {"column": name, "kind": "binary"} for name in structures},
        "required": {"patient": "under two patients"},
    }


def rows(folder: Path, options: LayoutOptions) -> pd.DataFrame:
    """Return one row per film: image_id, image, patient ("" under two), report, runs and labels."""
    table = companion(folder, REPORTS, GET)
    columns_or_error(table, ("SOPInstanceUID", "EncodedPixels", "filename"), REPORTS[0], "CANDID-PTX")
    if not (folder / FILMS).is_dir():
        raise SynthGainError(f"{folder}: no folder {FILMS!r} in it; {GET}")
    table = table.assign(patient=table["filename"].str.split("_").str[0].str.strip())
    films = table.groupby("SOPInstanceUID", sort=False)
    patients = films["patient"].agg(lambda cells: cells.iloc[0] if cells.nunique() == 1 else "")
    made = pd.DataFrame({"image_id": patients.index, "patient": patients.to_numpy()})
    made["image"] = f"{FILMS}/" + made["image_id"]
    if "Report" in table:
        made["report"] = films["Report"].first().to_numpy()
    table["EncodedPixels"] = [region_of(cell, REPORTS[0]) for cell in table["EncodedPixels"]]
    regions = {"pneumothorax": table.groupby("SOPInstanceUID", sort=False)["EncodedPixels"].agg(_joined)}
    for name, files in _FURTHER.items():
        further = optional_companion(folder, files)
        if further is not None:
            columns_or_error(further, ("anon_SOPUID", "mask_rle"), files[0], "CANDID-PTX")
            same_release(further["anon_SOPUID"], table["SOPInstanceUID"], folder / files[0], "films")
            further["mask_rle"] = [region_of(cell, files[0]) for cell in further["mask_rle"]]
            regions[name] = further.groupby("anon_SOPUID")["mask_rle"].agg(_joined)
    for name, runs in regions.items():
        made[f"{name}_runs"] = made["image_id"].map(runs).fillna(EMPTY)  # a film that a table does not name has none
        made[name] = made[f"{name}_runs"].ne(EMPTY).map({True: "1", False: "0"})
    return made


def _joined(cells: pd.Series) -> str:
    """Return the regions of a film, each once, separated by ;"""
    regions = [cell for cell in dict.fromkeys(cells) if cell not in ("", EMPTY)]
    return ";".join(regions) or EMPTY
