"""RSNA Pneumonia Detection as published: `stage_2_train_images/<patientId>.dcm`, one table row per *box*.

Shih et al., Radiol Artif Intell 2019;1:e180041; the challenge's data page. `patientId` names an image, not a patient:
by the publisher's mapping to NIH ChestX-ray14 (`pneumonia-challenge-dataset-mappings_2018.json`), 26,684 films come
from some 11,400 patients. With that file the patient is NIH's; `mapping: false` does without, by image. 5 ages are
above 100. `stage_2_detailed_class_info.csv` has a third class, "No Lung Opacity / Not Normal". Films have 1024 × 1024
pixels.
"""

from pathlib import Path

import pandas as pd

from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts.boxes import Box, runs_of
from synthgain.datasets.layouts.chest_labels import columns_or_error
from synthgain.datasets.layouts.companions import companion, optional_companion, same_release
from synthgain.datasets.layouts.nih_cxr14 import SIDE
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json

LICENCE = "terms of the RSNA Pneumonia Detection Challenge; films of the NIH Clinical Center"
CITATION = "Shih G et al. Radiol Artif Intell 2019;1(1):e180041"
GET = (
    "get https://kaggle.com/c/rsna-pneumonia-detection-challenge and put it there, so that it holds "
    "stage_2_train_images/ and "
    "stage_2_train_labels.csv (and, for patients, pneumonia-challenge-dataset-mappings_2018.json of RSNA's page)"
)
LABELS, CLASSES = ("stage_2_train_labels.csv",), ("stage_2_detailed_class_info.csv",)
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
FILMS = "stage_2_train_images"
_CLASSES = {"Normal": "normal", "No Lung Opacity / Not Normal": "not_normal", "Lung Opacity": "lung_opacity"}
_TARGETS = {"0": "0", "0.0": "0", "1": "1", "1.0": "1"}  # another word is left, so that its film is quarantined
_SIDES = ("x", "y", "width", "height")


def reading(table: pd.DataFrame, options: LayoutOptions) -> dict[str, object]:
    """Return how the rows are read: by patient with the mapping, else by image."""
    found: dict[str, object] = {
        "image_id": "image_id",
        "patient_id": "patient" if "patient" in table else None,
        "site": {"constant": "nih"},
        "mask": [{"column": "boxes", "name": "pneumonia_box", "encoding": "rle", "order": "row"}],
        "targets": {"pneumonia": {"column": "pneumonia", "kind": "binary"}},
    }
    if "class" in table:
        found["covariates"] = {"class": {"column": "class", "kind": "category", "levels": list(_CLASSES.values())}}
    return found


def rows(folder: Path, options: LayoutOptions) -> pd.DataFrame:
    """Return one row per film: image_id, image, boxes, pneumonia, class where it is told, patient where it is."""
    table = companion(folder, LABELS, GET)
    columns_or_error(table, ("patientId", *_SIDES, "Target"), folder / LABELS[0], "RSNA Pneumonia, stage 2")
    if not (folder / FILMS).is_dir():
        raise SynthGainError(f"{folder}: no folder {FILMS!r} in it; {GET}")
    boxes: dict[str, list[Box]] = {}
    said: dict[str, str] = {}
    for name, *sides, target in table[["patientId", *_SIDES, "Target"]].itertuples(index=False):
        label = _TARGETS[target.strip()] if target.strip() in _TARGETS else target.strip()
        said[name] = "1" if "1" in (label, said.setdefault(name, label)) else label
        boxes.setdefault(name, [])
        if any(side.strip() for side in sides):
            boxes[name].append(Box.of(sides, folder / LABELS[0]))
    boxed = next((name for name, found in boxes.items() if found and said[name] == "0"), None)
    if boxed is not None:
        raise SynthGainError(f"{folder / LABELS[0]}: film {boxed!r} has a box and Target 0; mend or leave out its rows")
    made = pd.DataFrame(
        {
            "image_id": list(boxes),
            "image": [f"{FILMS}/{name}.dcm" for name in boxes],
            # A film with pneumonia and without a box has unknown boxes, not none.
            "boxes": [
                runs_of(found, SIDE, SIDE) or ("" if said[name] == "1" else "-1") for name, found in boxes.items()
            ],
            "pneumonia": [said[name] for name in boxes],
        }
    )
    classes = optional_companion(folder, CLASSES)
    if classes is not None:
        columns_or_error(classes, ("patientId", "class"), folder / CLASSES[0], "RSNA Pneumonia, stage 2")
        same_release(classes["patientId"], boxes, folder / CLASSES[0], "films")
        named = classes.drop_duplicates("patientId").set_index("patientId")["class"].str.strip()
        made["class"] = made["image_id"].map(named).map(_CLASSES).fillna("")
    if options.mapping:
        if not (folder / MAPPING).is_file():
            raise SynthGainError(
                f"{folder}: no {MAPPING} in it, and without it no film's patient is known (70 % of a random test part "
                "have theirs in training); get it from RSNA's page of the challenge, or say mapping: false for a split "
                "by image, which the report then names"
            )
        mapped = _patients(folder / MAPPING)
        same_release(mapped, boxes, folder / MAPPING, "films")
        made["patient"] = made["image_id"].map(mapped).fillna("")
    return made


def _patients(path: Path) -> dict[str, str]:
    """Return {RSNA image: NIH patient} of the publisher's mapping (img_id 00000003_000.png is a film of patient 3)."""
    try:
        return {entry["subset_img_id"]: entry["img_id"].split("_")[0] for entry in read_json(path)}
    except (KeyError, TypeError, AttributeError) as error:
        raise SynthGainError(
            f"{path}: wanted a list of {{img_id, subset_img_id}}; is it RSNA's mapping file?"
        ) from error
