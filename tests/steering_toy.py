"""Discs whose brightness is the finding, a quarter of them with a wrong label, and a generator that learned these."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from generator_jobs import COLUMNS, TINY_NETWORK, disc_images, training_job

from synthgain.data.image_set import write_image_set
from synthgain.generators.diffusion.generator import load
from synthgain.generators.training import train_family
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import Sampler
from synthgain.runtime.command import Job
from synthgain.runtime.files import write_manifest, write_table
from synthgain.steering.rounds import prepare_steered_run

SIZE, PATIENTS, IGNORED = 8, 240, 0.25
NETWORK = TINY_NETWORK | {"options": {**TINY_NETWORK["options"], "dropout": 0.0}}
BASE = {"steps": 500, "batch_size": 32, "learning_rate": 4e-3, "warmup_steps": 20, "log_every": 50, "dropout": 0.0}
REWARD = {
    "scores": "proxy",
    "target": "finding",
    "labels": "true_finding",
    "rounds": 2,
    "samples": 256,
    "proxy_steps": 150,
}
MORE = BASE | {"steps": 200, "learning_rate": 2e-3, "snapshots": [100]}


def write_discs(run: Path, name: str = "discs", ignored: float = IGNORED, overlap: float = 0.0) -> dict[str, str]:
    """Write a data set, all of whose patients train; a share `ignored` of its images shows the other finding.

    What an image shows is in `true_finding`, unknown for a third of them. overlap: SD of the brightness of a finding's
    discs, in grey levels.
    """
    findings = (np.arange(PATIENTS) % 2).astype(np.float32)
    shown = np.where(np.random.default_rng(3).random(PATIENTS) < ignored, 1 - findings, findings)
    table = pd.DataFrame(
        {
            "image_id": [f"{name}-{row:03d}" for row in range(PATIENTS)],
            "patient_id": [f"p{row:03d}" for row in range(PATIENTS)],
            "site": name,
            "origin": "real",
            "finding": findings,
            "true_finding": np.where(np.arange(PATIENTS) % 3 == 2, np.nan, shown).astype(np.float32),
        }
    )
    images = disc_images(shown, SIZE, seed=1).astype(float)
    shift = np.random.default_rng(4).normal(0, overlap, (PATIENTS, 1, 1, 1))
    images = np.where(images > 20, np.clip(images + shift, 30, 255), images).round().astype(np.uint8)  # 20: background
    columns = {"finding": COLUMNS["finding"], "true_finding": COLUMNS["finding"]}
    write_image_set(run / "datasets" / name, images, table, columns, f"data-{name}")
    split = table[["image_id", "patient_id"]].assign(part="train")
    write_table(run / "splits" / name / "split.parquet", split, f"split-{name}")
    write_manifest(run / "splits" / name / "manifest.json", f"split-{name}", ["split.parquet"])
    return {f"datasets/{name}/manifest.json": f"data-{name}", f"splits/{name}/manifest.json": f"split-{name}"}


def discs_job(run: Path, name: str, start: Job | None = None, data: str = "discs", **changes: Any) -> Job:
    """Return the job of a generator, from scratch or from another one's weights."""
    inputs = {
        f"{kind}/{data}/manifest.json": f"{stem}-{data}" for kind, stem in (("datasets", "data"), ("splits", "split"))
    }
    if start is not None:
        inputs[f"generators/{start.slice['generator']}/0/manifest.json"] = start.identity
        changes["init_from"] = start.slice["generator"]
    train_on = {"datasets": [data], "real_fraction": 1.0, "label_fraction": 1.0}
    return training_job(run, inputs, name, condition_on=["finding"], train_on=train_on, network=NETWORK, **changes)


def planted(run: Path) -> Job:
    """Train the generator that ignores its condition in a quarter of its samples, as its labels do."""
    write_discs(run)
    job = discs_job(run, "base", training=BASE)
    train_family(job)
    return job


def steered(run: Path, base: Job, name: str, steps: int = 200, **reward: Any) -> Job:
    """Steer the planted generator; return the finished job."""
    rounds = reward.get("rounds", REWARD["rounds"])
    training = MORE | {"steps": steps, "snapshots": [steps * k // rounds for k in range(1, rounds + 1)]}
    job = discs_job(run, name, base, training=training, reward=REWARD | reward)
    train_family(job, prepare_steered_run)
    return job


def longer(run: Path, base: Job, steps: int = 200) -> Job:
    """Train the planted generator as many steps more on real images; return the finished job."""
    job = discs_job(run, "longer", base, training=MORE | {"steps": steps, "snapshots": []})
    train_family(job)
    return job


def drawn(job: Job, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each of `count` samples was asked for bright (N,) bool, and its brightest pixels' mean (N,)."""
    generator = load(job.outputs[0].parent)
    table = pd.DataFrame({"finding": (np.arange(count) % 2).astype(np.float32)})
    sampler = Sampler(generator, Sampling(compile=False))
    with torch.inference_mode():
        images = sampler.draw(np.arange(count, dtype=np.int64), lambda: generator.encode_conditions(table))
    levels = (images.numpy().reshape(count, -1) + 1) * 127.5
    return table["finding"].to_numpy() > 0, np.sort(levels, axis=1)[:, -6:].mean(axis=1)


def accuracy(job: Job) -> float:
    """Return the share of samples that show the finding that they were drawn for."""
    asked, brightness = drawn(job)
    return float(((brightness > 175) == asked).mean())
