"""A toy data set and training jobs for the generator tests: discs whose brightness is the finding."""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from job_inputs import fields_of, new_job

from synthgain.data.image_set import write_image_set
from synthgain.runtime.command import Job
from synthgain.runtime.files import canonical_json, digest, write_manifest, write_table

SCRIPTS = Path(__file__).parents[1] / "workflow_scripts"
COLUMNS = {
    "finding": {"role": "target", "kind": "binary"},
    "view": {"role": "covariate", "kind": "category", "levels": ["AP", "PA"]},
    "age": {"role": "covariate", "kind": "continuous"},
}
TINY_NETWORK = {
    "module": "unet",
    "options": {"block_out_channels": [8, 16], "layers_per_block": 1, "attention_resolutions": []},
}


CONTROLLED_NETWORK = {
    "module": "unet_condition",
    "options": {"block_out_channels": [8, 16], "layers_per_block": 1},
}
MASK_NAMES = ["disc", "upper", "never"]  # the disc, its upper half, and a structure that nobody drew


def discs(count: int, size: int, seed: int) -> np.ndarray:
    """Return (N, size, size) bool: a disc at a random place."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centres = random.uniform(size * 0.35, size * 0.65, (count, 2, 1, 1))
    return (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2 < (size / 4) ** 2


def disc_images(findings: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return (N, size, size, 1) uint8: a disc at a random place, bright where there is a finding."""
    inside = discs(len(findings), size, seed)
    images = np.where(inside, np.where(findings > 0, 230, 120)[:, None, None], 20).astype(np.uint8)
    return images[..., None]


def disc_masks(count: int, size: int, seed: int) -> np.ndarray:
    """Return (N, size, size, 3) uint8 of MASK_NAMES for the images of `disc_images`."""
    inside = discs(count, size, seed)
    upper = inside & (np.arange(size)[:, None] < size // 2)
    return np.stack([inside, upper, np.zeros_like(inside)], axis=-1).astype(np.uint8)


def write_data(
    run: Path,
    dataset: str = "toy",
    patients: int = 20,
    size: int = 8,
    masks: bool = False,
    without_disc: Collection[int] = (),
) -> dict[str, str]:
    """Write data set and split (two images a patient; patients 0 … half train), return the job's inputs.

    masks: planes MASK_NAMES, nobody has the last; patients `without_disc` have no mask of the first either.
    """
    number = np.repeat(np.arange(patients), 2)
    findings = (number % 2).astype(np.float32)
    table = pd.DataFrame(
        {
            "image_id": [f"{dataset}-{row:03d}" for row in range(len(number))],
            "patient_id": [f"{dataset}-p{patient:02d}" for patient in number],
            "site": dataset,
            "origin": "real",
            "finding": findings,
            "view": np.where(number % 3 == 0, "AP", "PA"),
            "age": np.where(number % 5 == 0, np.nan, 40.0 + number).astype(np.float32),
        }
    )
    identities = {"datasets": digest(["data", dataset, patients, size]), "splits": digest(["split", dataset])}
    images = disc_images(findings, size, seed=1)
    planes = None
    if masks:
        has_disc = ~np.isin(number, list(without_disc))
        table = table.assign(has_mask_disc=has_disc, has_mask_upper=True, has_mask_never=False)
        planes = disc_masks(len(number), size, seed=1)
        planes[~has_disc, :, :, 0] = 0
    names = MASK_NAMES if masks else []
    write_image_set(run / "datasets" / dataset, images, table, COLUMNS, identities["datasets"], planes, names)
    part = np.where(number < patients // 2, "train", np.where(number < 3 * patients // 4, "validation", "test"))
    split = table[["image_id", "patient_id"]].assign(part=part)
    write_table(run / "splits" / dataset / "split.parquet", split, identities["splits"])
    write_manifest(run / "splits" / dataset / "manifest.json", identities["splits"], ["split.parquet"])
    return {f"{kind}/{dataset}/manifest.json": identity for kind, identity in identities.items()}


def training_job(run: Path, inputs: dict[str, str], name: str = "ddpm", **changes: Any) -> Job:
    """Return a job of a few fast steps; `changes` replace entries of the slice, `training` is merged.

    `dropout` in `training` is that of the network.
    """
    training = {"steps": 12, "batch_size": 8, "learning_rate": 2e-3, "warmup_steps": 3, "log_every": 3, "dropout": 0.1}
    training |= changes.pop("training", {})
    dropout = {"dropout": training.pop("dropout")}
    entry = {
        "generator": name,
        "index": 0,
        "module": "diffusion",
        "network": TINY_NETWORK,
        "output": "image",
        "condition_on": ["finding", "view", "age"],
        "formulation": {"kind": "edm"},
        "train_on": {"datasets": ["toy"], "real_fraction": 1.0, "label_fraction": 1.0},
        "init_from": None,
        "image": {"size": 8, "channels": 1},
        "seed": 0,
    } | changes
    entry["training"] = training
    if entry["module"] == "diffusion":
        network = entry["network"]
        entry["network"] = network | {"options": dropout | network.get("options", {})}
    identity = digest({"slice": entry, "inputs": inputs})
    output = run / "generators" / name / "0" / "manifest.json"
    return new_job(entry, inputs, "code", identity, run, [output], threads=1)


def start_script(job: Job, script: str = "train_generator.py") -> subprocess.Popen[str]:
    """Start the script of a job as Snakemake would, in a process of its own."""
    fields = fields_of(job)
    command = [sys.executable, str(SCRIPTS / script), "--job", canonical_json(fields), "--run", str(job.run)]
    command += ["--threads", str(job.threads), "--output", *map(str, job.outputs)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
