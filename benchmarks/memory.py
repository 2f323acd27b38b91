"""Memory: a downstream training job on a pool of 200,000 images of 256 px, of which only mapped pages are read."""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from measure import Options, Row
from study_jobs import ROOT, StudyJobs, default_study, study_jobs

from synthgain.runtime.files import canonical_json, digest, write_json, write_manifest, write_table

IMAGES, SMALL_IMAGES = 200_000, 20_000
SIZE = 256  # px
STEPS = 20
REACH = 2e9  # bytes


def measure(options: Options) -> Row:
    """Train a few steps on such a pool, its file sparse, and watch the job's anonymous memory."""
    count = SMALL_IMAGES if options.small else IMAGES
    study = default_study(
        image={"size": SIZE, "channels": 1}, datasets__hospital_a__patients=30, models__cnn__steps=STEPS,
        models__cnn__validate_every=STEPS, replicates={"count": 1}, arms__supplemented__ratios=[100],
        arms__repeated__ratios=[100], arms__synthetic_only__ratios=[100],
        analysis__primary__ratio=100,
    )  # fmt: skip
    with study_jobs(study) as jobs, TemporaryDirectory(prefix="synthgain-pool-") as pool:
        command = train_command(jobs, Path(pool), count)
        peak = peak_anonymous_bytes(command)
    megabytes = count * SIZE * SIZE / 1e6
    return Row(
        "memory", f"memory of a training job, pool of {count} images of {SIZE} px ({megabytes / 1e3:.1f} GB)",
        f"{peak / 1e9:.2f} GB RssAnon", "", "<= 2 GB at 200,000 images", None,
        peak <= REACH if not options.small else None, "", {"peak_bytes": peak, "images": count},
    )  # fmt: skip


def train_command(jobs: StudyJobs, pool: Path, count: int) -> list[str]:
    """Return the command line of a training job whose one replica has `count` images."""
    jobs.make("split_dataset", dataset="hospital_a")
    table = pd.read_parquet(jobs.run / "datasets/hospital_a/table.parquet")
    split = pd.read_parquet(jobs.run / "splits/hospital_a/split.parquet")
    parents = table[table["image_id"].isin(split.loc[split["part"] == "train", "image_id"])].reset_index(drop=True)
    planned = jobs.planner.job("train_downstream", model="cnn", arm="supplemented", ratio=100, chunk=0)
    replica = next(path for path in planned.inputs if path.startswith("pools/"))
    write_sparse_replica((jobs.run / replica).parent, parents, count, planned.inputs[replica])
    ratio = 100 * (count // len(parents))
    fields = json.loads(planned.parameter()) | {"identity": digest(["memory", count])}
    fields["slice"]["ratio"] = ratio
    output = jobs.run / planned.output
    return [
        sys.executable, str(ROOT / "workflow_scripts/train_downstream.py"), "--job", canonical_json(fields),
        "--run", str(jobs.run), "--threads", "1", "--output", str(output),
    ]  # fmt: skip


def write_sparse_replica(folder: Path, parents: pd.DataFrame, count: int, identity: str) -> None:
    """Write a replica of one shard whose images.npy is a hole of the right length: it reads as black images."""
    shard = folder / "shard-0"
    shard.mkdir(parents=True)
    images = np.lib.format.open_memmap(shard / "images.npy", mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 1))
    del images
    rows = parents.iloc[np.arange(count) % len(parents)].reset_index(drop=True)
    number = np.arange(count)
    rows = rows.assign(
        parent_image_id=rows["image_id"], parent_patient_id=rows["patient_id"], origin="synthetic", replica=1, seed=0,
        image_id=[f"bench-{n}" for n in number],
    )  # fmt: skip
    write_table(shard / "table.parquet", rows, identity)
    facts = {"columns": {}, "column_order": [], "mask_names": [], "shape": [count, SIZE, SIZE, 1]}
    manifest = write_manifest(shard / "manifest.json", identity, ["table.parquet"], **facts)
    # Unread: a job compares the checksums of small files only, and 13 GB of zeros take a minute.
    manifest["files"]["images.npy"] = {"bytes": (shard / "images.npy").stat().st_size, "sha256": "of a hole"}
    write_json(shard / "manifest.json", manifest)
    write_manifest(folder / "manifest.json", identity, [], shards=["shard-0"], shard_identities={"shard-0": identity})


def peak_anonymous_bytes(command: list[str]) -> int:
    """Run a command and return the largest RssAnon seen; mapped pages do not count."""
    process: Any = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            break
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))])
        time.sleep(0.02)
    if process.wait() != 0:
        raise RuntimeError(process.stderr.read()[-2000:])
    return peak
