"""A tiny run on disk for tests of the downstream scripts: data sets, splits, pools, and jobs on them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from devices import DEVICE
from job_inputs import fields_of, named, new_job

from synthgain.data.image_set import read_image_set, write_image_set
from synthgain.data.order import training_order
from synthgain.runtime.command import Job
from synthgain.runtime.files import canonical_json, digest, write_manifest, write_table

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow_scripts"
COLUMNS = {
    "opacity": {"role": "target", "kind": "binary"},
    "nodule": {"role": "target", "kind": "binary"},
    "kind": {"role": "target", "kind": "category", "levels": ["bacterial", "normal", "viral"]},
}


def table_of(count: int, site: str = "a", seed: int = 0) -> pd.DataFrame:
    """`count` rows, two images a patient, with three targets and a few unknown ones."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "image_id": [f"{site}-{i:04d}" for i in range(count)],
            "patient_id": [f"{site}-p{i // 2:04d}" for i in range(count)],
            "site": site,
            "origin": "real",
            "opacity": (np.arange(count) // 2 % 2).astype(np.float32),
            "nodule": random.integers(0, 2, count).astype(np.float32),
            "kind": np.array(["bacterial", "normal", "viral"])[np.arange(count) // 2 % 3],
        }
    )
    frame.loc[frame.index % 11 == 5, "nodule"] = np.nan
    return frame


def images_of(table: pd.DataFrame, size: int = 16, seed: int = 0) -> np.ndarray:
    """Noise with a bright square where there is opacity: easy to learn."""
    images = np.random.default_rng(seed).integers(60, 160, (len(table), size, size, 1))
    images[table["opacity"].to_numpy() == 1, 4:10, 4:10] += 90
    return images.astype(np.uint8)


def write_dataset(
    run: Path, name: str, count: int = 60, split: bool = True, size: int = 16, **changed: Any
) -> dict[str, str]:
    """Write a data set and its split (60 % of the patients train, 20 % each the rest); return {path: identity}."""
    table = table_of(count, site=name).assign(**changed)
    identity = digest(["dataset", name, count])
    write_image_set(run / f"datasets/{name}", images_of(table, size), table, COLUMNS, identity)
    inputs = {f"datasets/{name}/manifest.json": identity}
    if split:
        inputs |= write_split(run, name, table, identity)
    return inputs


def write_pool(
    run: Path,
    name: str,
    rows_of: str,
    replicas: int,
    copier: bool = True,
    shards: int = 2,
    planes: tuple[str, ...] | None = None,
    **changed: Any,
) -> dict[str, str]:
    """Write replicas 1 … of a copier (or noise) pool of the training rows of `rows_of`.

    planes: the source's masks that it copies, in this order; None: all of them, () none.
    """
    source = read_image_set(run / f"datasets/{rows_of}")
    split = pd.read_parquet(run / f"splits/{rows_of}/split.parquet")
    inside = np.flatnonzero((split["part"] == "train").to_numpy())
    training = source.table.iloc[inside].reset_index(drop=True)
    positions = inside[training_order(training, COLUMNS, 0, rows_of)]
    inputs = {}
    names = source.mask_names if planes is None else list(planes)
    masks = None
    if source.masks is not None and names:
        masks = np.array(source.masks[positions][..., [source.mask_names.index(n) for n in names]])
    for replica in range(1, replicas + 1):
        rows = source.table.iloc[positions].drop(columns="sha256").reset_index(drop=True)
        images = np.array(source.images[positions])
        if not copier:
            images = np.random.default_rng(replica).integers(0, 255, images.shape).astype(np.uint8)
        rows = rows.assign(
            parent_image_id=rows["image_id"],
            parent_patient_id=rows["patient_id"],
            image_id=[f"{name}-{replica}-{i}" for i in rows["image_id"]],
            origin="synthetic",
            replica=replica,
            seed=0,
            **changed,
        )
        relative = f"pools/{name}/0/replica-{replica}"
        identity = digest([name, replica, copier])
        folders = []
        for shard, part in enumerate(np.array_split(np.arange(len(rows)), shards)):
            folder = f"shard-{shard}"
            pairs = {} if masks is None else {"masks": masks[part], "mask_names": names}
            write_image_set(run / relative / folder, images[part], rows.iloc[part], COLUMNS, identity, **pairs)
            folders.append(folder)
        write_manifest(
            run / relative / "manifest.json",
            identity,
            [],
            shards=folders,
            shard_identities=dict.fromkeys(folders, identity),
        )
        inputs[f"{relative}/manifest.json"] = identity
    return inputs


STRUCTURES = ("lesion", "organ")


def pairs_of(count: int, size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a brighter organ and a bright lesion in it; images (n, H, W, 1), masks (n, H, W, 2), uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images = random.integers(0, 60, (count, size, size, 1))
    masks = np.zeros((count, size, size, 2), dtype=np.uint8)
    for i, (row, column) in enumerate(random.integers(size // 3, size - size // 3, (count, 2))):
        distance = np.hypot(y - row, x - column)
        masks[i] = np.stack([distance < size / 6, distance < size / 3], axis=-1)
        images[i] += (80 * masks[i].sum(axis=-1, keepdims=True)).astype(int)
    return images.astype(np.uint8), masks


def write_pairs(
    run: Path,
    name: str,
    count: int = 60,
    size: int = 16,
    split: bool = True,
    names: tuple[str, ...] = STRUCTURES,
    masks: np.ndarray | None = None,
    **known: Any,
) -> dict[str, str]:
    """Write a data set of image-mask pairs; `names` order the planes, `known` are has_mask columns (default: all)."""
    table = table_of(count, site=name).assign(**{f"has_mask_{n}": known.get(n, True) for n in names})
    images, planes = pairs_of(count, size)
    chosen = planes[..., [STRUCTURES.index(n) for n in names]] if masks is None else masks
    for k, n in enumerate(names):
        chosen[~table[f"has_mask_{n}"].to_numpy(bool), :, :, k] = 0
    identity = digest(["pairs", name, count, size])
    write_image_set(run / f"datasets/{name}", images, table, COLUMNS, identity, chosen, list(names))
    return {f"datasets/{name}/manifest.json": identity} | (write_split(run, name, table, identity) if split else {})


def write_split(run: Path, name: str, table: pd.DataFrame, identity: str) -> dict[str, str]:
    """Write a split of 60 % of the patients for training, 20 % each for the rest."""
    place = np.arange(len(table)) // 2 % 5
    parts = pd.DataFrame(table[["image_id", "patient_id"]])
    parts["part"] = np.where(place < 3, "train", np.where(place == 3, "validation", "test"))
    write_table(run / f"splits/{name}/split.parquet", parts, identity)
    write_manifest(run / f"splits/{name}/manifest.json", identity, ["split.parquet"])
    return {f"splits/{name}/manifest.json": identity}


def segmenter_slice(**changed: Any) -> dict[str, Any]:
    """A segmenter that trains in a moment."""
    segmenter = {
        "name": "seg",
        "task": "segmentation",
        "task_module": "segmentation",
        "structures": ["lesion"],
        "network": {
            "module": "monai_segmenters",
            "options": {"name": "unet", "channels": [8, 16], "num_res_units": 1},
        },
        "window": None,
    }
    return {**model_slice(), **segmenter, **changed}


def model_slice(**changed: Any) -> dict[str, Any]:
    """A model that trains in a moment."""
    return {
        "name": "cnn",
        "task": "classification",
        "task_module": "classification",
        "targets": ["opacity"],
        "network": {"module": "small_cnn", "options": {"width": 4, "depth": 1}},
        "steps": 12,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "weight_decay": 1e-4,
        "warmup_steps": 2,
        "schedule": "cosine",
        "validate_every": 4,
        "selection": "real_validation",
        "selection_metric": "loss",
        "augmentation": {"standard": {}, "strong": {}, "laterality": True},
        "precision": "float32",
        "pretrained": None,
        "compile": False,
        **changed,
    }


def train_job(
    run: Path,
    inputs: dict[str, str],
    arm: dict[str, Any],
    ratio: int = 0,
    model: dict[str, Any] | None = None,
    replicates: tuple[int, ...] = (0,),
    pool_inputs: dict[str, str] | None = None,
) -> Job:
    """A train_downstream job; every replicate reads all of `pool_inputs`."""
    keys = [key for key, _ in named(pool_inputs or {})["replicas"]]
    fields = {
        "slice": {
            "model": model or model_slice(),
            "arm": {"name": "real", "real": "a", "validation": "a", "match": "steps", "source": None, **arm},
            "ratio": ratio,
            "replicates": list(replicates),
            "pools": {str(r): keys for r in replicates} if keys else {},
            "seed": 0,
        },
        "inputs": {**inputs, **(pool_inputs or {})},
        "code": "code",
    }
    name = fields["slice"]["arm"]["name"]
    output = run / f"downstream/cnn/{name}/{ratio}/0/manifest.json"
    return new_job(**fields, identity=digest(fields), run=run, outputs=[output], threads=1)


def command_of(script: str, job: Job) -> list[str]:
    """The command line that a rule would call."""
    fields = fields_of(job)
    words = [sys.executable, str(SCRIPTS / f"{script}.py"), "--job", canonical_json(fields), "--run", str(job.run)]
    return [*words, "--threads", "1", "--log", str(job.run / "job.log"), "--output", *map(str, job.outputs)]


def run_command(script: str, job: Job, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a rule would, with further environment variables."""
    environment = {**os.environ, "SYNTHGAIN_DEVICE": DEVICE, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command_of(script, job), capture_output=True, text=True, env=environment, check=False)


def manifest_of(job: Job) -> dict[str, Any]:
    """The manifest that the job wrote."""
    loaded: dict[str, Any] = json.loads(job.outputs[0].read_text())
    return loaded
