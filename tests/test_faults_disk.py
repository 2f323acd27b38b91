"""A disk that fills up while a job writes: one clear line, what was there stays, and with space it goes on."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_jobs import PASSES, downstream_job, finish, generator_job, shard_job, start
from job_inputs import paths_of

from synthgain.runtime.command import Job
from synthgain.runtime.files import read_manifest

pytestmark = pytest.mark.slow
MEGABYTES = 32
BATCHES = 40  # of the shard
STAGES: dict[str, Callable[[Path], Job]] = {
    "train_generator": generator_job,
    "draw_pool_shard": shard_job,
    "train_downstream": downstream_job,
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A run folder that is a real file system of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no right to mount a tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    block = b"x" * 65536
    with path.open("wb", buffering=0) as handle:
        while block:
            try:
                handle.write(block)
            except OSError:
                block = block[: len(block) // 2]


@pytest.mark.parametrize("script", list(STAGES))
def test_full_disk_is_one_clear_line_and_with_space_the_job_goes_on(script: str, disk: Path) -> None:
    job = STAGES[script](disk)
    running = start(script, job)
    try:
        assert running.wait_for(lambda trace: trace.count("S") >= 2)
        fill(disk / "ballast")
    finally:
        code, said = running.end()
    assert code == 1, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "no space left" in errors[0] or "No space left" in errors[0]
    assert str(disk) in errors[0]
    assert "Traceback" not in said
    assert not job.outputs[0].exists()
    for relative, identity in paths_of(job.inputs).items():
        read_manifest(disk / relative, identity)
    os.unlink(disk / "ballast")
    again = finish(script, job).trace()
    read_manifest(job.outputs[0], job.identity)
    assert 0 < again.count(".") < needed(script, job), "it did not go on from the state it had"


def needed(script: str, job: Job) -> int:
    """Units of work of an undisturbed run, or a number not above it."""
    if script == "train_generator":
        return int(job.slice["training"]["steps"])
    return int(job.slice["model"]["steps"]) if script == "train_downstream" else BATCHES * PASSES
