"""SIGTERM: each long stage saves, says so, and leaves within seconds, whatever it has in hand."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_jobs import downstream_job, finish, generator_job, shard_job, start, states

from synthgain.runtime.command import EXIT_TERMINATED, Job
from synthgain.runtime.files import read_json

pytestmark = pytest.mark.slow
SECONDS = 60  # generous: the machine may be busy; each job has hours to go
FOREVER = 10**6
SOME = 7  # units of work
STAGES: dict[str, Callable[[Path], Job]] = {
    "train_generator": lambda run: generator_job(run, steps=FOREVER, save_every=None, save_every_seconds=1e9),
    "draw_pool_shard": lambda run: shard_job(run, solver_steps=FOREVER),
    "train_downstream": lambda run: downstream_job(run, steps=FOREVER),
}


@pytest.mark.parametrize("script", list(STAGES))
def test_sigterm_saves_and_leaves(script: str, tmp_path: Path) -> None:
    job = STAGES[script](tmp_path / "run")
    running = start(script, job)
    try:
        assert running.wait_for(lambda trace: trace.count(".") >= SOME)
        running.signal(signal.SIGTERM)
    finally:
        code, said = running.end(SECONDS)
    assert code == EXIT_TERMINATED, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("stopped: ")
    assert last.endswith("; run snakemake again to go on")
    assert not job.outputs[0].exists()
    assert "Traceback" not in said
    if script != "draw_pool_shard":  # a batch in hand is given up, a step is kept
        kept = max(read_json(path)["step"] for path in states(job))
        assert kept == running.trace().count(".")


def test_what_was_finished_is_taken_over_when_its_manifest_is_gone(tmp_path: Path) -> None:
    """Snakemake deletes the output of a job whose end it did not see; nothing is computed again for that."""
    run = tmp_path / "run"
    shard, generator = shard_job(run), generator_job(run, steps=2, patients=80)
    finish("train_generator", generator)  # trained by `shard_job` in this process, which seals nothing
    finish("draw_pool_shard", shard)
    for script, job in (("draw_pool_shard", shard), ("train_generator", generator)):
        before = job.outputs[0].read_bytes()
        job.outputs[0].unlink()
        running = finish(script, job)
        assert running.trace() == ""
        assert "taken over" in running.said_file.read_text()
        assert job.outputs[0].read_bytes() == before
    generator.outputs[0].unlink()
    weights = next(generator.outputs[0].parent.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert finish("train_generator", generator).trace().count(".") == generator.slice["training"]["steps"]
