"""Named mask planes of table rows: from mask files or run lengths, with a reason for every row that cannot be used.

A structure may have several columns (left and right lung): they are joined by OR, and a row has all of them or none.
An empty cell is an unknown mask, the cell "-1" (with any encoding) a mask that is known to be empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.run_lengths import EMPTY, ENCODINGS, SEPARATOR, decode_runs
from synthgain.datasets.columns import named_column
from synthgain.datasets.pixels import UnreadableImage
from synthgain.datasets.reading import (
    DICOM_SUFFIXES,
    FORMATS,
    is_below,
    label_values,
    largest_label,
    read_label_map,
    safe_path,
    structure_mask,
)
from synthgain.runtime.errors import SynthGainError

FILE_ENCODINGS = ("file", "grey")  # grey: cut at half of what its depth can hold
LISTED = 20  # names of a finding that the manifest lists; counts are always whole


@dataclass(frozen=True)
class MaskColumn:
    """One column of masks: its cells (text, "" where unknown), how to read them, and which label values count."""

    column: str
    cells: pd.Series
    encoding: str = "file"
    order: str = "column"
    values: list[int] | None = None
    allowed: list[int] | None = None


Structures = dict[str, list[MaskColumn]]


class WrongSize(UnreadableImage):
    """A mask of another size than its image; `structure` names it."""

    def __init__(self, structure: str, mask: tuple[int, ...], image: tuple[int, int]) -> None:
        super().__init__(f"mask is {mask}, its image {image}")
        self.structure = structure


@dataclass(frozen=True)
class RowMask:
    """One structure's mask in one row: (H, W) bool as in the file, and the label values that the file holds."""

    plane: np.ndarray
    values: set[int]


@dataclass(frozen=True)
class MaskFacts:
    """What is counted of one mask."""

    empty: bool
    full: bool
    vanished: bool
    values: set[int]


@dataclass
class Findings:
    """What the audit shows of one structure's masks beside what the arrays tell.

    masks: rows with a mask; empty, full: of these, at the size of the file; vanished: with pixels in the file and
    none at the study's size; wrong_size: rows quarantined; values: {label value: files that hold it}; without_image:
    files beside the masks that no row names.
    """

    masks: int = 0
    empty: int = 0
    full: int = 0
    vanished: int = 0
    wrong_size: int = 0
    values: dict[int, int] = field(default_factory=dict)
    without_image: list[str] = field(default_factory=list)

    def count(self, one: MaskFacts) -> None:
        """Count one mask."""
        self.masks += 1
        self.empty += one.empty
        self.full += one.full
        self.vanished += one.vanished
        for value in one.values:
            self.values[value] = self.values.get(value, 0) + 1

    def as_json(self) -> dict[str, object]:
        """Return the counts for the manifest."""
        return {
            "empty": self.empty,
            "full": self.full,
            "vanished": self.vanished,
            "wrong_size": self.wrong_size,
            "values": {str(value): self.values[value] for value in sorted(self.values)},
            "without_image": len(self.without_image),
            "without_image_listed": self.without_image[:LISTED],
        }


def declared_structures(options: Mapping[str, Any], rows: pd.DataFrame, file: str) -> Structures:
    """Return {structure: its columns} of the `mask` entries; SynthGainError for a column that is not there."""
    structures: Structures = {}
    for entry in mask_entries(options):
        column = entry.get("column", "mask")
        encoding = entry.get("encoding", "file")
        if encoding not in (*FILE_ENCODINGS, *ENCODINGS):
            known = ", ".join((*FILE_ENCODINGS, *ENCODINGS))
            raise SynthGainError(f"{file}: mask encoding {encoding!r}; known: {known}")
        read = MaskColumn(
            column,
            named_column(rows, column, file, "mask.column"),
            encoding,
            entry.get("order", "column"),
            _as_list(entry.get("value")),
            entry.get("allowed"),
        )
        structures.setdefault(str(entry["name"]), []).append(read)
    return structures


def mask_entries(options: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the `mask` entries as a list; one entry may be given alone."""
    entries = options.get("mask") or []
    return [entries] if isinstance(entries, Mapping) else list(entries)


def run_length_columns(options: Mapping[str, Any]) -> list[str]:
    """Return the columns that hold run lengths."""
    entries = mask_entries(options)
    return list(dict.fromkeys(entry.get("column", "mask") for entry in entries if entry.get("encoding") in ENCODINGS))


def join_rows(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return `table` with rows that differ in nothing but the run-length `columns` made one, runs joined by ";"."""
    others = [name for name in table.columns if name not in columns]
    if not columns or not others or not table.duplicated(others).any():
        return table
    merged = table.groupby(others, sort=False, as_index=False, dropna=False)[columns].agg(_join)
    return merged[list(table.columns)]


def _join(cells: pd.Series) -> str:
    return SEPARATOR.join(dict.fromkeys(cell for cell in cells if cell))


def quarantine_shared(structures: Structures, shown: pd.Series, quarantined: dict[int, str]) -> None:
    """Quarantine all images that name the same mask file: which of them it belongs to cannot be told.

    shown: (N,) names of the images; rows that are quarantined already do not count.
    """
    owners: dict[str, set[int]] = {}
    for columns in structures.values():
        for source in columns:
            if source.encoding in FILE_ENCODINGS:
                for row, cell in enumerate(source.cells):
                    if cell and cell != EMPTY and row not in quarantined:
                        owners.setdefault(str(PurePosixPath(cell)), set()).add(row)
    for mask, rows in owners.items():
        for row in rows if len(rows) > 1 else ():
            other = min(rows - {row})
            quarantined.setdefault(row, f"mask {mask} is also that of {shown.iloc[other]}; one mask, one image")


def mask_facts(mask: RowMask, fitted: np.ndarray) -> MaskFacts:
    """Return what is counted of a mask, given the same mask at the study's size (`fitted`)."""
    empty = not mask.plane.any()
    return MaskFacts(empty, bool(mask.plane.all()), not empty and not fitted.any(), mask.values)


def read_masks(structures: Structures, row: int, shape: tuple[int, int], folder: Path) -> list[RowMask | None]:
    """Return the masks of one row for an image of `shape` (H, W), in the structures' order; None where unknown.

    Raises UnreadableImage for a mask that cannot be used, WrongSize for one of another size.
    """
    files: dict[str, np.ndarray] = {}
    found: list[RowMask | None] = []
    for name, columns in structures.items():
        filled = [source for source in columns if source.cells.iloc[row]]
        if filled and len(filled) < len(columns):
            lacking = next(source.column for source in columns if not source.cells.iloc[row])
            raise UnreadableImage(f"mask of {name}: {lacking} is empty while {filled[0].column} is not")
        found.append(_joined(filled, name, row, shape, folder, files) if filled else None)
    return found


def files_without_image(structures: Structures, images: pd.Series, folder: Path) -> dict[str, list[str]]:
    """Return {structure: image files in the folders of its masks that no row names as mask or image}, sorted."""
    everything = [source for columns in structures.values() for source in columns if source.encoding in FILE_ENCODINGS]
    named = {str(PurePosixPath(cell)) for cells in [images, *(s.cells for s in everything)] for cell in cells if cell}
    found: dict[str, list[str]] = {}
    for name, columns in structures.items():
        cells = [cell for source in columns if source.encoding in FILE_ENCODINGS for cell in source.cells]
        folders = {str(PurePosixPath(cell).parent) for cell in cells if cell != EMPTY and is_below(cell)}
        present = [
            str(PurePosixPath(inside) / path.name)
            for inside in folders
            if (folder / inside).is_dir()
            for path in (folder / inside).iterdir()
            if path.suffix.lower() in (*FORMATS, *DICOM_SUFFIXES) and not path.name.startswith(".")
        ]
        found[name] = sorted(set(present) - named)
    return found


def check_not_all_empty(structures: Structures, findings: Mapping[str, Findings], file: str) -> None:
    """Raise SynthGainError for a structure without a mask in any row, or without a pixel in any mask."""
    for name, columns in structures.items():
        listed = " and ".join(source.column for source in columns)
        if not any(source.cells.ne("").any() for source in columns):
            raise SynthGainError(
                f"{file}: no row names a mask of {name} (column {listed}); leave it out, or check `where`"
            )
        one = findings[name]
        if one.masks and one.empty == one.masks:
            raise SynthGainError(
                f"{file}: all {one.masks} masks of {name} (column {listed}) are empty; check `value`, and that the "
                "column names masks"
            )


def _joined(
    columns: list[MaskColumn], name: str, row: int, shape: tuple[int, int], folder: Path, files: dict[str, np.ndarray]
) -> RowMask:
    """Return the union of a row's masks of one structure; `files` keeps label maps that several structures share."""
    mask = RowMask(np.zeros(shape, bool), set())
    for source in columns:
        cell = source.cells.iloc[row]
        if cell == EMPTY:
            continue
        if source.encoding in FILE_ENCODINGS:
            if cell not in files:
                files[cell] = read_label_map(safe_path(folder, cell))
            mask.plane[_structure_of(files[cell], source, name, shape)] = True
            mask.values.update(label_values(files[cell]))
        else:
            mask.plane[_decoded_runs(cell, shape, source)] = True
    return mask


def _decoded_runs(cell: str, shape: tuple[int, int], source: MaskColumn) -> np.ndarray:
    try:
        return decode_runs(cell, shape, source.encoding, source.order)
    except ValueError as error:
        raise UnreadableImage(str(error)) from error


def _structure_of(labels: np.ndarray, source: MaskColumn, name: str, shape: tuple[int, int]) -> np.ndarray:
    if labels.shape != shape:
        raise WrongSize(name, labels.shape, shape)
    if source.allowed is not None:
        strange = sorted(set(label_values(labels)) - {0, *source.allowed})
        if strange:
            shown = ", ".join(map(str, source.allowed))
            raise UnreadableImage(f"label value {strange[0]} in {source.column} is out of range (0, {shown})")
    if source.encoding == "grey":
        return labels > largest_label(labels) / 2
    return structure_mask(labels, source.values)


def _as_list(value: int | list[int] | None) -> list[int] | None:
    return [value] if isinstance(value, int) else value
