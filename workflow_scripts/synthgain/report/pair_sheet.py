"""Which pairs stand on the sheet of a segmentation study: the first ones, never chosen by eye."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from synthgain.data.image_set import ImageSet
from synthgain.report.plots_pairs import PairRow

PAIRS = 8


def pair_rows(
    real: ImageSet, training_ids: set[str] | None, synthetic: ImageSet, structures: Sequence[str], parent: str | None
) -> list[PairRow]:
    """Return the lines of a pool's sheet: its images, the same with their contours, and real ones with theirs.

    parent: column of the pool's table that names the real image behind each of its images, which then stands below
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
