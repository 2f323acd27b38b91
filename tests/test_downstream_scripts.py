"""train_downstream, predict_downstream and collect_predictions as the rules call them."""

import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from devices import DEVICE
from downstream_jobs import (
    command_of,
    manifest_of,
    model_slice,
    run_command,
    train_job,
    write_dataset,
)
from job_inputs import new_job

import collect_predictions as collect_script
import predict_downstream as predict_script
import train_downstream as train_script
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, read_table
from synthgain.runtime.inputs import Input, Inputs, NamedInputs


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def weights_of(job: Job) -> dict[str, str]:
    return {r: facts["weights"] for r, facts in manifest_of(job)["replicates"].items()}


def predict_job(job: Job, inputs: dict[str, str], evaluate: list[dict[str, Any]], **changed: Any) -> Job:
    model = {name: job.slice["model"][name] for name in ("name", "task_module", "targets", "network", "precision")}
    fields = {
        "slice": {
            "model": model,
            "arm": job.slice["arm"]["name"],
            "ratio": job.slice["ratio"],
            "replicates": job.slice["replicates"],
            "evaluate": evaluate,
            **changed,
        },
        "inputs": {**inputs, str(job.outputs[0].relative_to(job.run)): job.identity},
        "code": "code",
    }
    output = job.run / f"predictions/cnn/{job.slice['arm']['name']}/{job.slice['ratio']}/0.parquet"
    return new_job(**fields, identity=digest(fields), run=job.run, outputs=[output], threads=1)


def test_train_predict_collect(tmp_path: Path) -> None:
    inputs = write_dataset(tmp_path, "a")
    outside = write_dataset(tmp_path, "b", 20, split=False)
    job = train_job(tmp_path, inputs, {}, replicates=(0, 1))
    train_script.train_downstream(job)
    manifest = manifest_of(job)
    assert set(manifest["files"]) == {
        "weights-0.safetensors",
        "weights-1.safetensors",
        "training-0.csv",
        "training-1.csv",
    }
    facts = manifest["replicates"]["0"]
    assert facts["real_exposures"] == 12 * 8
    assert list(pd.read_csv(job.outputs[0].parent / "training-0.csv")["step"]) == [4, 8, 12]
    assert len(set(weights_of(job).values())) == 2

    evaluate = [
        {"dataset": "a", "split": True, "parts": ["validation", "test"]},
        {"dataset": "b", "split": False, "parts": ["test"]},
    ]
    predicted = predict_job(job, inputs | outside, evaluate)
    predict_script.predict_downstream(predicted)
    table = read_table(predicted.outputs[0], predicted.identity)
    counts = table.groupby(["replicate", "dataset", "part"]).size()
    assert counts.to_dict() == {
        (r, *key): n for r in (0, 1) for key, n in ((("a", "validation"), 12), (("a", "test"), 12), (("b", "test"), 20))
    }
    first = predicted.outputs[0].read_bytes()
    predict_script.predict_downstream(predicted)
    assert predicted.outputs[0].read_bytes() == first

    path = str(predicted.outputs[0].relative_to(tmp_path))
    output = tmp_path / "predictions/cnn/real.parquet"
    slices = {"model": "cnn", "arm": "real"}
    joined = new_job(slices, {path: predicted.identity}, "code", "j", tmp_path, [output], 1)
    collect_script.collect_predictions(joined)
    pd.testing.assert_frame_equal(read_table(output, "j"), table)
    cell = Input(path, tmp_path / path, predicted.identity)
    wrong = replace(joined, inputs=Inputs({"predictions": NamedInputs("predictions", {("cnn", "real", 100, 0): cell})}))
    with pytest.raises(SynthGainError, match="ratios"):
        collect_script.collect_predictions(wrong)


@pytest.mark.parametrize("policy", ["refuse", "chance", "next_seed"])
def test_a_training_that_diverges_is_counted_as_the_study_says(tmp_path: Path, policy: str) -> None:
    """A learning rate that no training survives: the study goes on, with a model that tells nothing."""
    inputs = write_dataset(tmp_path, "a")
    job = train_job(tmp_path, inputs, {}, replicates=(0,))
    job.slice["model"] |= {"learning_rate": 1e30, "weight_decay": 0.0, "diverged": policy}
    if policy == "refuse":
        with pytest.raises(SynthGainError, match="loss is"):
            train_script.train_downstream(job)
        return
    train_script.train_downstream(job)
    facts = manifest_of(job)["replicates"]["0"]
    assert facts["at_chance"]
    assert [failure["attempt"] for failure in facts["diverged"]] == ([0, 1] if policy == "next_seed" else [0])
    predicted = predict_job(job, inputs, [{"dataset": "a", "split": True, "parts": ["test"]}])
    predict_script.predict_downstream(predicted)
    assert (read_table(predicted.outputs[0], predicted.identity)["score"] == 0.5).all()


def test_the_next_seed_replaces_a_training_that_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = train_script.new_network

    def broken_at_first(cell: Any, *rest: Any) -> Any:
        network, facts = original(cell, *rest)
        if cell.attempt == 0:
            for parameter in network.parameters():
                parameter.data.fill_(float("nan"))
        return network, facts

    inputs = write_dataset(tmp_path, "a")
    job = train_job(tmp_path, inputs, {}, replicates=(0,))
    monkeypatch.setattr(train_script, "new_network", broken_at_first)
    train_script.train_downstream(job)
    facts = manifest_of(job)["replicates"]["0"]
    assert [failure["attempt"] for failure in facts["diverged"]] == [0]
    assert "at_chance" not in facts
    assert facts["selected_step"] > 0


def test_finished_replicates_are_kept_when_others_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = write_dataset(tmp_path, "a")
    job = train_job(tmp_path, inputs, {}, replicates=(0,))
    train_script.train_downstream(job)
    before = weights_of(job)
    trained = []
    original = train_script.train_replicate
    monkeypatch.setattr(train_script, "train_replicate", lambda *a: (trained.append(a[2]), original(*a)))
    more = train_job(tmp_path, inputs, {}, replicates=(0, 1))
    train_script.train_downstream(more)
    assert trained == [1]
    assert weights_of(more)["0"] == before["0"]
    changed = train_job(tmp_path, inputs, {}, model=model_slice(learning_rate=0.1))
    train_script.train_downstream(changed)
    assert trained == [1, 0]
    assert weights_of(changed)["0"] != before["0"]


def test_damaged_finished_weights_are_trained_again(tmp_path: Path) -> None:
    job = train_job(tmp_path, write_dataset(tmp_path, "a"), {})
    train_script.train_downstream(job)
    before = weights_of(job)
    weights = next(tmp_path.glob("state/**/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4])
    train_script.train_downstream(job)
    assert weights_of(job) == before


def test_data_set_without_the_targets_is_refused(tmp_path: Path) -> None:
    inputs = write_dataset(tmp_path, "a")
    job = train_job(tmp_path, inputs, {})
    train_script.train_downstream(job)
    slices = predict_job(job, inputs, [{"dataset": "a", "split": True}])
    model = {**slices.slice["model"], "targets": ["fracture"]}
    with pytest.raises(SynthGainError, match="none of the targets fracture"):
        predict_script.predict_downstream(replace(slices, slice={**slices.slice, "model": model}))


def test_bad_input_is_one_line_without_traceback(tmp_path: Path) -> None:
    job = train_job(tmp_path, write_dataset(tmp_path, "a"), {}, model=model_slice(targets=["fracture"]))
    ended = run_command("train_downstream", job)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("error: model cnn: no column 'fracture'")


def start(job: Job) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command_of("train_downstream", job), stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_state(job: Job, process: subprocess.Popen[str], after: int = 0) -> None:
    """Wait until a state beyond step `after` lies on disk, or the process has ended."""
    while process.poll() is None:
        steps = [int(path.stem.split("-")[1]) for path in job.run.glob("state/**/step-*.json")]
        if max(steps, default=0) > after:
            return
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_jobs_end_in_the_same_weights(tmp_path: Path) -> None:
    """One SIGTERM and one SIGKILL at a random moment after a save, then to the end."""
    model = model_slice(steps=600, validate_every=100)
    whole = train_job(tmp_path / "whole", write_dataset(tmp_path / "whole", "a"), {}, model=model)
    train_script.train_downstream(whole)
    job = train_job(tmp_path / "cut", write_dataset(tmp_path / "cut", "a"), {}, model=model)
    stopped = start(job)
    wait_for_state(job, stopped)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=30) in (0, 143)
    killed = start(job)
    wait_for_state(job, killed, after=100)
    time.sleep(random.random() * 0.2)
    killed.kill()
    killed.wait()
    ended = run_command("train_downstream", job)
    assert ended.returncode == 0, ended.stderr
    assert "resuming at step" in (job.run / "job.log").read_text()
    assert weights_of(job) == weights_of(whole)
