"""The Montgomery County chest films as published: `CXR_png/`, `ManualMask/leftMask` and `rightMask`, readings.

Structure `lungs` is both lungs. Patients: a reading that says "same pt as NAME" joins that image's patient.
"""

import re
from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.layouts.files import by_stem, images_in
from synthgain.datasets.layouts.readings import CITATION, COVARIATES, LICENCE, TARGETS, label, read_reading

__all__ = ["CITATION", "GET", "LICENCE", "READING", "rows"]
GET = (
    "get https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip and unpack it there, so that it holds "
    "CXR_png/, ManualMask/ and ClinicalReadings/"
)
READING = {
    "image_id": "image_id",
    "patient_id": "patient",
    "site": {"constant": "montgomery"},
    "mask": [
        {"column": "left", "name": "lungs", "encoding": "grey"},
        {"column": "right", "name": "lungs", "encoding": "grey"},
    ],
    "targets": TARGETS,
    "covariates": COVARIATES,
}
_SAME_PATIENT = re.compile(r"same pt as\s+(\w+)", re.IGNORECASE)


def rows(folder: Path) -> pd.DataFrame:
    """Return one row per film: image_id, image, left, right, patient, tb, sex, age."""
    left = by_stem(images_in(folder, "ManualMask/leftMask"))
    right = by_stem(images_in(folder, "ManualMask/rightMask"))
    found = []
    for image in images_in(folder, "CXR_png"):
        stem = PurePosixPath(image).stem
        sex, age, text = read_reading(folder / "ClinicalReadings" / f"{stem}.txt")
        same = _SAME_PATIENT.search(text)
        found.append(
            {
                "image_id": stem, "image": image, "left": left.get(stem, ""), "right": right.get(stem, ""),
                "patient": (same[1] if same else stem).rsplit("_", 1)[0], "tb": label(stem), "sex": sex, "age": age,
            }
        )  # fmt: skip
    return pd.DataFrame(found)
