"""Which images stand on the sample sheet: the first ones of each condition, never chosen by eye."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.image_set import ImageSet, read_image_set
from synthgain.runtime.files import read_json

PER_CONDITION = 6
MOST_CONDITIONS = 8


def conditions(
    table: pd.DataFrame, columns: Mapping[str, Mapping[str, Any]], targets: Sequence[str]
) -> dict[str, pd.Series]:
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
            levels = columns[name].get("levels") or sorted(table[name].dropna().unique())
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
    listed = read_json(replica_folder / "manifest.json").get("shards")
    names = listed if isinstance(listed, list) and all(isinstance(name, str) for name in listed) else []
    folder = replica_folder / names[0] if names else min(replica_folder.glob("shard-*"))
    return read_image_set(folder.parent if folder.name == "manifest.json" else folder)
