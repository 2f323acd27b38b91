"""The `table` adapter: a CSV or Parquet table of image paths (and masks), the way users bring their own data."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from pyarrow import parquet

from synthgain.datasets.columns import text_table
from synthgain.datasets.reading import is_below
from synthgain.datasets.rows import read_rows
from synthgain.datasets.source import Prepared
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import sha256_file

MAX_ROWS = 10_000_000  # a Parquet file of a few bytes can promise any number of rows
COMPRESSED = (".gz", ".bz2", ".zip", ".xz", ".zst", ".tar")  # what pandas would unpack unasked and without bound
NO_ROOT = "data root is missing: pass --config data_root=FOLDER or set SYNTHGAIN_DATA"


def prepare(
    options: Mapping[str, Any], image: Mapping[str, Any], seed: int, root: Path | None, threads: int = 1
) -> Prepared:
    """Read the rows of a table into the study's geometry.

    options: table (path below root), images (folder of the paths), image, mask, image_id, patient_id (a column, or
    null said aloud), site, where, targets, multilabel, covariates, constants, keep (columns copied as text, for
    example a published split). Rows that cannot be used stand in the quarantine with their reason.
    Raises SynthGainError for a missing root, table or column, an undeclared bit depth, or no row left.
    """
    path = _table_path(options, root)
    assert root is not None, "a table path has a root"
    file = str(options["table"])
    base = PurePosixPath(options.get("images") or PurePosixPath(file).parent)
    if not is_below(str(base)):
        raise SynthGainError(f"images {str(base)!r} must be a folder below the data root, without '..'")
    prepared = read_rows(read_table(path, file), options, image, root / base, file, threads)
    return replace(prepared, facts={**prepared.facts, "source": sha256_file(path), "source_table": file})


def check_root(root: Path | None) -> Path:
    """Return the data root; SynthGainError in one line where there is none."""
    if root is None:
        raise SynthGainError(NO_ROOT)
    if not root.is_dir():
        raise SynthGainError(f"data root {root} is not a folder; pass --config data_root=FOLDER or set SYNTHGAIN_DATA")
    return root


def _table_path(options: Mapping[str, Any], root: Path | None) -> Path:
    """Return the table file after checking that it and the data root exist."""
    root = check_root(root)
    if not is_below(str(options["table"])):
        raise SynthGainError(f"table {options['table']!r} must be a path below the data root, without '..'")
    path = root / options["table"]
    if not path.is_file():
        raise SynthGainError(f"{path}: no such table; check `table` and the data root")
    return path


def read_table(path: Path, file: str) -> pd.DataFrame:
    """Return a table of a user with every cell as text; SynthGainError in one line, which `file` opens."""
    if path.suffix.lower() in COMPRESSED:
        raise SynthGainError(f"{file}: compressed tables are not read; unpack it, or save it as Parquet")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            rows = parquet.read_metadata(path).num_rows
            if rows > MAX_ROWS:
                raise SynthGainError(f"{file}: promises {rows:,} rows (limit {MAX_ROWS:,}); check the file")
            return text_table(pd.read_parquet(path))  # in here, since Arrow decodes text when it is asked for
        if path.suffix.lower() == ".jsonl":
            return text_table(pd.read_json(path, lines=True, dtype=False, convert_dates=False, encoding="utf-8-sig"))
        return text_table(pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", compression=None))
    except SynthGainError:
        raise
    except Exception as error:  # pandas and pyarrow raise many kinds; the user needs one line
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SynthGainError(f"{file}: not a readable table ({reason})") from error
