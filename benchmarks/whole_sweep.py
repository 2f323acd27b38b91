"""A whole sweep over ratios and replicates: this workflow, Snakemake included, against the study written by hand.

Equal optimiser steps, sampler, sampler steps, batches, precision and threads; both train, draw, predict and measure a
Fréchet distance per pool. Ours conditions on labels, keeps state and checksums, and measures more than the distance.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import by_hand
import numpy as np
import stock
import yaml
from measure import Options, Row
from study_jobs import ROOT, StudyJobs, default_study, study_jobs

from synthgain.data.image_set import read_image_set
from synthgain.networks.unet import build

REACH = 3.0
FULL = {"patients": 400, "generator_steps": 300, "ratios": list(range(100, 1001, 100)), "replicates": 2, "steps": 400}
SMALL = {"patients": 80, "generator_steps": 4, "ratios": [100, 200], "replicates": 2, "steps": 40}


def measure(options: Options) -> Row:
    """Run both studies once, each in processes of its own, and compare processor seconds (one core: wall time)."""
    size: dict[str, Any] = dict(SMALL if options.small else FULL)
    size["patients"] = options.patients or size["patients"]
    study = sweep_study(size)
    with study_jobs(study) as jobs, TemporaryDirectory(prefix="synthgain-sweep-") as name:
        folder = Path(name)
        spec = by_hand.Spec(**{**asdict(written_spec(jobs, size, folder / "png")), "threads": options.threads})
        (folder / "spec.json").write_text(json.dumps(asdict(spec)))
        (folder / "study.yaml").write_text(yaml.safe_dump(study))
        theirs = seconds_of([sys.executable, str(ROOT / "benchmarks/by_hand.py"), str(folder / "spec.json")], folder)
        ours = seconds_of(workflow_command(study["study"], folder, options.threads), folder)
    ratio = theirs[0] / ours[0]
    details = {name: {"cpu_s": found[0], "wall_s": found[1]} for name, found in (("ours", ours), ("theirs", theirs))}
    ratios = ", ".join(map(str, (0, *size["ratios"])))
    sizes = f"{size['patients']} phantom patients, {ratios} %, {size['replicates']} replicates"
    return Row(
        "whole_sweep", f"whole sweep, {sizes}, processor seconds",
        f"{ours[0]:.0f} s", f"{theirs[0]:.0f} s", f">= {REACH:.0f}x less", (ratio, ratio, ratio),
        None if options.small else ratio >= REACH,
        "so small a study is mostly the start of its jobs" if options.small else "", details,
    )  # fmt: skip


def sweep_study(size: dict[str, Any]) -> dict[str, Any]:
    """Return the default study cut to one supplemented arm of these sizes."""
    study = default_study(
        datasets__hospital_a__patients=size["patients"],
        generators__ddpm__training={"steps": size["generator_steps"], "batch_size": 32},
        pools__drawn__replicas=max(size["ratios"]) // 100, models__cnn__steps=size["steps"],
        replicates={"count": size["replicates"], "per_job": size["replicates"]},
        evaluation={"fidelity": {"spaces": ["downstream"]}},
        analysis__primary__ratio=size["ratios"][0],
    )  # fmt: skip
    supplemented = {**study["arms"]["supplemented"], "ratios": size["ratios"]}
    study["arms"] = {"real": study["arms"]["real"], "supplemented": supplemented}
    study["evaluate_on"] = ["hospital_a"]
    del study["datasets"]["hospital_b"]
    return study


def workflow_command(study: str, folder: Path, threads: int) -> list[str]:
    """Return the call of Snakemake that makes all predictions and the fidelity of the pool."""
    run = f"results/{study}"
    targets = [f"{run}/predictions/cnn/{arm}.parquet" for arm in ("real", "supplemented")]
    return [
        sys.executable, "-m", "snakemake", "--cores", str(threads), "--quiet", "--scheduler", "greedy",
        "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--configfile", str(folder / "study.yaml"),
        "--", *targets, f"{run}/fidelity/drawn/0/manifest.json",
    ]  # fmt: skip


def written_spec(jobs: StudyJobs, size: dict[str, Any], folder: Path) -> by_hand.Spec:
    """Write the study's images as PNG files, part by part, and return what the hand-written study is told."""
    import pandas as pd

    model, generator = jobs.planner.study.models["cnn"], jobs.planner.study.generators["ddpm"]
    jobs.make("split_dataset", dataset="hospital_a")
    images = read_image_set(jobs.run / "datasets/hospital_a")
    split = pd.read_parquet(jobs.run / "splits/hospital_a/split.parquet").set_index("image_id")["part"]
    part_of = split.loc[images.table["image_id"]].to_numpy()
    for part in by_hand.PARTS:
        rows = np.flatnonzero(part_of == part)
        stock.write_pngs(np.asarray(images.images[rows]), folder / part)
        labels = images.table[model.targets[0]].iloc[rows].astype(int).tolist()
        (folder / part / "labels.json").write_text(json.dumps(labels))
    side, sampling = jobs.planner.study.image.size, jobs.planner.study.pools["drawn"].sampling
    planned = jobs.planner.job("train_generator", generator="ddpm", index=0)
    network = stock.stock_network(build(planned.slice["network"]["options"], side, 1))
    config = {key: value for key, value in dict(network.config).items() if not key.startswith("_")}
    return by_hand.Spec(
        str(folder), config, generator.training.steps, generator.training.batch_size,
        sampling.steps, sampling.batch_size, size["ratios"], size["replicates"],
        {"width": 8, "max_width": 32}, model.steps, model.batch_size, model.validate_every, model.learning_rate,
        side, 1,
    )  # fmt: skip


def seconds_of(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command and return processor seconds of it and all it started, and wall seconds."""
    began = time.perf_counter()
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError((folder / "said.txt").read_text()[-3000:])
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began
