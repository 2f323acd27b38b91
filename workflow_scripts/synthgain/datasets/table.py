"""The `table` adapter: a CSV or Parquet table of image paths (and masks), the way users bring their own data."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from synthgain.datasets.cells import Table, read_table
from synthgain.datasets.entries.options import JobTable, TableFormat
from synthgain.datasets.files import Pictures, is_below
from synthgain.datasets.geometry import Geometry
from synthgain.datasets.rows import read_rows
from synthgain.datasets.source import Prepared
from synthgain.entry import checked
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import sha256_file

COMPRESSED = (".gz", ".bz2", ".zip", ".xz", ".zst", ".tar")  # could unpack to any size
NO_ROOT = "data root is missing: pass --config data_root=FOLDER or set SYNTHGAIN_DATA"


def prepare(options: Mapping[str, object], image: Geometry, seed: int, root: Path | None, threads: int = 1) -> Prepared:
    """Read the rows of a table into the study's geometry.

    options: `JobTable`. Rows that cannot be used stand in the quarantine with their reason.
    Raises SynthGainError for a missing root, table or column, an undeclared bit depth, or no row left.
    """
    job = checked(JobTable, options, "table", of_slice=True)
    root = check_root(root)
    path = table_path(job.table, root)
    base = PurePosixPath(job.images or PurePosixPath(job.table).parent)
    if not is_below(str(base)):
        raise SynthGainError(f"images {str(base)!r} must be a folder below the data root, without '..'")
    form = job.format or TableFormat()
    table = _read(path, job.table, form)
    prepared = read_rows(table.cells, job, image, Pictures(root / base, table.held), job.table, threads, form.decimal)
    return replace(prepared, facts={**prepared.facts, "source": sha256_file(path), "source_table": job.table})


def check_root(root: Path | None) -> Path:
    """Return the data root; SynthGainError in one line where there is none."""
    if root is None:
        raise SynthGainError(NO_ROOT)
    if not root.is_dir():
        raise SynthGainError(f"data root {root} is not a folder; pass --config data_root=FOLDER or set SYNTHGAIN_DATA")
    return root


def table_path(table: str, root: Path) -> Path:
    """Return the table file; SynthGainError where there is none below the root."""
    if not is_below(table):
        raise SynthGainError(f"table {table!r} must be a path below the data root, without '..'")
    path = root / table
    if path.is_dir():
        raise SynthGainError(f"{path}: is a folder; `table` names one file")
    if not path.is_file():
        raise SynthGainError(f"{path}: no such table; check `table` and the data root")
    return path


def _read(path: Path, file: str, form: TableFormat) -> Table:
    if path.suffix.lower() in COMPRESSED:
        raise SynthGainError(f"{file}: compressed tables are not read; unpack it, or save it as Parquet")
    return read_table(path, file, form)
