"""The small set on which cases from the field are tried: grey pictures of one value each, and a table of them."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from synthgain.datasets.source import Prepared
from synthgain.datasets.table import prepare

GEOMETRY = {"size": 16, "channels": 1, "fit": "stretch", "intensity": "none"}
SIDE = 16


def grey(value: int) -> np.ndarray:
    """Return a picture of one grey value."""
    return np.full((SIDE, SIDE), value, np.uint8)


def pictures(root: Path, count: int = 4) -> list[str]:
    """Write 0.png, 1.png … of grey 0, 10 … and return their names."""
    for row in range(count):
        Image.fromarray(grey(10 * row)).save(root / f"{row}.png")
    return [f"{row}.png" for row in range(count)]


def rows(count: int = 4, **columns: list[str]) -> pd.DataFrame:
    """Return a table of `count` pictures, two of each patient, with labels 0 and 1 in turn."""
    numbers = range(count)
    table = {
        "image": [f"{row}.png" for row in numbers],
        "patient": [f"p{row // 2}" for row in numbers],
        "label": [str(row % 2) for row in numbers],
    }
    return pd.DataFrame({**table, **columns})


def read(
    root: Path, content: bytes | str | pd.DataFrame | None = None, file: str = "t.csv", **options: object
) -> Prepared:
    """Write a table where one is given, and read it; its target is `label` unless the options say otherwise."""
    if isinstance(content, pd.DataFrame):
        if file.endswith(".parquet"):
            content.to_parquet(root / file)
        else:
            content.to_csv(root / file, index=False)
    elif content is not None:
        (root / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    targets = {"label": {"column": "label"}}
    given = {"table": file, "patient_id": "patient", "targets": targets, **options}
    return prepare(given, GEOMETRY, 0, root)


def reasons(got: Prepared) -> dict[str, str]:
    """Return {image: why it was left out}."""
    return dict(zip(got.quarantine["image"], got.quarantine["reason"], strict=True))
