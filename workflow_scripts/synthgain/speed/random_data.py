"""A data set of random pixels in a folder of its own: speed depends on shapes, not on what the images show."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.data.image_set import SPLIT_FILE, ColumnSpec, write_image_set
from synthgain.runtime.files import write_manifest, write_table
from synthgain.runtime.inputs import Input, Key, NamedInputs
from synthgain.speed.documents import ImageKind

IDENTITY, KINDS = "random", ("datasets", "splits")


def write_random_data(
    run: Path,
    dataset: str,
    counts: dict[str, int],
    image: ImageKind,
    targets: Sequence[str] = (),
    conditions: Sequence[str] = (),
    structures: Sequence[str] = (),
) -> dict[str, NamedInputs]:
    """Write a data set and its split into `run`, each image a patient; return the inputs of a job that reads them.

    counts: {part: images}; targets become binary columns, conditions continuous ones (the
    kind of a condition changes no speed worth the name), structures masks that every image has.
    """
    random = np.random.default_rng(0)
    total, side = sum(counts.values()), image.size
    names = [f"{dataset}-{row}" for row in range(total)]
    table = pd.DataFrame({"image_id": names, "patient_id": names, "site": dataset, "origin": "real"})
    columns: dict[str, ColumnSpec] = {name: {"role": "covariate", "kind": "continuous"} for name in conditions}
    columns |= {name: {"role": "target", "kind": "binary"} for name in targets}
    for name, spec in columns.items():
        values = np.arange(total) % 2 if spec["kind"] == "binary" else random.standard_normal(total)
        table[name] = values.astype(np.float32)
    images = random.integers(0, 256, (total, side, side, image.channels), dtype=np.uint8)
    masks = None
    if structures:
        table = table.assign(**{f"has_mask_{name}": True for name in structures})
        masks = np.zeros((total, side, side, len(structures)), np.uint8)
        masks[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    write_image_set(run / "datasets" / dataset, images, table, columns, IDENTITY, masks, list(structures))
    part = np.repeat(list(counts), list(counts.values()))
    split = table[["image_id", "patient_id"]].assign(part=part)
    write_table(run / "splits" / dataset / SPLIT_FILE, split, IDENTITY)
    write_manifest(run / "splits" / dataset / "manifest.json", IDENTITY, [SPLIT_FILE])
    return {kind: one_input(kind, dataset, f"{kind}/{dataset}/manifest.json", run, IDENTITY) for kind in KINDS}


def one_input(name: str, key: Key, path: str, run: Path, identity: str) -> NamedInputs:
    """Return a job's only input of a name."""
    return NamedInputs(name, {key: Input(path, run / path, identity)})
