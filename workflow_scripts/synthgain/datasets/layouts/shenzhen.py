"""The Shenzhen chest films as published: `CXR_png/` and readings; one film per patient.

Lung masks came later, from others: `mask/<film>_mask.png` for 566 films (Stirenko et al., arXiv:1803.01199), put into
the same folder. Without that folder the set has no masks and no structure; films without a mask have none.
"""

from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.layouts.files import by_stem, images_in
from synthgain.datasets.layouts.readings import CITATION as FILMS
from synthgain.datasets.layouts.readings import COVARIATES, TARGETS, label, read_reading
from synthgain.datasets.layouts.readings import LICENCE as RELEASE

LICENCE = f"{RELEASE}; the lung masks: CC BY-NC-SA 4.0"
CITATION = f"{FILMS}; masks: Stirenko S et al. IEEE ELNANO 2018:422-428"
GET = (
    "get https://openi.nlm.nih.gov/imgs/collections/ChinaSet_AllFiles.zip and unpack it there, so that it holds "
    "CXR_png/ and ClinicalReadings/ (lung masks, if wanted: kaggle.com/datasets/yoctoman/shcxr-lung-mask, as mask/)"
)
READING = {
    "image_id": "image_id",
    "patient_id": "image_id",
    "site": {"constant": "shenzhen"},
    "mask": [{"column": "mask", "name": "lungs", "encoding": "grey"}],
    "targets": TARGETS,
    "covariates": COVARIATES,
}


def rows(folder: Path) -> pd.DataFrame:
    """Return one row per film: image_id, image, tb, sex, age, and mask ("" for none) where there is a mask folder."""
    found = []
    for image in images_in(folder, "CXR_png"):
        stem = PurePosixPath(image).stem
        sex, age, _ = read_reading(folder / "ClinicalReadings" / f"{stem}.txt")
        found.append({"image_id": stem, "image": image, "tb": label(stem), "sex": sex, "age": age})
    table = pd.DataFrame(found)
    if (folder / "mask").is_dir():
        masks = by_stem(images_in(folder, "mask"))
        table["mask"] = [masks.get(f"{stem}_mask", "") for stem in table["image_id"]]
    return table
