"""Named mask planes of table rows: from mask files or run lengths, with a reason for every row that cannot be used.

A structure may have several columns (left and right lung): they are joined by OR, and a row has all of them or none.
An empty cell is an unknown mask, the cell "-1" (with any encoding) a mask that is known to be empty.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from synthgain.data.run_lengths import EMPTY, ENCODINGS, decode_runs
from synthgain.datasets.columns import named_column
from synthgain.datasets.entries.options import MaskColumn
from synthgain.datasets.files import Pictures, is_below, plain_path
from synthgain.datasets.label_maps import LabelMap, read_label_map, structure_mask
from synthgain.datasets.pixels import UnreadableImage
from synthgain.datasets.reading import DICOM_SUFFIXES, FORMATS
from synthgain.datasets.values import listed, spelling
from synthgain.runtime.errors import SynthGainError

FILES = "\0"  # between the mask files of several rows of one image; no cell holds it (`cells.cell_text`)
LISTED = 20  # names of a finding that the manifest lists; counts are always whole
_INVERTED = 0.5  # share of an image that masks of half the set rarely fill, but for inverted ones


@dataclass(frozen=True)
class MaskCells:
    """One declared column of masks and its cells (text, "" where unknown)."""

    declared: MaskColumn
    cells: pd.Series

    @property
    def column(self) -> str:
        """Its name in the table."""
        return self.declared.column

    @property
    def encoding(self) -> str:
        """How its cells are read."""
        return self.declared.encoding

    @property
    def values(self) -> list[int] | None:
        """The label values that mean the structure, None where none are declared."""
        value = self.declared.value
        return [value] if isinstance(value, int) else value

    def files(self) -> list[str]:
        """Return the paths that its cells name; none of a column of run lengths."""
        if self.encoding in ENCODINGS:
            return []
        return [name for cell in self.cells for name in cell.split(FILES) if name and name != EMPTY]


Structures = dict[str, list[MaskCells]]


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

    area: float  # share of the image
    vanished: bool
    values: set[int]


@dataclass
class Findings:
    """What the audit shows of one structure's masks beside what the arrays tell.

    masks: rows with a mask; empty, full: of these, at the size of the file; vanished: with pixels in the file and
    none at the study's size; wrong_size: rows quarantined; values: {label value: files that hold it}; without_image:
    files beside the masks that no row names; areas: shares of the image, of masks that are not empty.
    """

    masks: int = 0
    empty: int = 0
    full: int = 0
    vanished: int = 0
    wrong_size: int = 0
    values: dict[int, int] = field(default_factory=dict)
    without_image: list[str] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)

    def count(self, one: MaskFacts) -> None:
        """Count one mask."""
        self.masks += 1
        self.empty += one.area == 0
        self.full += one.area == 1
        if one.area:
            self.areas.append(one.area)
        self.vanished += one.vanished
        for value in one.values:
            self.values[value] = self.values.setdefault(value, 0) + 1

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


def declared_structures(entries: list[MaskColumn], rows: pd.DataFrame, file: str) -> Structures:
    """Return {structure: its columns} of the `mask` entries; SynthGainError for a column that is not there."""
    structures: Structures = {}
    for entry in entries:
        written = named_column(rows, entry.column, file, "mask.column")
        cells = written.map(lambda cell: EMPTY if spelling(cell) == EMPTY else cell)
        structures.setdefault(entry.name, []).append(MaskCells(entry, cells))
    return structures


def quarantine_shared(
    structures: Structures, shown: pd.Series, quarantined: dict[int, str], folded: set[int], held: Collection[str] = ()
) -> None:
    """Quarantine all images that name the same mask file, or themselves: whose mask it is cannot be told.

    shown: (N,) names of the images; rows that are quarantined already, or folded into another, do not count. held:
    columns of pictures that the table itself holds, where equal names are no equal files.
    """
    owners: dict[str, set[int]] = {}
    for columns in structures.values():
        for source in columns:
            for row, cell in enumerate(source.cells if source.encoding not in ENCODINGS else ()):
                if cell and row not in quarantined and row not in folded:
                    for name in cell.split(FILES):
                        both_files = not {source.column, str(shown.name)} & set(held)
                        if both_files and plain_path(name) == plain_path(shown.iloc[row] or "."):
                            quarantined[row] = f"mask {name} is the image itself; check the column {source.column}"
                        elif name != EMPTY:
                            owners.setdefault(plain_path(name), set()).add(row)
    for mask, rows in owners.items():
        for row in rows if len(rows) > 1 else ():
            other = min(rows - {row})
            quarantined.setdefault(row, f"mask {mask} is also that of {shown.iloc[other]}; one mask, one image")


def mask_facts(mask: RowMask, fitted: np.ndarray) -> MaskFacts:
    """Return what is counted of a mask, given the same mask at the study's size (`fitted`)."""
    area = float(mask.plane.mean())
    return MaskFacts(area, area > 0 and not fitted.any(), mask.values)


def read_masks(structures: Structures, row: int, shape: tuple[int, int], pictures: Pictures) -> list[RowMask | None]:
    """Return the masks of one row for an image of `shape` (H, W), in the structures' order; None where unknown.

    Raises UnreadableImage for a mask that cannot be used, WrongSize for one of another size.
    """
    files: dict[tuple[str, str], LabelMap] = {}
    found: list[RowMask | None] = []
    for name, columns in structures.items():
        filled = [source for source in columns if source.cells.iloc[row]]
        if filled and len(filled) < len(columns):
            lacking = next(source.column for source in columns if not source.cells.iloc[row])
            raise UnreadableImage(f"mask of {name}: {lacking} is empty while {filled[0].column} is not")
        found.append(_joined(filled, name, row, shape, pictures, files) if filled else None)
    return found


def files_without_image(structures: Structures, images: pd.Series, pictures: Pictures) -> dict[str, list[str]]:
    """Return {structure: image files in the folders of its masks that no row names as mask or image}, sorted."""
    everything = [source for columns in structures.values() for source in columns]
    cells = [*images, *(cell for source in everything for cell in source.files())]
    named = {plain_path(cell) for cell in cells if cell}
    found: dict[str, list[str]] = {}
    for name, columns in structures.items():
        on_disk = [source for source in columns if source.column not in pictures.held]
        paths = [plain_path(cell) for source in on_disk for cell in source.files()]
        folders = {str(PurePosixPath(path).parent) for path in paths if is_below(path)}
        present = [
            plain_path(str(PurePosixPath(inside) / path.name))
            for inside in folders
            if (pictures.folder / inside).is_dir()
            for path in (pictures.folder / inside).iterdir()
            if path.suffix.lower() in (*FORMATS, *DICOM_SUFFIXES) and not path.name.startswith(".")
        ]
        found[name] = sorted(set(present) - named)
    return found


def check_not_all_empty(structures: Structures, findings: Mapping[str, Findings], file: str) -> None:
    """Raise SynthGainError for a structure without a mask in any row, or without a pixel in any mask."""
    for name, columns in structures.items():
        listed_columns = " and ".join(source.column for source in columns)
        if not any(source.cells.ne("").any() for source in columns):
            raise SynthGainError(
                f"{file}: no row names a mask of {name} (column {listed_columns}); leave it out, or check `where`"
            )
        one = findings[name]
        if one.masks and one.empty == one.masks:
            raise SynthGainError(
                f"{file}: all {one.masks} masks of {name} (column {listed_columns}) are empty; check `value`, and that "
                "the column names masks"
            )


def coding_notes(structures: Structures, findings: Mapping[str, Findings]) -> list[str]:
    """Return what is odd in how masks are coded: values that mean no structure, more object than background."""
    notes = []
    for name, columns in structures.items():
        one = findings[name]
        for source in columns:
            others = [entry for entries in structures.values() for entry in entries if entry.column == source.column]
            if source.values is not None and all(entry.values is not None for entry in others):
                declared = [source.declared.allowed or [], *(entry.values or [] for entry in others)]
                meant = {0, *(value for values in declared for value in values)}
                strange = [f"{value} ({one.values[value]} files)" for value in sorted(set(one.values) - meant)]
                if strange:
                    notes.append(
                        f"masks of {name} hold values that mean no structure ({listed(strange)}); are some coded "
                        "otherwise? Check `value`"
                    )
        if one.areas and float(np.median(one.areas)) > _INVERTED:
            share = 100 * float(np.median(one.areas))
            notes.append(f"masks of {name} fill {share:.0f} % of their image (median); are they inverted?")
    return notes


def _joined(
    columns: list[MaskCells],
    name: str,
    row: int,
    shape: tuple[int, int],
    pictures: Pictures,
    files: dict[tuple[str, str], LabelMap],
) -> RowMask:
    """Return the union of a row's masks of one structure; `files` keeps label maps that several structures share."""
    mask = RowMask(np.zeros(shape, bool), set())
    for source in columns:
        for cell in source.cells.iloc[row].split(FILES):
            if cell == EMPTY:
                continue
            if source.encoding in ENCODINGS:
                mask.plane[_decoded_runs(cell, shape, source.declared)] = True
                continue
            if (source.column, cell) not in files:
                files[source.column, cell] = read_label_map(pictures.find(source.column, cell, "mask "))
            labels = files[source.column, cell]
            mask.plane[_structure_of(labels, source, name, shape)] = True
            mask.values.update(labels.present())
    return mask


def _decoded_runs(cell: str, shape: tuple[int, int], declared: MaskColumn) -> np.ndarray:
    try:
        return decode_runs(cell, shape, declared.encoding, declared.order)
    except ValueError as error:
        raise UnreadableImage(str(error)) from error


def _structure_of(labels: LabelMap, source: MaskCells, name: str, shape: tuple[int, int]) -> np.ndarray:
    if labels.values.shape != shape:
        raise WrongSize(name, labels.values.shape, shape)
    if source.encoding == "grey":
        return labels.above_half()
    allowed = source.declared.allowed
    if allowed is not None:
        strange = sorted(set(labels.present()) - {0, *allowed})
        if strange:
            shown = ", ".join(map(str, allowed))
            raise UnreadableImage(f"label value {strange[0]} in {source.column} is out of range (0, {shown})")
    return structure_mask(labels, source.values)
