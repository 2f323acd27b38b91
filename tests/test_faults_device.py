"""A node that lost its GPU is an error unless the study allows the CPU; a job that goes on elsewhere records it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from downstream_jobs import manifest_of, run_command, train_job, write_dataset

import train_downstream as train_script
from synthgain.device import chosen_device, promised_gpu
from synthgain.pools.sampling import FinishedBatches
from synthgain.runtime.checkpoints import Checkpoints
from synthgain.runtime.command import Job, Terminated
from synthgain.runtime.errors import SynthGainError

GPU = {"device": "NVIDIA H100", "threads": 1, "torch": "2", "cpu": "AVX2"}
VARIABLES = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    for name in (*VARIABLES, "SYNTHGAIN_ALLOW_CPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SYNTHGAIN_DEVICE", "auto")


@pytest.mark.parametrize("name", VARIABLES)
def test_a_promised_gpu_that_is_not_there_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_device().type == "cpu"
    monkeypatch.setenv(name, "1")
    with pytest.raises(SynthGainError, match=rf"{name}=1, but this job sees no GPU.*compute.allow_cpu: true") as caught:
        chosen_device()
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("SYNTHGAIN_DEVICE", "cpu")
    assert chosen_device().type == "cpu"
    monkeypatch.setenv("SYNTHGAIN_DEVICE", "auto")
    monkeypatch.setenv("SYNTHGAIN_ALLOW_CPU", "1")
    assert chosen_device().type == "cpu"


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_gpus_that_are_hidden_on_purpose_are_not_promised(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "0")
    assert promised_gpu() == ""
    assert chosen_device().type == "cpu"


def test_the_script_ends_with_one_line_where_the_gpu_is_gone(tmp_path: Path) -> None:
    job = train_job(tmp_path, write_dataset(tmp_path, "a"), {})
    ended = run_command("train_downstream", job, SYNTHGAIN_DEVICE="cuda")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: compute.device is cuda, but this job sees no GPU")
    assert ended.stderr.count("\n") == 1
    ended = run_command("train_downstream", job, SYNTHGAIN_DEVICE="cuda", SYNTHGAIN_ALLOW_CPU="1")
    assert ended.returncode == 0, ended.stderr
    assert "going on with the CPU" in ended.stderr
    assert [entry["device"] for entry in manifest_of(job)["replicates"]["0"]["environments"]] == ["cpu"]


class Stop:
    """A stop signal that has come already."""

    requested = True


def test_training_that_began_on_a_gpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = train_job(tmp_path, write_dataset(tmp_path, "a"), {})
    with monkeypatch.context() as patch:
        patch.setattr(train_script, "StopSignal", Stop)
        with pytest.raises(Terminated):
            train_script.train_downstream(job)
    on_gpu(job)
    ended = run_command("train_downstream", job)
    assert ended.returncode == 0, ended.stderr
    assert "resumed with another device (NVIDIA H100, now cpu)" in ended.stderr
    found = manifest_of(job)["replicates"]["0"]["environments"]
    assert [(entry["from_step"], entry["device"]) for entry in found] == [(0, "NVIDIA H100"), (1, "cpu")]
    whole = train_job(tmp_path / "whole", write_dataset(tmp_path / "whole", "a"), {})
    train_script.train_downstream(whole)
    name = "weights-0.safetensors"
    assert manifest_of(job)["files"][name]["sha256"] == manifest_of(whole)["files"][name]["sha256"]


def on_gpu(job: Job) -> None:
    """Let the saved state tell of a GPU, and lie in memory as there: channels first."""
    store = Checkpoints(next(job.run.glob("state/**/replicate-0")), train_script.replicate_identity(job, 0))
    found = store.load_latest()
    assert found is not None
    step, state = found
    state["progressed"]["environments"] = [{"from_step": 0, **GPU}]
    moments = state["optimiser"]["state"]
    assert any(not value.is_contiguous() for found in moments.values() for value in found.values())
    for weight in moments:
        moments[weight] = {name: value.contiguous() for name, value in moments[weight].items()}
    store.save(step, state)


def test_a_shard_lists_where_its_batches_were_drawn(tmp_path: Path) -> None:
    batch = np.zeros((2, 4, 4, 1), np.uint8)
    FinishedBatches(tmp_path, "id", GPU).save(0, batch)
    later = FinishedBatches(tmp_path, "id", {**GPU, "device": "cpu"})
    for number in (1, 2):
        later.save(number, batch)
    found = later.environments()
    assert [(entry["from_batch"], entry["device"]) for entry in found] == [(0, "NVIDIA H100"), (1, "cpu")]
