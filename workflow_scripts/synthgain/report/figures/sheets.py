"""Which images are on the sheets of samples and of pairs: the first ones of each condition, never chosen by eye."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns, ImageSet, read_image_set
from synthgain.report.figures.pairs import PairRow
from synthgain.runtime.files import read_json

PER_CONDITION = 6
MOST_CONDITIONS = 8
PAIRS = 8


def conditions(table: pd.DataFrame, columns: Columns, targets: Sequence[str]) -> dict[str, pd.Series]:
    """Return {name: boolean row mask}: one per binary target, one per level of a category, and `no finding`.

    Unknown labels belong to no condition. `no finding` are rows whose binary targets are all known and 0.
    """
    found: dict[str, pd.Series] = {}
    binary = [name for name in targets if name in table and columns[name]["kind"] == "binary"]
    if binary:
        nothing = "no finding" if len(binary) > 1 else f"no {binary[0]}"
        found[nothing] = (table[binary].astype("float32") == 0).all(axis=1)
        found |= {name: table[name].astype("float32") == 1 for name in binary}
    for name in targets:
        if name in table and columns[name]["kind"] == "category":
            levels = columns[name]["levels"] if "levels" in columns[name] else sorted(table[name].dropna().unique())
            found |= {f"{name}: {level}": table[name] == level for level in levels}
    return dict(list(found.items())[:MOST_CONDITIONS])


def first_images(images: np.ndarray, table: pd.DataFrame, mask: pd.Series, count: int = PER_CONDITION) -> np.ndarray:
    """Return the first `count` images (n, H, W, C) under `mask`, one per patient where there are enough patients."""
    rows = table[mask.fillna(False).to_numpy(dtype=bool)]
    chosen = rows.drop_duplicates("patient_id").index[:count].to_list()
    chosen += [row for row in rows.index if row not in chosen][: count - len(chosen)]
    return np.asarray(images[chosen]) if chosen else np.empty((0, *images.shape[1:]), np.uint8)


def sheet_rows(
    real: ImageSet, training_ids: set[str] | None, synthetic: ImageSet, targets: Sequence[str]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return (condition, real images, synthetic images) per condition; real ones from `training_ids` only."""
    table, drawn = real.table.reset_index(drop=True), synthetic.table.reset_index(drop=True)
    allowed = table["image_id"].isin(training_ids) if training_ids is not None else pd.Series(True, table.index)
    theirs = conditions(drawn, synthetic.columns, targets)
    return [
        (name, first_images(real.images, table, mask & allowed), first_images(synthetic.images, drawn, theirs[name]))
        for name, mask in conditions(table, real.columns, targets).items()
        if name in theirs
    ]


def first_shard(replica_folder: Path) -> ImageSet:
    """Open the first shard of a merged replica: enough images for a sheet."""
    return read_image_set(replica_folder / read_json(replica_folder / "manifest.json")["shards"][0])


def pair_rows(
    real: ImageSet, training_ids: set[str] | None, synthetic: ImageSet, structures: Sequence[str], parent: str | None
) -> list[PairRow]:
    """Return the lines of a pool's sheet: its images, the same with their contours, and real ones with theirs.

    parent: column of the pool's table that names the real image behind each of its images, which is then shown below
    it; without it (or where it names none) the last line shows training images (`training_ids`) of no such kinship.
    Empty where the pool holds no mask of the structures.
    """
    names = [name for name in structures if name in synthetic.mask_names and name in real.mask_names]
    if not names or synthetic.masks is None or real.masks is None:
        return []
    table = synthetic.table.reset_index(drop=True)
    chosen = _first(table, table[[f"has_mask_{name}" for name in names]].any(axis=1))
    if not chosen:
        return []
    images, masks = np.asarray(synthetic.images[chosen]), _planes(synthetic, chosen, names)
    rows = [PairRow("synthetic", images, None, True), PairRow("synthetic,\nits mask", images, masks, True)]
    behind = _parents(real, table.iloc[chosen], parent)
    if behind is not None:
        title = "parent of\nthe mask" if parent == "mask_parent_id" else "parent\nimage"
        return [*rows, PairRow(title, np.asarray(real.images[behind]), _planes(real, behind, names))]
    rest = real.table.reset_index(drop=True)
    known = rest[[f"has_mask_{name}" for name in names]].any(axis=1)
    others = _first(rest, known & rest["image_id"].isin(training_ids) if training_ids is not None else known)
    return [*rows, PairRow("real,\nof others", np.asarray(real.images[others]), _planes(real, others, names))]


def _first(table: pd.DataFrame, mask: pd.Series) -> list[int]:
    """Rows of the first pairs, one per patient where there are enough patients."""
    rows = table[mask.to_numpy(dtype=bool)]
    chosen = rows.drop_duplicates("patient_id").index[:PAIRS].to_list()
    return chosen + [row for row in rows.index if row not in set(chosen)][: PAIRS - len(chosen)]


def _parents(real: ImageSet, rows: pd.DataFrame, parent: str | None) -> list[int] | None:
    if parent is None or parent not in rows:
        return None
    places = pd.Series(np.arange(len(real)), index=real.table["image_id"].astype(str))
    found = rows[parent].astype(str).map(places)
    return None if found.isna().any() else found.astype(int).to_list()


def _planes(images: ImageSet, rows: Sequence[int], names: Sequence[str]) -> np.ndarray:
    assert images.masks is not None
    planes = np.asarray(images.masks[list(rows)])
    return planes[..., [images.mask_names.index(name) for name in names]]
