"""Small copies of published polyp sets with drawn mucosa in them: no patient's image is in a miniature.

Folders, names and traps are those that the layouts' modules name. Frames have one of three looks (tint and texture of
the mucosa), so that appearance clusters have something to find, and a lighter, smooth polyp.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from synthgain.datasets.layouts.cvc_clinicdb import LAST_FRAMES
from synthgain.datasets.layouts.polypgen import CENTRES
from synthgain.runtime.files import write_text
from synthgain.seeds import random_generator

SIDE = 64  # pixels
LOOKS = ((196, 92, 78), (150, 78, 92), (208, 140, 96))  # tints of the mucosa
Frames = tuple[np.ndarray, np.ndarray]


def draw_frames(count: int, seed: int, site: str) -> Frames:
    """Return frames (count, SIDE, SIDE, 3) uint8 and the masks of their polyps (count, SIDE, SIDE) bool.

    Those of another site are other frames.
    """
    random = random_generator(step="miniature", site=site, seed=seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    tints = np.array(LOOKS) + random.normal(0, 6, 3)  # another hospital's light
    images, masks = [], []
    for number in range(count):
        look = number % len(LOOKS)
        angle, phase = random.uniform(0, np.pi), random.uniform(0, 2 * np.pi)
        folds = np.sin(2 * np.pi * (2 + 2 * look) * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        centre, axes = random.uniform(0.3, 0.7, 2), random.uniform(0.12, 0.28, 2)
        inside = ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2
        light = 1 - 0.5 * ((y - 0.5) ** 2 + (x - 0.5) ** 2)
        image = (tints[look] + 14 * folds[..., None]) * light[..., None]
        image += np.array([34, 30, 26]) * np.clip(1.3 - inside, 0, 1)[..., None]
        spots = Image.fromarray(random.normal(0, 14, (12, 12)).astype(np.float32))  # no two frames are alike
        image += np.asarray(spots.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[..., None]
        images.append(np.clip(image + random.normal(0, 4, image.shape), 0, 255))
        masks.append(inside < 1)
    return np.array(images).astype(np.uint8), np.array(masks)


def _kvasir(place: Path, frames: Frames) -> None:
    """Traps: masks as JPEG in three channels, an image without a mask, boxes beside the masks."""
    images, masks = frames
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        name = f"cju{number:022x}.jpg"
        _write(place / "images" / name, image)
        if number > 0:
            _write(place / "masks" / name, np.repeat(_grey(mask)[..., None], 3, axis=2), quality=80)
    write_text(place / "kavsir_bboxes.json", "{}")


def _cvc_clinicdb(place: Path, frames: Frames) -> None:
    """Traps: frames of one sequence alike, grey borders of masks, a frame whose number belongs to no sequence."""
    images, masks = frames
    known = np.linspace(1, LAST_FRAMES[-1], len(images) - 1).astype(int)
    for number, image, mask in zip([*known, LAST_FRAMES[-1] + 1], images, masks, strict=True):
        soft = _grey(mask)
        soft[0] = 100
        _write(place / "Original" / f"{number}.tif", image)
        _write(place / "Ground Truth" / f"{number}.tif", soft)


def _polypgen(place: Path, frames: Frames) -> None:
    """Traps: centres that name examinations in their own ways, sequences without a centre, frames without a polyp."""
    images, masks = frames
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        centre = CENTRES[number % len(CENTRES)]
        if number % 10 == 8:
            sequence = f"seq{1 + number // 20}"
            base, name = f"sequenceData/positive/{sequence}", f"{number // 20}_endocv2021_positive_{number}"
            folders = (f"{base}/images_{sequence}", f"{base}/masks_{sequence}")
        elif number % 10 == 9:
            _write(place / f"sequenceData/negativeOnly/seq{1 + number // 40}_neg/{number}.jpg", image)
            continue
        else:
            examination = f"{number // 2}OLCV1_100H{number:04d}"
            name = examination if centre == "C1" else f"{centre}_EndoCV2021_{number:05d}_"
            folders = (f"data_{centre}/images_{centre}", f"data_{centre}/masks_{centre}")
        _write(place / folders[0] / f"{name}.jpg", image)
        _write(place / folders[1] / f"{name.rstrip('_')}_mask.jpg", _grey(mask), quality=80)


def _grey(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * 255


def _write(path: Path, pixels: np.ndarray, quality: int = 95) -> None:
    """quality: of a JPEG; other formats have none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=quality)


POLYP_MINIATURES: Mapping[str, Callable[[Path, Frames], None]] = {
    "kvasir_seg": _kvasir,
    "hyperkvasir": _kvasir,
    "cvc_clinicdb": _cvc_clinicdb,
    "polypgen": _polypgen,
}
