"""How many images the data sets of a study have: read from their manifests, or told by config and table before that."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from synthgain.datasets.cells import read_table
from synthgain.datasets.entries.options import TableFormat
from synthgain.datasets.values import Lookup, declared_text
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest
from synthgain.speed.documents import Size, SizeSource

PARTS = ("train", "validation", "test")


def dataset_sizes(run: Path, sources: Mapping[str, SizeSource], root: Path | None) -> dict[str, Size]:
    """Return the sizes of data sets; `root` is the data root, if known."""
    return {name: _size(run, source, root) for name, source in sources.items()}


def _size(run: Path, source: SizeSource, root: Path | None) -> Size:
    total = _images(run / source.manifest, source.identity)
    if total is not None and source.split_manifest is not None and source.split_identity is not None:
        parts = _images_of_parts(run / source.split_manifest, source.split_identity)
        if parts is not None:
            return Size(all=total, known="read", **parts)
    if total is None and source.counts is not None:
        return Size(known="counted in its folder", **source.counts)
    rows = _rows(source, root)
    how = "read" if total is not None else "counted in its table" if rows is not None else "as the config has it"
    if total is None:
        total = len(rows) if rows is not None else source.images
    if total is None:
        return Size(known="not known before it is read")
    return Size(all=total, known=how, **_parts(source, total, rows))


def _images(manifest: Path, identity: str) -> float | None:
    """Return how many images a data set's manifest of this identity counts; None where there is none."""
    try:
        return int(read_manifest(manifest, identity)["images"])
    except SynthGainError:
        return None


def _images_of_parts(manifest: Path, identity: str) -> dict[str, int] | None:
    """Return how many images of each part a split's manifest of this identity counts; None where there is none."""
    try:
        parts = read_manifest(manifest, identity)["parts"]
    except SynthGainError:
        return None
    return {part: int(parts[part]["images"]) if part in parts else 0 for part in PARTS}


def _rows(source: SizeSource, root: Path | None) -> pd.DataFrame | None:
    """Return the rows of a table data set that the study wants; None where there is no table to look at."""
    table = source.table
    if table is None or root is None or not (root / table.path).is_file():
        return None
    path = root / table.path
    rows = read_table(path, table.path, TableFormat.from_slice(table.format)).cells
    for column, wanted in table.where.items():
        if column in rows:
            values = Lookup({declared_text(value): "" for value in (wanted if isinstance(wanted, list) else [wanted])})
            rows = rows[[cell in values for cell in rows[column]]]
    return rows


def _parts(source: SizeSource, total: float, rows: pd.DataFrame | None) -> dict[str, float]:
    """Return the numbers of images in the parts, as far as they are known."""
    column = source.column
    if column is not None:
        if rows is None or column.name not in rows:
            return {}
        words = Lookup(column.map)
        named = rows[column.name].map(lambda value: words.of(value, value))
        counts: dict[str, float] = {part: int((named == part).sum()) for part in PARTS}
        if column.validation and not counts["validation"]:  # it is cut from training (split_from_column)
            cut = column.validation * counts["train"]
            counts |= {"train": counts["train"] - cut, "validation": cut}
        return counts
    if source.shares is None:
        return {"train": 0, "validation": 0, "test": total}
    return {part: source.shares[part] * total for part in PARTS}
