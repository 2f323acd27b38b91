"""How many images the data sets of a study have: read from their manifests, or told by config and table before that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest

PARTS = ("train", "validation", "test")


def dataset_sizes(
    run: Path, datasets: Mapping[str, Mapping[str, object]], root: Path | None
) -> dict[str, dict[str, object]]:
    """Return {data set: {all, train, validation, test (None: not known yet), known: how}}.

    datasets: as forecast_cost's slice has them; root: the data root, if known.
    """
    return {name: _size(run, entry, root) for name, entry in datasets.items()}


def _size(run: Path, entry: Mapping[str, Any], root: Path | None) -> dict[str, Any]:
    split, total = None, None
    read = _manifest(run / entry["manifest"], entry["identity"])
    if read is not None:
        total = int(read["images"])
        split = _manifest(run / entry["split_manifest"], entry["split_identity"]) if "split_manifest" in entry else None
    if total is not None and split is not None:
        parts = {part: int(split["parts"].get(part, {}).get("images", 0)) for part in PARTS}
        return {"all": total, **parts, "known": "read"}
    if total is None and "counts" in entry:
        return {**entry["counts"], "known": "counted in its folder"}
    rows = _rows(entry, root)
    how = "read" if total is not None else "counted in its table" if rows is not None else "as the config has it"
    if total is None:
        total = len(rows) if rows is not None else entry.get("images")
    if total is None:
        return {"all": None, **dict.fromkeys(PARTS), "known": "not known before it is read"}
    return {"all": total, **_parts(entry, total, rows), "known": how}


def _manifest(path: Path, identity: str) -> dict[str, Any] | None:
    """Return a manifest of this identity, or None where there is none."""
    try:
        return read_manifest(path, identity)
    except SynthGainError:
        return None


def _rows(entry: Mapping[str, Any], root: Path | None) -> pd.DataFrame | None:
    """Return the rows of a table data set that the study wants; None where there is no table to look at."""
    table = entry.get("table")
    if table is None or root is None or not (root / table["path"]).is_file():
        return None
    path = root / table["path"]
    rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    for column, wanted in table["where"].items():
        if column in rows:
            values = wanted if isinstance(wanted, list) else [wanted]
            rows = rows[rows[column].astype(str).isin([str(value) for value in values])]
    return rows


def _parts(entry: Mapping[str, Any], total: float, rows: pd.DataFrame | None) -> dict[str, float | None]:
    shares, column = entry.get("shares") or {}, entry.get("column")
    if column is not None:
        if rows is None or column["name"] not in rows:
            return dict.fromkeys(PARTS)
        named = rows[column["name"]].astype(str).map(lambda value: column["map"].get(value, value))
        counts: dict[str, float | None] = {part: int((named == part).sum()) for part in PARTS}
        share, train = float(column.get("validation") or 0), int((named == "train").sum())
        if share and not counts["validation"]:  # it is cut from training (split_from_column)
            counts |= {"train": (1 - share) * train, "validation": share * train}
        return counts
    if not shares:
        return {"train": 0, "validation": 0, "test": total}
    return {part: shares[part] * total for part in PARTS}
