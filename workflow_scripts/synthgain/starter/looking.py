"""What lies where a newcomer points: a folder of images, or a table with a column of image paths."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.cells import read_table
from synthgain.datasets.entries.options import TableFormat
from synthgain.datasets.files import plain_path
from synthgain.datasets.folder import with_metadata
from synthgain.datasets.folder_layout import CLASS, FILE, FolderLayout, composed, read_layout
from synthgain.datasets.reading import DICOM_SUFFIXES, FORMATS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.listing import counts, files_below

TABLES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl")
DEEPEST = 3  # folders down to which a table is looked for
ENOUGH = 0.5  # of a column's values that must be files
PICTURES = (*FORMATS, *DICOM_SUFFIXES)
LOOKED_FOR = (
    f"images ({' '.join(PICTURES)}) in class folders, in train/val/test, beside masks, with metadata.csv and its "
    f"column file_name, and a table ({' '.join(TABLES)}) with a column of their paths"
)


@dataclass(frozen=True)
class Found:
    """What the study will read.

    root: the data root. folder or table: the path below it, with /. rows: text, one per image. files: paths of the
    images below the root, as on disk, those that are there. image, images: a table's column of paths and the folder
    that they start from (None: the table's). notes: what the user should know.
    """

    root: Path
    rows: pd.DataFrame
    files: list[str]
    folder: str | None = None
    layout: FolderLayout | None = None
    table: str | None = None
    image: str = FILE
    images: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the study may be called after."""
        if self.table is None:
            return self.folder or ""
        path = PurePosixPath(self.table)
        return path.parent.name or path.stem


def look(path: Path) -> Found:
    """Return what lies at a path: a table with images, or a folder. SynthGainError says what was looked for."""
    path = path.expanduser().absolute()
    if not path.exists():
        raise SynthGainError(f"{path}: there is no such file or folder")
    if path.is_file():
        if path.suffix.lower() not in TABLES:
            raise SynthGainError(f"{path}: not a table that is read ({' '.join(TABLES)}); give a folder, or a table")
        return _with_table([path], path.parent, str(path))
    names = [name for name, _ in files_below(path) if counts(name)]
    layout = _layout(path)
    if (
        layout is not None
        and layout.tables
        and all(FILE in read_table(path / one, one, TableFormat()).cells for one in layout.tables)
    ):
        return _as_folder(path, layout)
    tables = [path / one for one in names if one.lower().endswith(TABLES) and one.count("/") < DEEPEST]
    if layout is not None and layout.tables:
        layout = None  # its metadata are a table of another form
    if tables:
        try:
            return _with_table(tables, path, str(path))
        except SynthGainError:
            if layout is None:
                raise
    if layout is None:
        raise SynthGainError(f"{path}: nothing to start from; looked for {LOOKED_FOR}")
    return _as_folder(path, layout)


def _layout(folder: Path) -> FolderLayout | None:
    try:
        return read_layout(folder)
    except SynthGainError as error:
        if "holds no image" in str(error):
            return None
        raise


def _as_folder(path: Path, layout: FolderLayout) -> Found:
    """Go down where all lies in one folder, which names no class."""
    notes = []
    classes = layout.names(CLASS)
    while layout.levels == (CLASS,) and len(classes) == 1 and not layout.tables and all(r[CLASS] for r in layout.rows):
        deeper = read_layout(path / classes[0])
        if not deeper.levels and not deeper.mask_columns:
            break
        notes.append(f"everything lies in {classes[0]!r}, so that folder is the data set")
        path, layout = path / classes[0], deeper
        classes = layout.names(CLASS)
    if layout.passed_over:
        shown = ", ".join(layout.passed_over[:3])
        notes.append(
            f"{len(layout.passed_over)} files are no images, or masks without one, and are passed over: {shown}"
        )
    rows = with_metadata(layout, path, path.name)
    files = [f"{path.name}/{row[FILE]}" for row in layout.rows]
    return Found(path.parent, rows, files, folder=path.name, layout=layout, notes=notes)


def _with_table(tables: list[Path], folder: Path, asked: str) -> Found:
    """Return the table of which most rows name a file that is there; the larger of equals."""
    best: tuple[float, int, Found] | None = None
    reasons = []
    for table in tables:
        try:
            rows = read_table(table, table.name, TableFormat()).cells
        except SynthGainError as error:
            reasons.append(str(error))
            continue
        found = _image_column(table, rows)
        if found is None:
            reasons.append(f"{table.name} has no column of image paths ({_why_not(rows)})")
        elif best is None or (found[0], len(rows)) > best[:2]:
            best = (found[0], len(rows), found[1])
    if best is None:
        shown = "; ".join(reasons[:3]) if reasons else "no table"
        raise SynthGainError(f"{asked}: {shown}; looked for {LOOKED_FOR}")
    return best[2]


def _image_column(table: Path, rows: pd.DataFrame) -> tuple[float, Found] | None:
    """Return (share of rows whose file is there, what the study reads) for the likeliest column and folder."""
    below = table.parent
    present = {
        composed(name): name for name, _ in files_below(below) if counts(name) and name.lower().endswith(PICTURES)
    }
    places = sorted(
        {"/".join(PurePosixPath(name).parts[:n]) for name in present for n in range(DEEPEST)}, key=lambda p: (len(p), p)
    )
    best: tuple[float, str, str] | None = None
    for column in rows:
        cells = [plain_path(cell) if cell else "" for cell in rows[column]]
        if not any(cell.lower().endswith(PICTURES) for cell in cells):
            continue
        for place in places:
            share = sum(_below(place, cell) in present for cell in cells) / len(cells)
            likelier = best is None or (share, not _is_mask(str(column))) > (best[0], not _is_mask(best[1]))
            if share >= ENOUGH and likelier:
                best = (share, str(column), place)
    if best is None:
        return None
    share, column, place = best
    root = below.parent
    cells = [plain_path(cell) if cell else "" for cell in rows[column]]
    files = [f"{below.name}/{present[_below(place, cell)]}" for cell in cells if _below(place, cell) in present]
    notes = [] if share == 1 else [f"{len(rows) - len(files)} of {len(rows)} rows name a file that is not there"]
    images = _below(below.name, place).rstrip("/") if place else None
    return share, Found(root, rows, files, table=f"{below.name}/{table.name}", image=column, images=images, notes=notes)


def _below(place: str, cell: str) -> str:
    return f"{place}/{cell}" if place else cell


def _is_mask(column: str) -> bool:
    return "mask" in column.lower() or "seg" in column.lower()


def _why_not(rows: pd.DataFrame) -> str:
    cells = [str(cell) for column in rows for cell in rows[column].head(50)]
    if any(cell.startswith("/") or cell[1:3] == ":\\" for cell in cells):
        return "it holds absolute paths; make them relative to the table"
    if not any(cell.lower().endswith(PICTURES) for cell in cells):
        return f"no cell ends in {' '.join(PICTURES[:3])} …; write whole file names"
    return "most files that it names are not there, seen from its own folder and those in it"


def unique(values: Iterable[str]) -> list[str]:
    """Return the different values that are not empty, sorted."""
    return sorted({value for value in values if value})
