"""CVC-ClinicDB as published: `Original/` and `Ground Truth/`, frames 1 to 612 of 29 video sequences.

Copies that hold the same two folders in TIF/ or PNG/ are read too. The sequence is the unit of the split: its frames
show one polyp; which sequences share a patient is not published.
"""

from bisect import bisect_left
from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.layouts.files import by_stem, images_in

LICENCE = "research and education only; images of Hospital Clinic Barcelona, masks of the Computer Vision Center"
CITATION = (
    "Bernal J et al. WM-DOVA maps for accurate polyp highlighting in colonoscopy: validation vs. saliency maps from "
    "physicians. Comput Med Imaging Graph 2015;43:99-111"
)
GET = (
    "get CVC-ClinicDB from https://polyp.grand-challenge.org/CVCClinicDB/ and unpack it there, so that it holds "
    "Original/ and 'Ground Truth/'"
)
READING = {
    "image_id": "image_id",
    "patient_id": "sequence",
    "split_unit": "sequence",
    "site": {"constant": "barcelona"},
    "mask": [{"column": "mask", "name": "polyp", "encoding": "grey"}],
}
# Last frame of each sequence: the table of https://polyp.grand-challenge.org/CVCClinicDB/, as dataset-ninja/cvc-612
# (src/convert.py) and two further public readers of this set have it.
LAST_FRAMES = (
    25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317, 342, 363, 383, 408, 428, 447, 466, 478, 503,
    528, 546, 571, 591, 612,
)  # fmt: skip


def rows(folder: Path) -> pd.DataFrame:
    """Return one row per frame: image_id, image, mask, sequence ("" for a name that is no frame number)."""
    inner = next((name for name in ("", "TIF/", "PNG/") if (folder / f"{name}Original").is_dir()), "")
    masks = by_stem(images_in(folder, f"{inner}Ground Truth"))
    images = images_in(folder, f"{inner}Original")
    stems = [PurePosixPath(image).stem for image in images]
    return pd.DataFrame(
        {
            "image_id": [f"frame-{stem.zfill(3)}" for stem in stems],
            "image": images,
            "mask": [masks.get(stem, "") for stem in stems],
            "sequence": [sequence(stem) for stem in stems],
        }
    )


def sequence(stem: str) -> str:
    """Return the sequence of a frame, "sequence-01" to "sequence-29", or "" where the name is no known frame."""
    if not stem.isdecimal() or not 1 <= int(stem) <= LAST_FRAMES[-1]:
        return ""
    return f"sequence-{bisect_left(LAST_FRAMES, int(stem)) + 1:02d}"
