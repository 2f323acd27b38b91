"""A contact sheet: a row of example images per class, as one picture."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from synthgain.datasets.mask_area import SIZES

SIDE = 96  # pixels per example on the sheet
COLUMNS = 10
MAX_ROWS = 16
MAX_CAPTION = 120  # characters, about the width of the sheet
_LABEL_HEIGHT = 16
_GAP = 2
# RGB, in the order of the structures: cyan stands out on grey films and on mucosa.
OUTLINES = ((0, 220, 255), (255, 160, 0), (120, 220, 0), (255, 80, 160))


def contact_sheet(
    images: np.ndarray,
    table: pd.DataFrame,
    columns: list[str],
    rng: np.random.Generator,
    masks: np.ndarray | None,
    mask_names: Sequence[str] = (),
    strata: tuple[str, np.ndarray] | None = None,
) -> Image.Image:
    """Return an RGB sheet: per column (at most MAX_ROWS classes in all) up to COLUMNS random images of each level.

    Where there are masks, their outlines are drawn in colour on the images, and a legend names the structures.
    Without columns, a row per area stratum of a structure (`strata`: its name, (N,) strata), or two of any images.
    """
    rows = (_rows(table, columns) or _strata_rows(strata) or [("all", np.arange(len(table)))] * 2)[:MAX_ROWS]
    width, height = COLUMNS * (SIDE + _GAP) + _GAP, SIDE + _GAP + _LABEL_HEIGHT
    legend = _LABEL_HEIGHT if masks is not None and len(mask_names) else 0
    sheet = Image.new("RGB", (width, legend + height * len(rows) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    if legend:
        _draw_legend(draw, mask_names)
    for place, (caption, members) in enumerate(rows):
        top = legend + place * height
        line = " ".join(caption.split())[:MAX_CAPTION]
        draw.text((_GAP + 2, top + 2), f"{line} ({len(members)} images)", fill="black")
        chosen = np.sort(rng.permutation(members)[:COLUMNS])
        for column, row in enumerate(chosen):
            mask = None if masks is None else np.asarray(masks[row])
            sheet.paste(_example(np.asarray(images[row]), mask), (_GAP + column * (SIDE + _GAP), top + _LABEL_HEIGHT))
    return sheet


def _rows(table: pd.DataFrame, columns: list[str]) -> list[tuple[str, np.ndarray]]:
    rows = []
    for name in columns:
        for level in sorted(table[name].dropna().unique()):
            shown = level if isinstance(level, str) else f"{level:g}"
            rows.append((f"{name} = {shown}", np.flatnonzero((table[name] == level).to_numpy())))
    return rows


def _strata_rows(strata: tuple[str, np.ndarray] | None) -> list[tuple[str, np.ndarray]]:
    if strata is None:
        return []
    name, values = strata
    captions = {**{size: f"{size} {name}" for size in SIZES}, "empty": f"empty mask of {name}"}
    rows = [(caption, np.flatnonzero(values == level)) for level, caption in captions.items()]
    rows.append((f"mask of {name} unknown", np.flatnonzero([value is None for value in values])))
    return [(caption, members) for caption, members in rows if len(members)]


def _draw_legend(draw: ImageDraw.ImageDraw, names: Sequence[str]) -> None:
    left = float(_GAP + 2)
    for plane, name in enumerate(names):
        draw.rectangle((left, 4, left + 9, 13), outline=OUTLINES[plane % len(OUTLINES)], width=2)
        draw.text((left + 14, 2), name, fill="black")
        left += 14 + draw.textlength(name) + 16


def _example(image: np.ndarray, mask: np.ndarray | None) -> Image.Image:
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[:, :, 0] if grey else image).convert("RGB")
    picture = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if mask is None or not mask.any():
        return picture
    pixels = np.array(picture)
    for plane in range(mask.shape[2]):
        large = Image.fromarray(mask[:, :, plane] * np.uint8(255)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        inside = np.pad(np.asarray(large) > 127, 1)
        core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        pixels[inside[1:-1, 1:-1] & ~core] = OUTLINES[plane % len(OUTLINES)]
    return Image.fromarray(pixels)
