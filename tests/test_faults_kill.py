"""Killed at random moments, again and again, a job ends in the same bits as one left alone, and really resumes."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import DEVICE
from downstream_jobs import manifest_of
from fault_jobs import (
    PASSES,
    SAVE_EVERY,
    Tries,
    downstream_job,
    finish,
    generator_job,
    kill_again_and_again,
    shard_job,
)
from job_inputs import new_job, paths_of
from safetensors.torch import load_file

import predict_downstream as predict_script
from synthgain.data.image_set import read_image_set
from synthgain.runtime.checkpoints import tensor_digest
from synthgain.runtime.command import Job
from synthgain.runtime.files import digest, read_table

pytestmark = pytest.mark.slow
SEED = 20
KILLS = {"train_generator": 8, "draw_pool_shard": 6, "train_downstream": 6}


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)


def checked(tries: Tries, script: str, kills: int, needed: int, interval: int, undisturbed: str, resumed: str) -> None:
    """What holds of every stage; prints what the note of the issue shows."""
    print(
        f"{script}: {tries.killed} kills, {tries.late} of them after the first save, {tries.work} units of work for "
        f"{needed} (at most {interval} between saves), checksum {undisturbed[:16]} undisturbed, {resumed[:16]} killed"
    )
    assert tries.killed == kills
    assert tries.late > kills / 2
    assert resumed == undisturbed
    assert needed <= tries.work <= needed + kills * interval


def resumed_steps(log: Path, words: str) -> list[int]:
    return [int(step) for step in re.findall(rf"{words} (\d+)", log.read_text())]


def weights_below(folder: Path) -> str:
    tensors = {}
    for path in sorted(folder.rglob("*.safetensors")):
        tensors |= {f"{path.relative_to(folder)}/{name}": value for name, value in load_file(path).items()}
    return tensor_digest(tensors)


def facts_without_times(job: Job, *timed: str) -> dict[str, Any]:
    """The manifest, its seal included, but for what a clock or a checksum of a clock is in."""
    manifest = json.loads(job.outputs[0].read_text())
    facts = {name: value for name, value in manifest.items() if name not in ("files", "seal", *timed)}
    return {**facts, "seal": {name: manifest["seal"][name] for name in facts}}


def test_at_least_twenty_kills_in_one_run() -> None:
    assert sum(KILLS.values()) >= 20


def test_killed_generator_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    script, kills = "train_generator", KILLS["train_generator"]
    whole, job = generator_job(tmp_path / "whole"), generator_job(tmp_path / "killed")
    finish(script, whole)
    tries = kill_again_and_again(script, job, kills, np.random.default_rng(SEED), saves=3)
    steps = job.slice["training"]["steps"]
    checked(
        tries,
        script,
        kills,
        steps,
        SAVE_EVERY,
        weights_below(whole.outputs[0].parent),
        weights_below(job.outputs[0].parent),
    )
    said = resumed_steps(job.run / f"{script}.log", "resumed at step")
    assert said == sorted(said)
    assert all(step % SAVE_EVERY == 0 for step in said)
    assert len(said) == tries.late
    timed = ("seconds", "images_per_second", "energy_joules", "energy_source")
    assert facts_without_times(job, *timed) == facts_without_times(whole, *timed)
    assert [path.name for path in job.state_folder().iterdir() if path.name.startswith(".")] == []


def test_killed_sampling_ends_in_the_same_pool(tmp_path: Path) -> None:
    script, kills = "draw_pool_shard", KILLS["draw_pool_shard"]
    whole, job = shard_job(tmp_path / "whole"), shard_job(tmp_path / "killed")
    finish(script, whole)
    tries = kill_again_and_again(script, job, kills, np.random.default_rng(SEED), saves=3)
    drawn, undisturbed = (read_image_set(one.outputs[0].parent) for one in (job, whole))
    batches = -(-len(drawn) // job.slice["sampling"]["batch_size"])
    checksums = [one.manifest["files"]["images.npy"]["sha256"] for one in (undisturbed, drawn)]
    checked(tries, script, kills, batches * PASSES, PASSES, *checksums)
    assert drawn.table.equals(undisturbed.table)
    assert facts_without_times(job, "made_from") == facts_without_times(whole, "made_from")  # a training has times


def test_killed_downstream_training_ends_in_the_same_weights_and_predictions(tmp_path: Path) -> None:
    script, kills = "train_downstream", KILLS["train_downstream"]
    whole, job = downstream_job(tmp_path / "whole"), downstream_job(tmp_path / "killed")
    finish(script, whole)
    tries = kill_again_and_again(script, job, kills, np.random.default_rng(SEED), saves=8)
    weights = [manifest_of(one)["replicates"]["0"]["weights"] for one in (whole, job)]
    steps = job.slice["model"]["steps"]
    checked(tries, script, kills, steps, tries.longest_interval, *weights)
    said = resumed_steps(job.run / f"{script}.log", "resuming at step")
    assert said == sorted(said)
    assert len([step for step in said if step > 0]) == tries.late
    assert np.array_equal(scores(whole), scores(job))


def scores(trained: Job) -> np.ndarray:
    """Predict the trained job's own data set."""
    model = {name: trained.slice["model"][name] for name in ("name", "task_module", "targets", "network", "precision")}
    fields = {
        "slice": {
            "model": model,
            "arm": "real",
            "ratio": 0,
            "replicates": [0],
            "evaluate": [{"dataset": "a", "split": True}],
        },
        "inputs": {**paths_of(trained.inputs), str(trained.outputs[0].relative_to(trained.run)): trained.identity},
        "code": "code",
    }
    output = trained.run / "predictions/cnn/real/0/0.parquet"
    job = new_job(**fields, identity=digest(fields), run=trained.run, outputs=[output], threads=1)
    predict_script.predict_downstream(job)
    found: np.ndarray = read_table(output, job.identity)["score"].to_numpy()
    assert len(found) > 0
    return found
