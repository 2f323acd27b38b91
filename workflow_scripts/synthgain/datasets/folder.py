"""The `folder` adapter: images whose folders say what they are (docs/your_data.md), read as rows of a table."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from synthgain.datasets.cells import printable, read_table, text_table
from synthgain.datasets.entries.options import JobFolder, JobRows, PatientPattern, TableFormat
from synthgain.datasets.files import Pictures, is_below
from synthgain.datasets.folder_checks import check_layout
from synthgain.datasets.folder_layout import CLASS, FILE, SPLIT, FolderLayout, composed, folder_source, read_layout
from synthgain.datasets.geometry import Geometry
from synthgain.datasets.rows import read_rows
from synthgain.datasets.source import Prepared
from synthgain.datasets.table import check_root
from synthgain.entry import checked
from synthgain.runtime.errors import SynthGainError

LISTED = 20  # names of a finding that the manifest lists; counts are always whole
# No user's column is called so.
IMAGE_ID, PATIENT = "path of the image", "patient in the path"
FOUND, DESCRIBED = "file that is there", "file that the metadata name"


def prepare(options: Mapping[str, object], image: Geometry, seed: int, root: Path | None, threads: int = 1) -> Prepared:
    """Read a folder of images into the study's geometry.

    options: folder (below root), levels, patient_id (a column, {pattern: …}, or null said aloud), and those of the
    `table` adapter from `mask` on. Rows that cannot be used stand in the quarantine with their reason; `passed_over`
    in the facts counts files that are no images.
    Raises SynthGainError for a missing root, folder or column, and for what `check_layout` refuses.
    """
    job = checked(JobFolder, options, str(options["folder"]), of_slice=True)
    name = job.folder
    if not is_below(name) and name != ".":
        raise SynthGainError(f"folder {name!r} must be below the data root, without '..'")
    folder = check_root(root) / name
    if not folder.is_dir():
        raise SynthGainError(f"{folder}: no such folder; check `folder` and the data root")
    layout = read_layout(folder, job.levels)
    check_layout(layout, job, trained=False)  # with a split the planner has seen to that
    table = with_metadata(layout, folder, name)
    patient = job.patient_id
    if isinstance(patient, PatientPattern):
        table[PATIENT] = patients_of(table[IMAGE_ID], patient.pattern)
        patient = PATIENT
    own = {"image": FILE, "image_id": IMAGE_ID, "patient_id": patient, "required": _required(layout, job)}
    shared = {key: value for key, value in options.items() if key in JobRows.model_fields}
    rows = checked(JobRows, {**shared, **own}, name, of_slice=True)
    prepared = read_rows(table, rows, image, Pictures(folder), name, threads)
    facts = {
        "source": folder_source(folder),
        "source_table": name,
        "passed_over": {
            "count": len(layout.passed_over),
            "listed": [printable(one) for one in layout.passed_over[:LISTED]],
        },
    }
    return replace(prepared, facts={**prepared.facts, **facts})


def with_metadata(layout: FolderLayout, folder: Path, name: str) -> pd.DataFrame:
    """Return a text table of one row per image, and the columns of the metadata that name it.

    A metadata file names files by their path from its own folder. A row whose file is not there stays a row, with ""
    in FOUND; an image that no row names has "" in DESCRIBED. Columns of the metadata stand for those of folders
    of the same name.
    """
    rows = pd.DataFrame(layout.rows, dtype=object)
    rows[IMAGE_ID] = [printable(composed(path)) for path in rows[FILE]]
    rows[FILE] = [printable(path) for path in rows[FILE]]  # such a file is not found, which its reason then says
    own = [*layout.levels, *layout.mask_columns]
    rows = rows.assign(**text_table(rows[own].map(composed)))
    if not layout.tables:
        return rows
    described = pd.concat([_metadata(path, folder, name) for path in layout.tables], ignore_index=True).fillna("")
    rows = rows.drop(columns=[column for column in described if column in own])
    described, rows = described.rename(columns={FILE: DESCRIBED}), rows.rename(columns={FILE: FOUND})
    whole = described.merge(rows, on=IMAGE_ID, how="outer", sort=True).fillna("")
    whole[FILE] = whole[FOUND].where(whole[FOUND] != "", whole[DESCRIBED])
    return whole


def _metadata(path: str, folder: Path, name: str) -> pd.DataFrame:
    """Return the rows of one metadata file with paths from the data set's folder; FILE is the image's."""
    table = read_table(folder / path, f"{name}/{path}", TableFormat()).cells
    if FILE not in table:
        listed = ", ".join(map(repr, table.columns[:12]))
        raise SynthGainError(
            f"{name}/{path}: no column {FILE!r}, which names the image of a row; it has {listed} (a table of another "
            "form: adapter: table)"
        )
    place = PurePosixPath(path).parent
    for column in (one for one in map(str, table) if one == FILE or one.endswith(f"_{FILE}")):
        table[column] = [str(place / cell.replace("\\", "/")) if cell else "" for cell in table[column]]
    table[IMAGE_ID] = [printable(composed(cell)) for cell in table[FILE]]
    return table


def _required(layout: FolderLayout, options: JobFolder) -> dict[str, str]:
    """Return what no row may lack: it lies in a class folder, in that of a part, and the metadata name it."""
    columns = [*options.targets.values(), *options.covariates.values()]
    reads = {column.column for column in columns} | set(options.keep)
    reasons = {CLASS: "lies in no class folder", SPLIT: "lies in no folder of a part (train, val, test)"}
    found = {level: reason for level, reason in reasons.items() if level in reads and level in layout.levels}
    described = {FOUND: "file not found", DESCRIBED: "no row of the metadata names it"}
    return {**described, **found} if layout.tables else found


def patients_of(paths: pd.Series, pattern: str) -> list[str]:
    """Return what the pattern's group (or all of it) finds in each path, "" where it is not found."""
    expression = re.compile(pattern)
    found = [expression.search(path) for path in paths]
    return ["" if one is None else (one[expression.groups] or "").strip() for one in found]
