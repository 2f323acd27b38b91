"""Images of planted appearances: textures, colours and a lesion, known by name."""

from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.data.image_set import write_image_set
from synthgain.runtime.files import digest, write_manifest, write_table

COLUMNS = {"finding": {"role": "target", "kind": "binary"}}
TINTS = ((205, 120, 100), (120, 60, 140), (60, 140, 90), (230, 220, 90))


def planted(kinds: np.ndarray, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, size, size, 3) uint8 and masks (N, size, size, 1) uint8 of the given kinds (N,) 0 … 3.

    A kind is a tint and the direction of its stripes; a brighter lesion is at a random place.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    images, masks = [], []
    for kind in kinds:
        angle = np.pi * kind / 4
        stripes = np.sin(2 * np.pi * (3 + kind) * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 6))
        centre, radius = random.uniform(0.3, 0.7, 2), random.uniform(0.12, 0.25)
        mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        image = np.array(TINTS[kind]) + 25 * stripes[..., None] + 40 * mask[..., None]
        images.append(np.clip(image + random.normal(0, 6, image.shape), 0, 255))
        masks.append(mask[..., None])
    return np.array(images).astype(np.uint8), np.array(masks).astype(np.uint8)


def write_planted(run: Path, train_kinds: np.ndarray, size: int = 32, other: int = 8) -> dict[str, str]:
    """Write data set and split `toy`: one patient per image, `other` validation and test images; return the inputs."""
    count = len(train_kinds)
    kinds = np.concatenate([train_kinds, np.arange(2 * other) % 3])
    images, masks = planted(kinds, size)
    names = [f"toy-{row:03d}" for row in range(len(kinds))]
    table = pd.DataFrame({"image_id": names, "patient_id": names, "site": "toy", "origin": "real", "kind": kinds})
    table = table.assign(finding=np.float32(1), has_mask_lesion=True)
    inputs = {"datasets": digest(["data", kinds.tolist()]), "splits": digest(["split", kinds.tolist()])}
    write_image_set(run / "datasets/toy", images, table, COLUMNS, inputs["datasets"], masks, ["lesion"])
    part = np.array(["train"] * count + ["validation"] * other + ["test"] * other)
    split = table[["image_id", "patient_id"]].assign(part=part)
    write_table(run / "splits/toy/split.parquet", split, inputs["splits"])
    write_manifest(run / "splits/toy/manifest.json", inputs["splits"], ["split.parquet"])
    return {f"{kind}/toy/manifest.json": identity for kind, identity in inputs.items()}
