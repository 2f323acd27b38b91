"""A pool as PNG files with a CSV that Hugging Face's `imagefolder` reads, and a datasheet."""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from PIL import Image

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import atomic_path

MARKDOWN = re.compile(r"[|`\[\]]")
MODES = {1: "L", 3: "RGB"}


class MaskSummary(TypedDict):
    """How many masks of a structure there are, how many are empty, and the median share of the others' area."""

    images: int
    empty: int
    median_share: float | None


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


def mask_summary(areas: np.ndarray) -> MaskSummary:
    """Return the summary of a structure's masks; areas: (N,) shares of the image, 0 for empty."""
    filled = areas[areas > 0]
    median = round(float(np.median(filled)), 4) if len(filled) else None
    return {"images": len(areas), "empty": int((areas == 0).sum()), "median_share": median}


def datasheet(
    pool: str,
    facts: Mapping[str, object],
    counts: Mapping[str, Mapping[str, int]],
    images: int,
    licence: str,
    masks: Mapping[str, MaskSummary] | None = None,
) -> str:
    """Return README.md: how the images were made, what they hold, what to mind before sharing them.

    facts: {name: JSON value} printed as a table; counts: {column: {level: count}}; licence: that of the real images;
    masks: {structure: mask_summary}.
    """
    how = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items())
    labels = "\n".join(
        f"| {_cell(column)} | {_cell(level)} | {count} | {100 * count / max(images, 1):.1f} % |"
        for column, levels in counts.items()
        for level, count in levels.items()
    )
    structures = "\n".join(
        f"| {name} | {one['images']} | {one['empty']} | "
        + (f"{100 * one['median_share']:.1f} % |" if one["median_share"] is not None else "– |")
        for name, one in (masks or {}).items()
    )
    if structures:
        structures = f"\n| masks of | images | empty | median area |\n| --- | --- | --- | --- |\n{structures}\n"
    return f"""---
configs:
- config_name: default
  data_dir: images
---
# Synthetic images: {pool}

{images} synthetic images made by SynthGain. **None of them is a picture of a person; do not use them for diagnosis.**

`images/` holds one PNG per row of `images/metadata.csv` (column `file_name`); `masks/<structure>/` the masks,
where there are any (0 background, 255 structure; column `mask_<structure>` names the file, no file: mask unknown).
`parent_image_id` names the real training image whose labels and
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
{structures}
## Before you share it

- **Licence** of the real images: {_cell(licence) or "not given"}. The synthetic ones were made from them: the terms of
  that data set (share-alike, non-commercial, no redistribution, data use agreement) may extend to these. Read them.
- **Memorisation**: generators can give back training images. Look at the memorisation section of the study's
  report for this pool, and leave out the flagged images. A low copy rate is not a proof of privacy.
- **Identifiers**: `parent_image_id`, `parent_patient_id` and `mask_parent_id` are identifiers of real patients' data.
  Drop these columns before giving the table to anyone who may not see them.
- **Labels** are the conditions that the generator was given, not a reader's findings.
"""


def _cell(value: object) -> str:
    """Return a value as one line of Markdown text: no cell border, no HTML, no link."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_cell(name)} {_cell(inner)}" for name, inner in value.items())
    return MARKDOWN.sub(r"\\\g<0>", html.escape(" ".join(str(value).split()), quote=False))
