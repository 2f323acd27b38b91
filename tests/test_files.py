"""Base modules: whole files or none, checksums, identities, seeds, image sets, the script frame, resumable state."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.data.image_set import read_image_set, write_image_set
from synthgain.runtime import command, files
from synthgain.runtime.checkpoints import Checkpoints, tensor_digest
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import (
    atomic_path,
    canonical_json,
    check_file,
    digest,
    read_json,
    read_manifest,
    read_table,
    sha256_file,
    write_json,
    write_manifest,
    write_table,
    write_text,
)
from synthgain.seeds import integer_seed, random_generator, seed_sequence

KEYS = st.dictionaries(st.text(min_size=1, max_size=8), st.integers() | st.text(max_size=8), min_size=1, max_size=5)


@given(KEYS)
def test_canonical_json_does_not_know_the_order(keys: dict) -> None:
    shuffled = dict(sorted(keys.items(), reverse=True))
    assert canonical_json(keys) == canonical_json(shuffled)
    assert json.loads(canonical_json(keys)) == keys
    assert digest(keys) == digest(shuffled)


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})


def test_a_failed_write_leaves_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a tmpfs here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_is_one_clear_line_and_costs_nothing(small_disk: Path) -> None:
    write_json(small_disk / "earlier.json", {"kept": True})
    images = np.zeros((64, 64, 64, 1), np.uint8)
    table = pd.DataFrame({"image_id": [str(i) for i in range(64)], "patient_id": "p", "site": "a", "origin": "real"})
    with pytest.raises(SynthGainError, match="no space left"):
        write_image_set(small_disk / "set", images, table, {}, "identity")
    assert read_json(small_disk / "earlier.json") == {"kept": True}
    assert not list((small_disk / "set").iterdir())


def test_manifest_names_what_is_damaged(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "some text")
    manifest = write_manifest(tmp_path / "manifest.json", "id-1", ["a.txt"], fact=1)
    assert read_manifest(tmp_path / "manifest.json", "id-1") == manifest
    with pytest.raises(SynthGainError, match="another config or code"):
        read_manifest(tmp_path / "manifest.json", "id-2")
    listed = manifest["files"]["a.txt"]
    (tmp_path / "a.txt").write_text("some texT")
    with pytest.raises(SynthGainError, match="checksum"):
        check_file(tmp_path, "a.txt", listed)
    (tmp_path / "a.txt").write_text("some")
    with pytest.raises(SynthGainError, match="4 bytes"):
        check_file(tmp_path, "a.txt", listed)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(SynthGainError, match="missing"):
        check_file(tmp_path, "a.txt", listed)


def test_a_very_large_file_is_compared_in_every_byte_by_verify_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "a.txt", "some text")
    listed = write_manifest(tmp_path / "manifest.json", "id-1", ["a.txt"])["files"]["a.txt"]
    monkeypatch.setattr(files, "CHECKSUM_ON_READ_BYTES", 3)
    (tmp_path / "a.txt").write_text("some texT")
    assert check_file(tmp_path, "a.txt", listed) == tmp_path / "a.txt"
    with pytest.raises(SynthGainError, match="checksum"):
        check_file(tmp_path, "a.txt", listed, every_byte=True)
    (tmp_path / "a.txt").write_text("some")
    with pytest.raises(SynthGainError, match="4 bytes"):
        check_file(tmp_path, "a.txt", listed)


@pytest.mark.parametrize("cut", ["truncated", "flipped"])
def test_damaged_table_is_found(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, pd.DataFrame({"x": np.random.default_rng(0).random(5000)}), "id")
    raw = bytearray(path.read_bytes())
    if cut == "truncated":
        raw = raw[: len(raw) // 2]
    else:
        raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(SynthGainError, match="damaged"):
        read_table(path, "id")


def test_table_carries_its_identity(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1.0, np.nan], "name": ["a", None]})
    write_table(tmp_path / "t.parquet", table, "id-1")
    assert read_table(tmp_path / "t.parquet", "id-1").equals(read_table(tmp_path / "t.parquet"))
    with pytest.raises(SynthGainError, match="another config or code"):
        read_table(tmp_path / "t.parquet", "id-2")


@given(KEYS, KEYS)
def test_seeds_of_different_keys_differ(first: dict, second: dict) -> None:
    one, two = (seed_sequence(**{f"k{k}": v for k, v in keys.items()}).entropy for keys in (first, second))
    assert (one == two) == (first == second)


def test_seeds_are_streams_of_their_names() -> None:
    a = random_generator(study=0, step="split", dataset="a").random(4)
    assert np.array_equal(a, random_generator(dataset="a", study=0, step="split").random(4))
    assert not np.array_equal(a, random_generator(study=1, step="split", dataset="a").random(4))
    seeds = {integer_seed(study=0, replicate=r, step=s) for r in range(50) for s in ("a", "b")}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 2))
def test_image_set_round_trip(count: int, planes: int) -> None:
    import tempfile

    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 5, 4, 3), dtype=np.uint8)
    masks = rng.integers(0, 2, (count, 5, 4, planes), dtype=np.uint8)
    ids = [f"i{k}" for k in range(count)]
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "site": "a", "origin": "real", "y": 1.0})
    columns = {"y": {"role": "target", "kind": "binary"}}
    names = [f"m{k}" for k in range(planes)]
    with tempfile.TemporaryDirectory() as folder:
        write_image_set(Path(folder), images, table, columns, "id", masks, names)
        read = read_image_set(Path(folder), "id")
        assert np.array_equal(read.images, images)
        assert read.masks is not None
        assert np.array_equal(read.masks, masks)
        assert read.columns == columns
        assert read.mask_names == names
        assert len(read) == count


def test_image_set_refuses_what_does_not_fit(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["a", "a"], "patient_id": "p", "site": "s", "origin": "real"})
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match="twice"):
        write_image_set(tmp_path, images, table, {}, "id")
    with pytest.raises(ValueError, match="uint8"):
        write_image_set(tmp_path, images.astype(float), table, {}, "id")
    with pytest.raises(ValueError, match="2 table rows"):
        write_image_set(tmp_path, images[:1], table, {}, "id")
    with pytest.raises(ValueError, match="lacks y"):
        write_image_set(tmp_path, images, table, {"y": {}}, "id")


class TestScriptFrame:
    @pytest.fixture(autouse=True)
    def quiet_handlers(self) -> Iterator[None]:
        yield
        for handler in list(command.logger.handlers):
            command.logger.removeHandler(handler)
            handler.close()
        logging.captureWarnings(False)

    def arguments(self, tmp_path: Path) -> list[str]:
        job = canonical_json(
            {
                "slice": {"a": 1},
                "inputs": {"x/manifest.json": "id"},
                "named": {"xs": [[["x"], "x/manifest.json"]]},
                "code": "c",
                "identity": "i",
            }
        )
        out = str(tmp_path / "run" / "y" / "manifest.json")
        log = str(tmp_path / "log.txt")
        return ["--job", job, "--run", str(tmp_path / "run"), "--threads", "2", "--log", log, "--output", out]

    def test_job_fields(self, tmp_path: Path) -> None:
        seen: list[Job] = []
        run_script(seen.append, self.arguments(tmp_path))
        (job,) = seen
        assert (job.slice, job.identity, job.threads) == ({"a": 1}, "i", 2)
        assert job.state_folder() == tmp_path / "run" / "state" / "y" / "manifest"
        with pytest.raises(SynthGainError, match="missing"):
            job.inputs.xs["x"].folder()

    def test_user_error_is_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        def work(job: Job) -> None:
            raise SynthGainError("datasets.a: nothing there; put it there")

        with pytest.raises(SystemExit) as caught:
            run_script(work, self.arguments(tmp_path))
        assert caught.value.code == 1
        assert capsys.readouterr().err == "error: datasets.a: nothing there; put it there\n"

    def test_termination_outside_a_loop_is_one_line_and_leaves_no_part(self, tmp_path: Path) -> None:
        code = (
            "import sys, time; sys.path.insert(0, 'workflow_scripts')\n"
            "from synthgain.runtime.command import run_script; from synthgain.runtime.files import atomic_path\n"
            "def work(job):\n"
            "    with atomic_path(job.outputs[0]): print('in', flush=True); time.sleep(60)\n"
            "run_script(work)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *self.arguments(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, shown = process.communicate(timeout=30)
        assert process.returncode == 143
        assert shown == "stopped; run snakemake again to go on\n"
        assert list((tmp_path / "run" / "y").iterdir()) == []

    def test_other_errors_leave_the_traceback_in_the_log(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        def work(job: Job) -> None:
            raise ZeroDivisionError("by nothing")

        with pytest.raises(SystemExit):
            run_script(work, self.arguments(tmp_path))
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        assert "ZeroDivisionError: by nothing" in shown
        assert "Traceback" in (tmp_path / "log.txt").read_text()


class TestCheckpoints:
    STATE: ClassVar[dict] = {"weights": torch.arange(6.0), "step": 3, "rng": [1, 2], "name": "x", "none": None}

    def test_newest_whole_state_is_used(self, tmp_path: Path) -> None:
        store = Checkpoints(tmp_path, "id")
        assert store.load_latest() is None
        for step in (1, 2, 3):
            store.save(step, {**self.STATE, "step": step})
        assert len(list(tmp_path.glob("step-*.pt"))) == 2
        newest = sorted(tmp_path.glob("step-*.pt"))[-1]
        newest.write_bytes(newest.read_bytes()[:-7] + b"1234567")
        found = Checkpoints(tmp_path, "id").load_latest()
        assert found is not None
        assert found[0] == 2
        assert torch.equal(found[1]["weights"], self.STATE["weights"])

    def test_damaged_newer_states_do_not_crowd_out_the_next_ones(self, tmp_path: Path) -> None:
        store = Checkpoints(tmp_path, "id")
        for step in (8, 9):
            store.save(step, self.STATE)
        for path in tmp_path.glob("step-*.pt"):
            path.write_bytes(b"damaged")
        store = Checkpoints(tmp_path, "id")
        assert store.load_latest() is None
        store.save(1, self.STATE)
        found = store.load_latest()
        assert found is not None
        assert found[0] == 1

    def test_state_of_another_job_is_never_used(self, tmp_path: Path) -> None:
        Checkpoints(tmp_path, "id").save(5, self.STATE)
        assert Checkpoints(tmp_path, "other").load_latest() is None

    def test_damaged_marker_means_a_fresh_start(self, tmp_path: Path) -> None:
        Checkpoints(tmp_path, "id").save(5, self.STATE)
        (tmp_path / "identity.json").write_text('{"iden')
        assert Checkpoints(tmp_path, "id").load_latest() is None

    def test_kill_while_saving_leaves_the_earlier_state(self, tmp_path: Path) -> None:
        code = (
            "import sys, os, torch; sys.path.insert(0, 'workflow_scripts')\n"
            "from pathlib import Path; from synthgain.runtime.checkpoints import Checkpoints\n"
            f"store = Checkpoints(Path({str(tmp_path)!r}), 'id'); step = 0\n"
            "while True:\n"
            "    step += 1; store.save(step, {'x': torch.full((200000,), float(step)), 'step': step})\n"
            "    print(step, flush=True)\n"
        )
        root = Path(__file__).parent.parent
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root)
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = Checkpoints(tmp_path, "id").load_latest()
        assert found is not None
        assert found[0] >= 5
        assert float(found[1]["x"][0]) == found[0]

    def test_tensor_digest_sees_every_bit(self) -> None:
        tensors = {"a": torch.zeros(3), "b": torch.ones(2, dtype=torch.bfloat16)}
        before = tensor_digest(tensors)
        assert tensor_digest(dict(reversed(tensors.items()))) == before
        tensors["a"][1] = 1e-30
        assert tensor_digest(tensors) != before


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a broken link, a file without the right to read (which root, who may run the tests, always has)."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(SynthGainError, match="cannot be read"):
            sha256_file(path)
    locked = tmp_path / "locked"
    locked.write_text("x")
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(SynthGainError, match=r"locked: cannot be read \(Permission denied\)"):
        sha256_file(locked)
