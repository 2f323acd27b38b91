"""Copy candidates as one picture: each synthetic image next to its nearest training image."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from synthgain.runtime.files import atomic_path

TILE = 96  # px a side: small images are enlarged without smoothing
GAP, CAPTION = 6, 30
PAIRS_PER_ROW = 4
INK, PAPER, ALARM = (32, 32, 32), (255, 255, 255), (178, 24, 43)


def draw_pairs_picture(
    path: Path, synthetic: np.ndarray, real: np.ndarray, similarities: np.ndarray, flagged: np.ndarray
) -> None:
    """Write a PNG of (n, H, W, C) uint8 pairs, synthetic left, its nearest training image right.

    Under each pair is its similarity; a flagged pair has a red frame. An empty set gives a line of text.
    """
    count = max(len(synthetic), 1)
    columns = min(PAIRS_PER_ROW, count)
    width, height = 2 * TILE + 3 * GAP, TILE + CAPTION + 2 * GAP
    picture = Image.new("RGB", (columns * width, -(-count // columns) * height), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    if not len(synthetic):
        pen.text((GAP, GAP), "no images", INK, font)
    for number in range(len(synthetic)):
        left, top = number % columns * width, number // columns * height
        if flagged[number]:
            frame = (left + 2, top + 2, left + width - 3, top + TILE + 2 * GAP - 3)
            pen.rectangle(frame, outline=ALARM, width=2)
        for position, image in enumerate((synthetic[number], real[number])):
            picture.paste(_tile(image), (left + GAP + position * (TILE + GAP), top + GAP))
        caption = f"synthetic | real   r = {similarities[number]:.3f}" + ("\nflagged" if flagged[number] else "")
        pen.multiline_text((left + GAP, top + TILE + 2 * GAP), caption, INK, font, spacing=1)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def _tile(image: np.ndarray) -> Image.Image:
    grey = image.shape[-1] == 1
    shown = Image.fromarray(image[..., 0] if grey else image[..., :3]).convert("RGB")
    smaller = max(image.shape[:2]) > TILE
    shown = shown.resize((TILE, TILE), Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST)
    return shown
