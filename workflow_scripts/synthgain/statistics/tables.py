"""Results on disk: tidy tables with full precision, JSON without NaN."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd

from synthgain.runtime.files import atomic_path, write_json, write_table


def write_results(folder: Path, results: Mapping[str, object], identity: str) -> list[str]:
    """Write each result by its file name: a DataFrame as CSV or Parquet, anything else as JSON. Returns the names."""
    for name, content in results.items():
        if not isinstance(content, pd.DataFrame):
            write_json(folder / name, plain(content))
        elif name.endswith(".parquet"):
            write_table(folder / name, content, identity)
        else:
            write_csv(folder / name, content)
    return list(results)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV with seven significant digits, so that an interval keeps at least four decimals; NaN is empty."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")


@overload
def plain(value: Mapping[str, object]) -> dict[str, object]: ...


@overload
def plain(value: object) -> object: ...


def plain(value: object) -> object:
    """Return `value` as JSON types: NumPy numbers become Python's, NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
