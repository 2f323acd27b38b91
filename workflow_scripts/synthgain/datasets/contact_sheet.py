"""A contact sheet: a row of example images per class, as one picture."""

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

SIDE = 96  # pixels per example on the sheet
COLUMNS = 10
MAX_ROWS = 16
_LABEL_HEIGHT = 16
_GAP = 2


def contact_sheet(
    images: np.ndarray, table: pd.DataFrame, columns: list[str], rng: np.random.Generator, masks: np.ndarray | None
) -> Image.Image:
    """Return an RGB sheet: per column (at most MAX_ROWS classes in all) up to COLUMNS random images of each level.

    Where there are masks, their outlines are drawn in colour on the images. Without columns, two rows of any images.
    """
    rows = _rows(table, columns)[:MAX_ROWS]
    width, height = COLUMNS * (SIDE + _GAP) + _GAP, SIDE + _GAP + _LABEL_HEIGHT
    sheet = Image.new("RGB", (width, height * len(rows) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (caption, members) in enumerate(rows):
        top = place * height
        draw.text((_GAP + 2, top + 2), f"{caption} ({len(members)} images)", fill="black")
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
    everything = np.arange(len(table))
    return rows or [("all", everything), ("all", everything)]


def _example(image: np.ndarray, mask: np.ndarray | None) -> Image.Image:
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[:, :, 0] if grey else image).convert("RGB")
    picture = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if mask is None or not mask.any():
        return picture
    pixels = np.array(picture)
    colours = ((255, 160, 0), (0, 190, 255), (120, 220, 0), (255, 80, 160))
    for plane in range(mask.shape[2]):
        large = Image.fromarray(mask[:, :, plane] * np.uint8(255)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        inside = np.pad(np.asarray(large) > 127, 1)
        core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        pixels[inside[1:-1, 1:-1] & ~core] = colours[plane % len(colours)]
    return Image.fromarray(pixels)
