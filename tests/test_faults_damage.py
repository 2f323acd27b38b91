"""Bytes that changed on disk: an earlier state is used, or one line names the file and the remedy; never a guess."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from devices import DEVICE
from downstream_jobs import manifest_of, train_job, write_dataset, write_pool
from fault_jobs import SCRIPTS, generator_job
from hypothesis import given
from hypothesis import strategies as st
from job_inputs import new_job

import predict_downstream as predict_script
import train_downstream as train_script
from synthgain.data.image_set import read_image_set
from synthgain.data.replicas import read_replicas
from synthgain.downstream import training as downstream_training
from synthgain.downstream.training import Trainer
from synthgain.generators.loading import load_generator
from synthgain.generators.training import train_family
from synthgain.pools.sampling import FinishedBatches
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest, read_table, remove_parts, write_table


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.fixture(params=[truncate, flip], ids=["truncated", "flipped"])
def harm(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    harmed: Callable[[Path], None] = request.param
    return harmed


def assert_one_line(error: SynthGainError, path: Path) -> None:
    assert str(path) in str(error)
    assert "delete" in str(error)
    assert "run" in str(error).rsplit("delete", 1)[1]
    assert "\n" not in str(error)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, its split, a pool of two shards, and a model trained on them."""
    run = tmp_path_factory.mktemp("clean")
    inputs = write_dataset(run, "a", size=8)
    train_script.train_downstream(supplemented(run, inputs, write_pool(run, "p", "a", 1)))
    return run


def supplemented(run: Path, inputs: dict[str, str], pool: dict[str, str]) -> Job:
    return train_job(run, inputs, {"synthetic": "p", "source": "a"}, ratio=100, pool_inputs=pool)


@pytest.fixture
def run(clean: Path, tmp_path: Path) -> Path:
    shutil.copytree(clean, tmp_path / "run")
    return tmp_path / "run"


class Killed(BaseException):
    """Raised where a process would be killed."""


def test_a_damaged_state_of_a_training_is_not_used_but_the_one_before(
    tmp_path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train_job(tmp_path / "whole", write_dataset(tmp_path / "whole", "a", size=8), {})
    train_script.train_downstream(whole)
    job = train_job(tmp_path / "run", write_dataset(tmp_path / "run", "a", size=8), {})
    step, steps = Trainer._step, []

    def counted(trainer: Trainer) -> None:
        steps.append(trainer.progressed.step)
        if len(steps) == 7:
            raise Killed
        step(trainer)

    monkeypatch.setattr(Trainer, "_step", counted)
    monkeypatch.setattr(downstream_training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(downstream_training, "SAVE_SHARE", 1.0)
    with pytest.raises(Killed):
        train_script.train_downstream(job)
    states = sorted((tmp_path / "run/state").rglob("step-*.pt"))
    assert len(states) == 2
    harm(states[-1])
    train_script.train_downstream(job)
    assert "checksum differs, using an earlier state" in caplog.text
    assert 0 < steps[7] < steps[6]  # from the state before
    name = "weights-0.safetensors"
    assert manifest_of(job)["files"][name]["sha256"] == manifest_of(whole)["files"][name]["sha256"]


INPUTS = [
    "datasets/a/images.npy",
    "datasets/a/table.parquet",
    "splits/a/split.parquet",
    "pools/p/0/replica-1/shard-1/images.npy",
    "pools/p/0/replica-1/shard-1/table.parquet",
]


@pytest.mark.parametrize("name", INPUTS)
def test_damaged_inputs_of_a_training_are_one_clear_line(run: Path, name: str, harm: Callable[[Path], None]) -> None:
    trained = manifest_of(train_job(run, {}, {}, ratio=100))
    shutil.rmtree(run / "state")
    harm(run / name)
    inputs = {
        path: read_manifest(run / path)["identity"] for path in ("datasets/a/manifest.json", "splits/a/manifest.json")
    }
    pool = {"pools/p/0/replica-1/manifest.json": read_manifest(run / "pools/p/0/replica-1/manifest.json")["identity"]}
    job = supplemented(run, inputs, pool)
    with pytest.raises(SynthGainError) as caught:
        train_script.train_downstream(job)
    assert_one_line(caught.value, run / name)
    assert manifest_of(job) == trained  # what was made before is as it was


def test_damaged_weights_are_one_clear_line_of_the_script(run: Path, harm: Callable[[Path], None]) -> None:
    trained = next(run.glob("downstream/*/*/100/0/manifest.json"))
    harm(trained.parent / "weights-0.safetensors")
    relative = str(trained.relative_to(run))
    model = {
        "name": "cnn",
        "task_module": "classification",
        "targets": ["opacity"],
        "network": {"module": "small_cnn", "options": {"width": 4, "depth": 1}},
        "precision": "float32",
    }
    slices = {
        "model": model,
        "arm": "real",
        "ratio": 100,
        "replicates": [0],
        "evaluate": [{"dataset": "a", "split": True}],
    }
    names = (relative, "datasets/a/manifest.json", "splits/a/manifest.json")
    inputs = {name: read_manifest(run / name)["identity"] for name in names}
    job = new_job(slices, inputs, "code", "identity", run, [run / "predictions/cnn/real/100/0.parquet"], 1)
    with pytest.raises(SynthGainError) as caught:
        predict_script.predict_downstream(job)
    assert_one_line(caught.value, trained.parent / "weights-0.safetensors")
    assert not job.outputs[0].exists()


def test_a_damaged_shard_is_one_clear_line(run: Path, harm: Callable[[Path], None]) -> None:
    shard = run / "pools/p/0/replica-1/shard-0"
    for name in ("images.npy", "table.parquet"):
        kept = (shard / name).read_bytes()
        harm(shard / name)
        with pytest.raises(SynthGainError) as caught:
            read_replicas([(run / "pools/p/0/replica-1/manifest.json", None)])
        assert_one_line(caught.value, shard / name)
        (shard / name).write_bytes(kept)
    read_replicas([(run / "pools/p/0/replica-1/manifest.json", None)])


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        job = generator_job(tmp_path_factory.mktemp("generator"), steps=2)
        train_family(job)
    return job.outputs[0].parent


@pytest.mark.parametrize("part", ["network", "condition_encoder", "snapshots/1/network"])
def test_damaged_generator_weights_are_one_clear_line(
    generator: Path, tmp_path: Path, part: str, harm: Callable[[Path], None]
) -> None:
    folder = tmp_path / "generator"
    shutil.copytree(generator, folder)
    weights = next((folder / part).glob("*.safetensors"))
    harm(weights)
    with pytest.raises(SynthGainError) as caught:
        load_generator(folder, 1 if part.startswith("snapshots") else None)
    assert_one_line(caught.value, weights)


TABLE = pd.DataFrame(
    {"image_id": [f"i{row}" for row in range(20)], "score": np.linspace(0, 1, 20, dtype=np.float32), "n": range(20)}
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    write_table(path, TABLE, "id")
    return path


@given(st.data())
def test_no_bit_of_a_table_can_change_unseen(table: Path, data: st.DataObject) -> None:
    content = bytearray(table.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    harmed = table.with_name("harmed.parquet")
    harmed.write_bytes(content)
    with pytest.raises(SynthGainError, match=r"damaged .*; delete it and run snakemake again"):
        read_table(harmed, "id")


@given(st.data())
def test_no_cut_table_is_read(table: Path, data: st.DataObject) -> None:
    content = table.read_bytes()
    harmed = table.with_name("cut.parquet")
    harmed.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(SynthGainError, match="damaged"):
        read_table(harmed)


def test_other_readers_see_the_table_as_any_parquet_file(table: Path) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(table), TABLE)
    pd.testing.assert_frame_equal(read_table(table, "id"), TABLE)
    assert list(read_table(table, "id", columns=["score"])) == ["score"]


def test_damaged_marker_of_a_shards_batches_means_a_fresh_start(
    tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    FinishedBatches(tmp_path, "id").save(0, np.ones((2, 4, 4, 1), np.uint8))
    harm(tmp_path / "identity.json")
    monkeypatch.setattr("synthgain.pools.sampling.logger.propagate", True)
    with caplog.at_level("INFO", logger="synthgain"):
        again = FinishedBatches(tmp_path, "id")
    assert "starting afresh" in caplog.text
    assert again.load(0) is None
    again.save(0, np.zeros((2, 4, 4, 1), np.uint8))
    kept = FinishedBatches(tmp_path, "id").load(0)
    assert kept is not None
    assert not kept.any()


WRITER = """
import sys; sys.path.insert(0, {scripts!r})
import numpy as np, pandas as pd
from pathlib import Path
from synthgain.data.image_set import write_image_set
table = pd.DataFrame({{"image_id": [f"i{{row}}" for row in range(64)]}})
table = table.assign(patient_id="p", site="a", origin="real")
for number in range(10**6):
    write_image_set(Path({folder!r}), np.full((64, 32, 32, 1), number % 251, np.uint8), table, {{}}, str(number))
    print(number, flush=True)
"""
WRITES, LONGEST_SECONDS = 4, 0.02  # before a kill: sets written, and about what writing one takes


@pytest.mark.slow
def test_an_image_set_killed_at_any_moment_is_whole_or_has_no_manifest(tmp_path: Path) -> None:
    """The same folder is written over and over, and the writer killed at random moments."""
    folder, random, whole = tmp_path / "set", np.random.default_rng(0), 0
    code = WRITER.format(scripts=str(SCRIPTS), folder=str(folder))
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(int(random.integers(1, WRITES + 1))):
            assert process.stdout.readline()
        time.sleep(float(random.uniform(0, LONGEST_SECONDS)))
        process.kill()
        process.communicate()
        if (folder / "manifest.json").exists():
            found = read_image_set(folder)
            assert (found.images == int(found.manifest["identity"]) % 251).all()
            whole += 1
        remove_parts(folder)
        assert not list(folder.glob(".*"))
    print(f"10 kills: {whole} whole sets, {10 - whole} without a manifest")
