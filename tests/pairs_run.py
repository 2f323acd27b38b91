"""A small run folder of bright discs with their masks, for the tests of mask agreement and mask fidelity."""

from pathlib import Path

import numpy as np
import pandas as pd
from evaluation_run import IDENTITY

from synthgain.data.image_set import write_image_set
from synthgain.runtime.files import write_manifest, write_table

SIZE, STRUCTURE = 24, "spot"


def discs(count: int, seed: int, radius: tuple[float, float] = (3.0, 6.0)) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, SIZE, SIZE, 3) uint8 with a bright disc each, and the discs' masks (count, SIZE, SIZE, 1)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    centre = rng.uniform(7, SIZE - 8, (2, count, 1, 1))
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < rng.uniform(*radius, (count, 1, 1)) ** 2
    images = 60 + 140 * inside[..., None] + 8 * rng.normal(size=(count, SIZE, SIZE, 3))
    return images.clip(0, 255).astype(np.uint8), inside.astype(np.uint8)[..., None]


def table(count: int, name: str, masked: bool = True) -> pd.DataFrame:
    """Two images a patient, every one with a mask or none."""
    return pd.DataFrame(
        {
            "image_id": [f"{name}-{number}" for number in range(count)],
            "patient_id": [f"{name}-p{number // 2}" for number in range(count)],
            "site": "a",
            "origin": "real",
            f"has_mask_{STRUCTURE}": masked,
        }
    )


def write_real(run: Path, count: int = 200) -> None:
    """Write data set `a`: 40 % training, 30 % validation, 30 % test."""
    images, masks = discs(count, seed=1)
    rows = table(count, "real")
    write_image_set(run / "datasets" / "a", images, rows, {}, IDENTITY, masks, [STRUCTURE])
    share = np.arange(count) / count
    part = np.select([share < 0.4, share < 0.7], ["train", "validation"], "test")
    folder = run / "splits" / "a"
    folder.mkdir(parents=True)
    write_table(folder / "split.parquet", rows[["image_id", "patient_id"]].assign(part=part), IDENTITY)
    write_manifest(folder / "manifest.json", IDENTITY, ["split.parquet"])


def write_pool(run: Path, name: str, images: np.ndarray, masks: np.ndarray | None) -> None:
    """Write images and masks (or none) as replica 1 of a pool."""
    rows = table(len(images), name, masks is not None).assign(origin="synthetic", replica=1, seed=0)
    rows = rows.assign(parent_patient_id=rows["patient_id"])
    folder = run / "pools" / name / "0" / "replica-1"
    names = [STRUCTURE] if masks is not None else []
    write_image_set(folder / "shard-0", images, rows, {}, IDENTITY, masks, names)
    identities = {"shard-0": IDENTITY}
    write_manifest(
        folder / "manifest.json", IDENTITY, [], shards=["shard-0"], shard_identities=identities, mask_names=names
    )
