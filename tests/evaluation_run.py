"""A small run folder of smooth random pictures, for the tests of fidelity and memorisation.

Each patient has a field of its own (what a copy would give away) on an anatomy that all share; images of one
patient share part of it; class 1 has a bright spot, women have `stripes` (grey levels).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from job_inputs import fields_of, new_job
from scipy.ndimage import gaussian_filter

from synthgain.data.image_set import write_image_set
from synthgain.runtime.command import Job
from synthgain.runtime.files import write_manifest, write_table

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow_scripts"
COLUMNS: dict[str, dict[str, Any]] = {
    "opacity": {"role": "target", "kind": "binary"},
    "sex": {"role": "covariate", "kind": "category", "levels": ["F", "M"]},
    "age": {"role": "covariate", "kind": "continuous"},
}
IDENTITY = "e" * 32
SIZE = 32


def pictures(
    count: int, seed: int, size: int = SIZE, per_patient: int = 1, stripes: float = 0.0
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return (count, size, size, 1) uint8 and their table, new patients for each seed."""
    rng = np.random.default_rng(seed)
    patients = -(-count // per_patient)
    # Every run of four patients holds each combination once, so that the parts of the split have equal marginals.
    opacity, sex = np.arange(patients) // 2 % 2, np.array(["F", "M"])[np.arange(patients) % 2]
    grid = np.linspace(-1, 1, size)
    body = 60 * np.exp(-(grid[:, None] ** 2 + grid**2))
    spot = 50 * np.exp(-((grid[:, None] - 0.3) ** 2 + (grid + 0.3) ** 2) / 0.03)
    own = gaussian_filter(rng.normal(size=(patients, size, size)), (0, size / 12, size / 12))
    film = gaussian_filter(rng.normal(size=(count, size, size)), (0, size / 12, size / 12))
    owner = np.arange(count) // per_patient
    field = (own[owner] + 0.5 * film) / own.std()
    women = np.where(sex[owner] == "F", 1.0, 0.0)[:, None, None]
    sexed = stripes * (np.arange(size) // (size // 8) % 2) * women
    images = 70 + body + spot * opacity[owner, None, None] + 20 * field + sexed
    table = pd.DataFrame(
        {
            "image_id": [f"s{seed}-{number}" for number in range(count)],
            "patient_id": [f"s{seed}-p{number}" for number in owner],
            "site": "a",
            "origin": "real",
            "opacity": opacity[owner].astype("float32"),
            "sex": sex[owner],
            "age": rng.uniform(20, 90, count).astype("float32"),
        }
    )
    return images.clip(0, 255).astype(np.uint8)[..., None], table


def write_real(run: Path, images: np.ndarray, table: pd.DataFrame, name: str = "a") -> pd.DataFrame:
    """Write a data set with a split 50/20/30 by patient; return the training rows."""
    write_image_set(run / "datasets" / name, images, table, COLUMNS, IDENTITY)
    patients = table["patient_id"].unique()
    share = pd.Series(np.arange(len(patients)) / len(patients), index=patients)[table["patient_id"]].to_numpy()
    part = np.select([share < 0.5, share < 0.7], ["train", "validation"], "test")
    split = table[["image_id", "patient_id"]].assign(part=part)
    folder = run / "splits" / name
    folder.mkdir(parents=True)
    write_table(folder / "split.parquet", split, IDENTITY)
    write_manifest(folder / "manifest.json", IDENTITY, ["split.parquet"])
    return table[part == "train"].reset_index(drop=True)


def write_pool(run: Path, images: np.ndarray, rows: pd.DataFrame, name: str) -> None:
    """Write images as replica 1 of a pool; `rows` are the rows whose conditions they copy."""
    table = rows.assign(
        image_id=[f"{name}-{number}" for number in range(len(rows))],
        origin="synthetic",
        replica=1,
        seed=0,
        parent_image_id=rows["image_id"],
        parent_patient_id=rows["patient_id"],
    ).drop(columns="sha256", errors="ignore")
    folder = run / "pools" / name / "0" / "replica-1"
    write_image_set(folder / "shard-0", images, table, COLUMNS, IDENTITY)
    facts = {"shards": ["shard-0"], "shard_identities": {"shard-0": IDENTITY}, "images": len(images)}
    write_manifest(folder / "manifest.json", IDENTITY, [], **facts)


def make_job(run: Path, output: str, slice_: dict[str, Any], pool: str | None = None, *more: str) -> Job:
    """The job that makes `output`; its inputs are data set, split, the pool's replica and `more`."""
    inputs = ["datasets/a/manifest.json", "splits/a/manifest.json", *more]
    inputs += [f"pools/{pool}/0/replica-1/manifest.json"] if pool else []
    return new_job(slice_, dict.fromkeys(inputs, IDENTITY), "c" * 32, IDENTITY, run, [run / output], 1)


def run_script_of(job: Job, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a rule does; its exit code and messages are the result."""
    fields = fields_of(job)
    command = [sys.executable, str(SCRIPTS / script), "--job", json.dumps(fields), "--run", str(job.run)]
    command += ["--output", *map(str, job.outputs)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def embedding_space(size: int = 64) -> dict[str, Any]:
    """The packaged ImageNet network, at a size that tests can afford."""
    options = {"size": size}
    return {"name": "efficientnet_lite0", "module": "efficientnet_lite0", "options": options}


def memorisation_slice(pool: str, **changes: Any) -> dict[str, Any]:
    """The slice of check_memorisation with the defaults of the tests."""
    settings = {
        "pool": pool,
        "index": 0,
        "rows_of": "a",
        "train_on": ["a"],
        "space": None,
        "limit": 0.01,
        "imported": False,
        "evaluate_on": ["a"],
        "generator": None,
        "membership": None,
        "candidates": 8,
        "seed": 0,
    }
    return settings | changes


def fidelity_slice(pool: str, **changes: Any) -> dict[str, Any]:
    """The slice of measure_fidelity with the defaults of the tests."""
    settings = {
        "pool": pool,
        "index": 0,
        "rows_of": "a",
        "spaces": [embedding_space()],
        "n": 120,
        "floor_splits": 5,
        "by": [],
        "minimum": 30,
        "radiomics": False,
        "seed": 0,
    }
    return settings | changes
