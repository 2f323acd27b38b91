"""Fréchet radiomics distance (Konz et al. 2026, arXiv 2412.01496), where its two packages are installed.

pyradiomics needs a build of its own (docs/fidelity.md), so both are optional; without them the table says why.
About 0.3 s an image on one core, hence the small default n.
"""

import importlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from synthgain.evaluation.fidelity import empty_row
from synthgain.evaluation.inputs import Images
from synthgain.evaluation.resampling import disjoint_halves, images_a_side, spread_order
from synthgain.runtime.command import logger

PACKAGES = ("radiomics", "frd_score")
MOST_IMAGES = 100
KEYS = {"space": "radiomics", "reference": "held_out", "metric": "frd"}


def measure_radiomics(
    synthetic: Images, held_out: Images, seeded: Callable[..., np.random.Generator], limits: Mapping[str, int]
) -> list[dict[str, object]]:
    """One row `frd` = log of the distance (the paper's form), or one that says why there is none.

    The floor is real against other patients' real images at the same n, mean over `floor_splits`.
    """
    reason = _missing()
    [n] = images_a_side([held_out.patients], min(len(synthetic), limits["n"], MOST_IMAGES), limits["minimum"])
    if reason is None and n < limits["minimum"]:
        reason = f"{n} images a side are fewer than {limits['minimum']}"
    if reason is not None:
        return [empty_row(f"not computed, because {reason}", n=n, **KEYS)]
    rng = seeded(step="radiomics")
    floors = []
    for _ in range(limits["floor_splits"]):
        first, second = disjoint_halves(held_out.patients, n, rng)
        floors.append(radiomics_distance(held_out.pixels(first), held_out.pixels(second)))
    value = radiomics_distance(
        synthetic.pixels(rng.permutation(len(synthetic))[:n]), held_out.pixels(spread_order(held_out.patients, rng)[:n])
    )
    floor = float(np.mean(floors))
    measured = {"value": value, "floor": floor, "floor_sd": float(np.std(floors, ddof=1)), "excess": value - floor}
    return [{**empty_row("log of the distance; original images, all radiomics classes", n=n, **KEYS), **measured}]


def radiomics_distance(first: np.ndarray, second: np.ndarray) -> float:
    """frd-score's FRD v1 (log d) of two (n, H, W, C) uint8 arrays; colour is averaged to grey."""
    from frd_score import compute_frd

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(_write_images(Path(folder) / name, side)) for name, side in (("a", first), ("b", second))]
        return float(compute_frd(paths, use_paper_log=True, num_workers=1))


def _write_images(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(np.rint(image.mean(-1)).astype(np.uint8)).save(folder / f"{number:06d}.png")
    return folder


def _missing() -> str | None:
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            logger.info("radiomics: %s", error)
            return f"package {'pyradiomics' if name == 'radiomics' else 'frd-score'} is not installed"
    return None
