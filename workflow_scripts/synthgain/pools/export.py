"""A pool as PNG files with a CSV that Hugging Face's `imagefolder` reads, and a datasheet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from synthgain.errors import SynthGainError
from synthgain.files import atomic_path

MODES = {1: "L", 3: "RGB"}


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write pixels (H, W, C) uint8, C = 1 or 3, as PNG, atomically."""
    if pixels.shape[2] not in MODES:
        raise SynthGainError(f"{path}: {pixels.shape[2]} channels; PNG export needs 1 (grey) or 3 (RGB)")
    with atomic_path(path) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(temporary, format="PNG")


def metadata_table(table: pd.DataFrame, mask_names: list[str]) -> pd.DataFrame:
    """Return the table with `file_name` first, and `mask_<name>` files (relative to images/) where there are masks."""
    names = {"file_name": table["image_id"] + ".png"}
    for name in mask_names:
        present = table.get(f"has_mask_{name}", pd.Series(True, index=table.index)).astype(bool)
        paths = f"../masks/{name}/" + table["image_id"] + ".png"
        names[f"mask_{name}"] = paths.where(present)
    return pd.concat([pd.DataFrame(names), table], axis=1)


def datasheet(
    pool: str, facts: Mapping[str, Any], counts: Mapping[str, Mapping[str, int]], images: int, licence: str
) -> str:
    """Return README.md: how the images were made, what they hold, what to mind before sharing them.

    facts: {name: JSON value} printed as a table; counts: {column: {level: count}}; licence: that of the real images.
    """
    how = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items())
    labels = "\n".join(
        f"| {column} | {level} | {count} | {100 * count / max(images, 1):.1f} % |"
        for column, levels in counts.items()
        for level, count in levels.items()
    )
    return f"""---
configs:
- config_name: default
  data_dir: images
---
# Synthetic images: {pool}

{images} synthetic images made by SynthGain. **None of them is a picture of a person; do not use them for diagnosis.**

`images/` holds one PNG per row of `images/metadata.csv` (column `file_name`); `masks/<structure>/` the masks,
where there are any (0 background, 255 structure). `parent_image_id` names the real training image whose labels and
covariates were copied, `seed` the random stream of the sample, `sha256` the digest of its raw pixels.

Read it with `datasets.load_dataset("imagefolder", data_dir="images")` or `pandas.read_csv("images/metadata.csv")`.

## How it was made

| what | value |
| --- | --- |
{how}

## What it holds

| column | level | images | share |
| --- | --- | --- | --- |
{labels}

## Before you share it

- **Licence** of the real images: {licence or "not given"}. The synthetic ones were made from them: the terms of
  that data set (share-alike, non-commercial, no redistribution, data use agreement) may extend to these. Read them.
- **Memorisation**: generators can give back training images. Look at the memorisation section of the study's
  report for this pool, and leave out the flagged images. A low copy rate is not a proof of privacy.
- **Identifiers**: `parent_image_id` and `parent_patient_id` are identifiers of real patients' data. Drop these columns
  before giving the table to anyone who may not see them.
- **Labels** are the conditions that the generator was given, not a reader's findings.
"""


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(inner)}" for name, inner in value.items())
    return str(value).replace("|", "\\|")
