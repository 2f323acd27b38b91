"""A tiny run on disk for tests of the downstream scripts: data sets, splits, pools, and jobs on them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgain.command import Job
from synthgain.datasets.order import training_order
from synthgain.files import canonical_json, digest, write_manifest, write_table
from synthgain.images import read_image_set, write_image_set

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
        place = np.arange(count) // 2 % 5
        parts = pd.DataFrame(table[["image_id", "patient_id"]])
        parts["part"] = np.where(place < 3, "train", np.where(place == 3, "validation", "test"))
        write_table(run / f"splits/{name}/split.parquet", parts, identity)
        write_manifest(run / f"splits/{name}/manifest.json", identity, ["split.parquet"])
        inputs[f"splits/{name}/manifest.json"] = identity
    return inputs


def write_pool(
    run: Path, name: str, rows_of: str, replicas: int, copier: bool = True, shards: int = 2, **changed: Any
) -> dict[str, str]:
    """Write replicas 1 … of a copier (or noise) pool of the training rows of `rows_of`."""
    source = read_image_set(run / f"datasets/{rows_of}")
    split = pd.read_parquet(run / f"splits/{rows_of}/split.parquet")
    inside = np.flatnonzero((split["part"] == "train").to_numpy())
    training = source.table.iloc[inside].reset_index(drop=True)
    positions = inside[training_order(training, COLUMNS, 0, rows_of)]
    inputs = {}
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
        names = []
        for shard, part in enumerate(np.array_split(np.arange(len(rows)), shards)):
            folder = f"shard-{shard}"
            write_image_set(run / relative / folder, images[part], rows.iloc[part], COLUMNS, identity)
            names.append(folder)
        write_manifest(
            run / relative / "manifest.json",
            identity,
            [],
            shards=names,
            shard_identities=dict.fromkeys(names, identity),
        )
        inputs[f"{relative}/manifest.json"] = identity
    return inputs


def model_slice(**changed: Any) -> dict[str, Any]:
    """A model that trains in a moment."""
    return {
        "name": "cnn",
        "task": "classification",
        "task_module": "synthgain.downstream.classification",
        "targets": ["opacity"],
        "network": {"module": "synthgain.networks.small_cnn", "options": {"width": 4, "depth": 1}},
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
    pools = list(pool_inputs or {})
    fields = {
        "slice": {
            "model": model or model_slice(),
            "arm": {"name": "real", "real": "a", "validation": "a", "match": "steps", "source": None, **arm},
            "ratio": ratio,
            "replicates": list(replicates),
            "pools": {str(r): pools for r in replicates} if pools else {},
            "seed": 0,
        },
        "inputs": {**inputs, **(pool_inputs or {})},
        "code": "code",
    }
    name = fields["slice"]["arm"]["name"]
    output = run / f"downstream/cnn/{name}/{ratio}/0/manifest.json"
    return Job(**fields, identity=digest(fields), run=run, outputs=[output], threads=1)


def command_of(script: str, job: Job) -> list[str]:
    """The command line that a rule would call."""
    fields = {"slice": job.slice, "inputs": job.inputs, "code": job.code, "identity": job.identity}
    words = [sys.executable, str(SCRIPTS / f"{script}.py"), "--job", canonical_json(fields), "--run", str(job.run)]
    return [*words, "--threads", "1", "--log", str(job.run / "job.log"), "--output", *map(str, job.outputs)]


def run_command(script: str, job: Job) -> subprocess.CompletedProcess[str]:
    """Run a script as a rule would."""
    environment = {**os.environ, "SYNTHGAIN_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command_of(script, job), capture_output=True, text=True, env=environment, check=False)


def manifest_of(job: Job) -> dict[str, Any]:
    """The manifest that the job wrote."""
    loaded: dict[str, Any] = json.loads(job.outputs[0].read_text())
    return loaded
