"""PolypGen as published (PolypGen2021_MultiCenterData_v3): single frames of six centres, and video sequences.

`data_C1/images_C1` and `masks_C1` … `data_C6`; `sequenceData/positive/seq1/images_seq1` and `masks_seq1`;
`sequenceData/negativeOnly/seq1_neg` (no polyp in any frame, hence no masks: known to be empty). Masks are named
`<image>_mask.jpg`. Column `part` is single, positive_sequence or negative_sequence, for `where`. Which centre a
sequence comes from is not in the folders. The unit of the split is the sequence or, where a single frame's name tells
it, the examination; other single frames count for themselves.
"""

import re
from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.data.run_lengths import EMPTY
from synthgain.datasets.layouts.files import by_stem, images_in
from synthgain.runtime.errors import SynthGainError

LICENCE = "CC BY 4.0"
CITATION = (
    "Ali S et al. A multi-centre polyp detection and segmentation dataset for generalisability assessment. "
    "Sci Data 2023;10:75"
)
GET = (
    "get PolypGen2021_MultiCenterData_v3.zip from https://doi.org/10.7303/syn26376615 (a Synapse account is needed) "
    "and unpack it there, so that it holds data_C1/ to data_C6/ and sequenceData/"
)
READING = {
    "image_id": "image_id",
    "patient_id": "group",
    "split_unit": "sequence",
    "site": "centre",
    "mask": [{"column": "mask", "name": "polyp", "encoding": "grey"}],
}
CENTRES = ("C1", "C2", "C3", "C4", "C5", "C6")
# Names that tell the examination: 144OLCV1_100H0024 (centre 1), 14_endocv2021_positive_902 (centre 4 and sequences).
_OLYMPUS = re.compile(r"(\d+)OLC")
_VIDEO = re.compile(r"(\d+)_endocv2021_", re.IGNORECASE)


def rows(folder: Path) -> pd.DataFrame:
    """Return one row per frame: image_id, image, mask, centre, part, group."""
    found: list[dict[str, str]] = []
    for centre in CENTRES:
        if (folder / f"data_{centre}").is_dir():
            base = f"data_{centre}"
            found += _pairs(folder, f"{base}/images_{centre}", f"{base}/masks_{centre}", centre, "single")
    for path in _folders(folder / "sequenceData" / "positive"):
        base = f"sequenceData/positive/{path.name}"
        found += _pairs(
            folder, f"{base}/images_{path.name}", f"{base}/masks_{path.name}", "unknown", "positive_sequence", path.name
        )
    for path in _folders(folder / "sequenceData" / "negativeOnly"):
        for image in images_in(folder, f"sequenceData/negativeOnly/{path.name}"):
            found.append(_row(image, EMPTY, "unknown", "negative_sequence", path.name))
    if not found:
        raise SynthGainError(f"{folder}: neither data_C1 to data_C6 nor sequenceData in it; {GET}")
    return pd.DataFrame(found)


def _pairs(folder: Path, images: str, masks: str, centre: str, part: str, sequence: str = "") -> list[dict[str, str]]:
    named = by_stem(images_in(folder, masks))
    found = []
    for image in images_in(folder, images):
        stem = PurePosixPath(image).stem
        mask = named.get(f"{stem}_mask") or named.get(f"{stem.rstrip('_')}_mask", "")  # C3_EndoCV2021_00489_.jpg
        found.append(_row(image, mask, centre, part, sequence))
    return found


def _row(image: str, mask: str, centre: str, part: str, sequence: str) -> dict[str, str]:
    stem = PurePosixPath(image).stem
    video, olympus = _VIDEO.match(stem), _OLYMPUS.match(stem)
    group = f"{centre}-{stem}"
    if video:  # centre 4 and the sequences number alike: over-grouping is the safe side
        group = f"video-{video[1]}"
    elif sequence:
        group = sequence
    elif olympus:
        group = f"{centre}-{olympus[1]}"
    name = f"{sequence or centre}-{stem}"
    return {"image_id": name, "image": image, "mask": mask, "centre": centre, "part": part, "group": group}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
