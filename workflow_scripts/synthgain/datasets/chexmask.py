"""Lung and heart masks of CheXmask, put beside the rows of a published set.

Gaggion et al., Sci Data 2024;11:511; physionet.org/content/chexmask-cxr-segmentation-data. One CSV per set: the
image's name in its first column, `Left Lung`, `Right Lung`, `Heart` as run lengths along the rows, pixels counted
from 1 (as in the authors' `get_mask_from_RLE`), `Height` and `Width`, and the estimated Dice `Dice RCA (Mean)`. The
files under "OriginalResolution" fit films of their published size; other sizes are refused film by film.
"""

from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.files import is_below
from synthgain.runtime.errors import SynthGainError

COLUMNS = {"Left Lung": "lungs", "Right Lung": "lungs", "Heart": "heart"}
QUALITY = "Dice RCA (Mean)"
LEAST_QUALITY = 0.7  # the authors' limit for masks that are fit for use
CHUNK = 20_000  # rows read at a time: run lengths of 100,000 films do not fit into little memory


def with_chexmask(
    rows: pd.DataFrame, file: str | None, root: Path | None
) -> tuple[pd.DataFrame, list[dict[str, object]]]:
    """Return the rows with the masks' run lengths, and the mask entries that read them; unchanged without a file.

    A film without a row there, or whose estimated Dice is below LEAST_QUALITY, has an unknown mask. SynthGainError
    where the file is not there, is another, or names none of the films.
    """
    if file is None:
        return rows, []
    if root is None or not is_below(file):
        raise SynthGainError(f"chexmask {file!r} must be a path below the data root, without '..'")
    path = root / file
    if not path.is_file():
        raise SynthGainError(f"{path}: no such file; get it from physionet.org/content/chexmask-cxr-segmentation-data")
    found = _runs(path, {_name(image): image for image in rows["image"]})
    if found.empty:
        raise SynthGainError(f"{path}: names none of the {len(rows)} films; is it CheXmask's file of this data set?")
    masks = rows["image"].map(_name)
    added = {column: masks.map(found[column]).fillna("") for column in COLUMNS}
    entries: list[dict[str, object]] = [
        {"column": c, "name": name, "encoding": "rle", "order": "row"} for c, name in COLUMNS.items()
    ]
    return rows.assign(**added), entries


def _runs(path: Path, wanted: dict[str, str]) -> pd.DataFrame:
    """Return the run lengths of the wanted films that are good enough, by their names."""
    parts = []
    try:
        for table in pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=CHUNK):
            lacking = [name for name in COLUMNS if name not in table]
            if lacking:
                raise SynthGainError(f"{path}: no column {lacking[0]!r}; is it one of CheXmask's CSV files?")
            table.index = table.iloc[:, 0].map(_name)
            good = table.index.isin(wanted)
            if QUALITY in table:
                good &= pd.to_numeric(table[QUALITY], errors="coerce").ge(LEAST_QUALITY).to_numpy()
            parts.append(table.loc[good, list(COLUMNS)])
    except (ValueError, UnicodeDecodeError) as error:
        raise SynthGainError(f"{path}: not a readable table ({str(error).splitlines()[0]})") from error
    joined = pd.concat(parts)
    return joined[~joined.index.duplicated()]


def _name(image: str) -> str:
    """Return what a film is known by: its path's last part, or of CheXpert's paths the last three, without a suffix."""
    parts = PurePosixPath(image).parts
    kept = parts[-3:] if len(parts) > 2 and parts[-3].startswith("patient") else parts[-1:]
    name = "/".join(kept)
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.lower() in ("png", "jpg", "jpeg", "dcm", "dicom") else name
