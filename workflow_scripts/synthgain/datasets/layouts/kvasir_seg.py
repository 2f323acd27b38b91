"""Kvasir-SEG as published: `images/` and `masks/` of equal names, 1,000 polyps. No patient is named."""

from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.layouts.files import by_stem, images_in

LICENCE = "research and education with citation; commercial use needs prior written permission (Simula)"
CITATION = "Jha D et al. Kvasir-SEG: A Segmented Polyp Dataset. MultiMedia Modeling 2020:451-462"
GET = "get https://datasets.simula.no/downloads/kvasir-seg.zip and unpack it there, so that it holds images/ and masks/"
READING = {
    "image_id": "image_id",
    "patient_id": None,
    "site": {"constant": "vestre_viken"},
    "mask": [{"column": "mask", "name": "polyp"}],
}


def rows(folder: Path) -> pd.DataFrame:
    """Return one row per image: image_id, image, mask (a path, or "" where there is none of that name)."""
    masks = by_stem(images_in(folder, "masks"))
    images = images_in(folder, "images")
    stems = [PurePosixPath(image).stem for image in images]
    return pd.DataFrame({"image_id": stems, "image": images, "mask": [masks.get(stem, "") for stem in stems]})
