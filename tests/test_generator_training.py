"""Training of the diffusion family: learns, resumes to the same bits, stops well, and sees training patients only."""

import csv
import hashlib
import json
import logging
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from devices import DEVICE, ON_CPU
from generator_jobs import COLUMNS, disc_images, training_job, write_data
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from synthgain.data.batch_order import PassOrder
from synthgain.data.image_set import write_image_set
from synthgain.generators import training
from synthgain.generators.diffusion import training as diffusion_training
from synthgain.generators.loading import load_generator
from synthgain.generators.options import GeneratorTraining
from synthgain.generators.run import training_options, warmed_up
from synthgain.generators.snapshots import snapshot_steps
from synthgain.generators.training import train_family
from synthgain.generators.training_data import measure_sigma_data, read_training_data
from synthgain.runtime.checkpoints import Checkpoints, tensor_digest
from synthgain.runtime.command import Job, Terminated
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table, write_manifest, write_table


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def weights_digest(job: Job) -> str:
    """Digest of every weight of every snapshot of a finished job."""
    folder = job.outputs[0].parent
    tensors = {}
    for path in sorted(folder.rglob("*.safetensors")):
        tensors |= {f"{path.relative_to(folder)}/{name}": value for name, value in load_file(path).items()}
    return tensor_digest(tensors)


def state_weights(job: Job) -> str:
    found = Checkpoints(job.state_folder(), job.identity).load_latest()
    assert found is not None
    return tensor_digest(found[1]["module"])


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int, error: type[BaseException]) -> None:
    """Break off in the middle of the step after `steps` more steps, as a kill does."""
    original = diffusion_training.train_step
    count = iter(range(10**9))

    def breaking(*arguments: Any) -> torch.Tensor:
        if next(count) == steps:
            raise error
        return original(*arguments)

    monkeypatch.setattr(diffusion_training, "train_step", breaking)


def kill_after(monkeypatch: pytest.MonkeyPatch, steps: int, job: Job) -> None:
    """Train and be killed after `steps` more steps."""
    with monkeypatch.context() as patch:
        stop_after(patch, steps, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train_family(job)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        run = tmp_path_factory.mktemp("undisturbed")
        job = training_job(run, write_data(run))
        train_family(job)
    return weights_digest(job)


def test_killed_at_several_steps_ends_in_the_same_bits(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = training_job(tmp_path, write_data(tmp_path), training={"save_every": 2})
    for steps in (3, 1, 4):  # from step 0 to 2 saved, 2 to 2, then 2 to 6
        kill_after(monkeypatch, steps, job)
    train_family(job)
    assert weights_digest(job) == undisturbed
    assert not list(job.state_folder().glob("step-*"))


def test_asked_saves_come_where_losses_are_looked_at_seldom(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, or with several processes."""
    monkeypatch.setattr(training, "steps_between_looks", lambda device, processes: 100)
    job = training_job(tmp_path, write_data(tmp_path), training={"save_every": 2, "log_every": 100})
    kill_after(monkeypatch, 7, job)
    assert [int(path.stem.split("-")[1]) for path in sorted(job.state_folder().glob("step-*.pt"))] == [4, 6]
    train_family(job)
    assert weights_digest(job) == undisturbed


@pytest.mark.parametrize("cut", ["truncated", "flipped"])
def test_damaged_state_falls_back_to_the_one_before(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    job = training_job(tmp_path, write_data(tmp_path), training={"save_every": 2})
    kill_after(monkeypatch, 7, job)
    newest = max(job.state_folder().glob("step-*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content if cut == "flipped" else content[:-100])
    train_family(job)
    assert weights_digest(job) == undisturbed


def test_lost_snapshot_starts_afresh(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = training_job(tmp_path, write_data(tmp_path), training={"save_every": 2})
    kill_after(monkeypatch, 7, job)
    (job.state_folder() / "snapshots" / "3" / "network" / "config.json").unlink()
    monkeypatch.setattr(logging.getLogger("synthgain"), "propagate", True)
    train_family(job)
    assert "snapshot 3 is missing or damaged, starting afresh" in caplog.text
    assert weights_digest(job) == undisturbed


def test_state_of_another_config_is_not_resumed(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = write_data(tmp_path)
    other = training_job(tmp_path, inputs, training={"save_every": 2, "learning_rate": 1e-3})
    kill_after(monkeypatch, 7, other)
    job = training_job(tmp_path, inputs)
    assert job.state_folder() == other.state_folder()
    train_family(job)
    assert weights_digest(job) == undisturbed


@pytest.mark.parametrize("kind", ["edm", "v_prediction"])
def test_loss_falls_and_condition_is_learned(tmp_path: Path, kind: str) -> None:
    inputs = write_data(tmp_path, patients=40)
    job = training_job(
        tmp_path,
        inputs,
        formulation={"kind": kind},
        condition_on=["finding"],
        training={
            "steps": 150,
            "batch_size": 16,
            "log_every": 10,
            "dropout": 0.0,
            "learning_rate": 3e-3,
            "ema_decay": 0.95,
        },
    )
    train_family(job)
    facts = json.loads(job.outputs[0].read_text())
    assert facts["loss"]["final"] < 0.5 * facts["loss"]["first"]
    generator = load_generator(job.outputs[0].parent)
    condition = generator.encode_conditions(pd.DataFrame({"finding": [1.0] * 16 + [0.0] * 16}))
    noise = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sigma = torch.full((32,), 4.0)
    with torch.inference_mode():
        estimate = generator.denoise(sigma[:, None, None, None] * noise, sigma, condition)
    middle = estimate[:, 0, 3:5, 3:5].mean(dim=(1, 2))
    assert middle[:16].mean() > middle[16:].mean() + 0.2  # discs of a finding are brighter


@ON_CPU
def test_not_finite_loss_stops_and_keeps_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = training_job(tmp_path, write_data(tmp_path), training={"save_every": 2})
    original = diffusion_training.train_step
    count = iter(range(100))

    def exploding(run: Any, optimizer: Any, clean: torch.Tensor, *rest: Any) -> torch.Tensor:
        factor = float("nan") if next(count) == 5 else 1.0
        return original(run, optimizer, clean * factor, *rest)

    monkeypatch.setattr(diffusion_training, "train_step", exploding)
    with pytest.raises(
        SynthGainError, match=r"not finite at step 6 \(learning rate 0.002\).*lower training.learning_rate"
    ):
        train_family(job)
    found = Checkpoints(job.state_folder(), job.identity).load_latest()
    assert found is not None
    assert found[0] == 4
    assert all(torch.isfinite(value).all() for value in found[1]["module"].values())
    assert not job.outputs[0].exists()


def test_signal_in_the_loop_raises_terminated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = training_job(tmp_path, write_data(tmp_path))
    original = diffusion_training.train_step

    def raising_signal(run: Any, *rest: Any) -> torch.Tensor:
        if run.step == 4:
            signal.raise_signal(signal.SIGTERM)
        return original(run, *rest)

    monkeypatch.setattr(diffusion_training, "train_step", raising_signal)
    with pytest.raises(Terminated, match="state saved at step 5 of 12"):
        train_family(job)


def test_only_training_patients_are_seen(tmp_path: Path) -> None:
    job = training_job(tmp_path, write_data(tmp_path))
    train_family(job)
    split = read_table(tmp_path / "splits" / "toy" / "split.parquet")
    chosen = sorted(split.loc[split["part"] == "train", "image_id"])
    saw = json.loads(job.outputs[0].read_text())["saw"]
    assert saw["images"] == len(chosen) == 20
    assert saw["patients"] == 10
    assert saw["ids_sha256"] == hashlib.sha256("\n".join(chosen).encode()).hexdigest()


def test_pixels_of_other_patients_change_nothing(tmp_path: Path, undisturbed: str) -> None:
    """Validation and test images may be anything: the weights do not know them."""
    inputs = write_data(tmp_path)
    path = tmp_path / "datasets" / "toy" / "images.npy"
    images = np.load(path)
    images[20:] = 255
    np.save(path, images)
    table = read_table(tmp_path / "datasets" / "toy" / "table.parquet")
    write_image_set(path.parent, images, table.drop(columns="sha256"), COLUMNS, inputs["datasets/toy/manifest.json"])
    job = training_job(tmp_path, inputs)
    train_family(job)
    assert weights_digest(job) == undisturbed


def test_fractions_are_nested_and_by_patient(tmp_path: Path) -> None:
    write_data(tmp_path, patients=40)
    folders = {"toy": (tmp_path / "datasets" / "toy", tmp_path / "splits" / "toy")}
    seen = []
    for share in (0.25, 0.5, 1.0):
        data = read_training_data(folders, share, 1.0, study_seed=0)
        assert data.table["patient_id"].nunique() == 20 * share
        assert (data.table.groupby("patient_id").size() == 2).all()
        seen.append(set(data.table["image_id"]))
    assert seen[0] < seen[1] < seen[2]
    half = read_training_data(folders, 1.0, 0.5, study_seed=0)
    assert (len(half), half.labelled.sum(), half.table.loc[half.labelled, "patient_id"].nunique()) == (40, 20, 10)
    assert read_training_data(folders, 1.0, 0.0, study_seed=0).labelled.sum() == 0


def test_two_data_sets_are_joined(tmp_path: Path) -> None:
    inputs = write_data(tmp_path, "toy") | write_data(tmp_path, "other", patients=12)
    job = training_job(tmp_path, inputs, train_on={"datasets": ["toy", "other"]}, training={"steps": 2})
    train_family(job)
    assert json.loads(job.outputs[0].read_text())["saw"]["patients"] == 16


def test_label_budget_hides_conditions(tmp_path: Path) -> None:
    """With no labels the encoder's level vectors never get a gradient: only weight decay may shrink them."""
    job = training_job(tmp_path, write_data(tmp_path), train_on={"datasets": ["toy"], "label_fraction": 0.0})
    train_family(job)
    facts = json.loads(job.outputs[0].read_text())
    assert facts["saw"]["labelled_images"] == 0


def test_starts_from_another_generators_weights(tmp_path: Path) -> None:
    inputs = write_data(tmp_path)
    first = training_job(tmp_path, inputs, "base", condition_on=[], training={"steps": 3})
    train_family(first)
    start = "generators/base/0/manifest.json"
    job = training_job(
        tmp_path,
        {**inputs, start: first.identity},
        "tuned",
        init_from="base",
        training={"steps": 1, "learning_rate": 1e-12, "snapshots": [1]},
    )
    train_family(job)
    weights = [load_file(j.outputs[0].parent / "network" / "diffusion_pytorch_model.safetensors") for j in (first, job)]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-6, rtol=0)
    with pytest.raises(SynthGainError, match="made by another config or code"):
        train_family(training_job(tmp_path, {**inputs, start: "0" * 32}, "wrong", init_from="base"))


def test_input_of_another_identity_is_refused(tmp_path: Path) -> None:
    inputs = write_data(tmp_path)
    job = training_job(tmp_path, inputs | {"datasets/toy/manifest.json": "0" * 32})
    with pytest.raises(SynthGainError, match="made by another config or code"):
        train_family(job)


def test_split_without_training_images(tmp_path: Path) -> None:
    inputs = write_data(tmp_path)
    folder = tmp_path / "splits" / "toy"
    identity = inputs["splits/toy/manifest.json"]
    write_table(folder / "split.parquet", read_table(folder / "split.parquet").assign(part="test"), identity)
    write_manifest(folder / "manifest.json", identity, ["split.parquet"])
    with pytest.raises(SynthGainError, match=r"datasets\.toy: its split has no training images"):
        train_family(training_job(tmp_path, inputs))


def test_training_log_and_snapshots(tmp_path: Path) -> None:
    job = training_job(tmp_path, write_data(tmp_path), training={"steps": 8, "snapshots": [2], "log_every": 3})
    train_family(job)
    folder = job.outputs[0].parent
    with (folder / "training.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["step"]) for row in rows] == [3, 6, 8]
    assert list(rows[0]) == ["step", "loss", "learning_rate", "images_per_second", "seconds"]
    assert sorted(path.name for path in (folder / "snapshots").iterdir()) == ["2", "8"]
    facts = json.loads(job.outputs[0].read_text())
    assert (facts["final"], facts["images_seen"], facts["epochs"]) == (8, 64, 3.2)
    assert set(facts["files"]) == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {
        "manifest.json"
    }


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_order_is_a_permutation_per_pass_and_known_at_any_step(rows: int, batch: int, start: int) -> None:
    keys = {"study": 0, "generator": "g", "index": 0}
    whole = PassOrder(rows, batch, keys)
    sequence = np.concatenate([whole.batch(step) for step in range(start + 8)])
    for first in range(0, len(sequence) - rows + 1, rows):
        assert sorted(sequence[first : first + rows]) == list(range(rows))
    assert (PassOrder(rows, batch, keys).batch(start) == whole.batch(start)).all()


def test_sigma_data_is_the_pixels_spread() -> None:
    images = torch.from_numpy(disc_images(np.array([0, 1, 1]), 16, seed=0).transpose(0, 3, 1, 2).copy())
    expected = (images.double() / 127.5 - 1).std(correction=0)
    assert measure_sigma_data(images) == pytest.approx(float(expected))
    with pytest.raises(SynthGainError, match="one grey level"):
        measure_sigma_data(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"steps": 10, "learnig_rate": 1}, "unknown key 'learnig_rate'"),
        ({"steps": "12"}, "training.steps: '12' is text"),
        ({"steps": 0}, "training.steps: .* greater than or equal to 1"),
        ({"steps": 1, "precision": "float16"}, "training.precision: unknown 'float16'; did you mean 'bfloat16'"),
    ],
)
def test_bad_training_options(tmp_path: Path, config: dict, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        training_options(GeneratorTraining, training_job(tmp_path, {}, training=config))


def test_default_snapshots_and_warm_up() -> None:
    options = GeneratorTraining(steps=1000, warmup_steps=10, learning_rate=1.0)
    assert snapshot_steps(options) == [250, 500, 1000]
    assert snapshot_steps(GeneratorTraining(steps=1)) == [1]
    assert [warmed_up(options, step) for step in (0, 4, 9, 500)] == [0.1, 0.5, 1.0, 1.0]
