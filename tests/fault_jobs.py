"""Jobs to be broken off: the three long stages on toy data, the real scripts in processes of their own."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from devices import DEVICE
from downstream_jobs import model_slice, train_job, write_dataset
from generator_jobs import training_job, write_data
from job_inputs import fields_of, new_job, paths_of
from watched_script import start_watched

from synthgain.generators.training import train_family
from synthgain.runtime.command import Job
from synthgain.runtime.files import canonical_json, digest

SCRIPTS = Path(__file__).resolve().parents[1] / "workflow_scripts"
PATIENCE_SECONDS = 900  # for what takes seconds where nothing else runs
LOOK_SECONDS = 0.002
SAVE_EVERY = 5  # optimiser steps
SOLVER_STEPS = 5  # of the second-order Heun solver: two passes each but the last
PASSES = 2 * SOLVER_STEPS - 1


@dataclass
class Running:
    """A script in a process of its own, what it does (`trace`) and what it says."""

    process: Any
    trace_file: Path
    said_file: Path
    known: int  # length of the trace when it started

    def trace(self) -> str:
        """What this process did so far: `.` work, `S` a state saved."""
        return self.trace_file.read_text()[self.known :]

    def wait_for(self, found: Callable[[str], bool]) -> bool:
        """Wait until `found(trace)` is true; False where the process ended before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not found(self.trace()):
            if not self.process.is_alive():
                return False
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(LOOK_SECONDS)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    def end(self, seconds: float = PATIENCE_SECONDS) -> tuple[int | None, str]:
        """Wait for the end and return exit code (None: not within `seconds`, killed now) and what it said."""
        self.process.join(seconds)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        return code, self.said_file.read_text()


def start(script: str, job: Job) -> Running:
    """Start a script as a rule would."""
    fields = fields_of(job)
    words = [str(SCRIPTS / f"{script}.py"), "--job", canonical_json(fields), "--run", str(job.run), "--threads", "1"]
    words += ["--log", str(job.run / f"{script}.log"), "--output", *map(str, job.outputs)]
    trace, said = (job.run.with_name(f"{job.run.name}.{what}") for what in ("trace", "said"))
    trace.touch()
    known = len(trace.read_text())
    return Running(start_watched(words, trace, said, {"SYNTHGAIN_DEVICE": DEVICE}), trace, said, known)


def finish(script: str, job: Job) -> Running:
    """Run a script to its end."""
    running = start(script, job)
    code, said = running.end()
    assert code == 0, said
    return running


@dataclass
class Tries:
    """What the tries of one job did, each a string of `.` (work) and `S` (a state saved); the last one finished."""

    traces: list[str] = field(default_factory=list)
    killed: int = 0
    late: int = 0  # killed with a state on disk

    @property
    def work(self) -> int:
        """Units of work in all."""
        return sum(trace.count(".") for trace in self.traces)

    @property
    def longest_interval(self) -> int:
        """Units of work between two saves, at most."""
        return max(len(part) for trace in self.traces for part in trace.split("S")[:-1])


def kill_again_and_again(script: str, job: Job, kills: int, random: np.random.Generator, saves: int) -> Tries:
    """Start `script`, kill it at a random moment, and again, until `kills` are done; then let it finish.

    The first kill comes anywhere before the first save, each other after 1 … `saves` new saves and up to as much
    further work as lies between two saves: moments hang on progress, not on how fast this machine is.
    """
    tries = Tries()
    for number in range(kills):
        wanted = 0 if number == 0 else int(random.integers(1, saves + 1))
        further = int(random.integers(0, SAVE_EVERY))
        running = start(script, job)
        running.wait_for(partial(_is_due, wanted, further))
        time.sleep(float(random.uniform(0, 0.01)))  # anywhere within the unit of work, or within a save
        running.signal(signal.SIGKILL)
        code, said = running.end()
        assert code == -signal.SIGKILL, f"it ended before it was killed: {said}"
        assert not job.outputs[0].exists()
        tries.killed += 1
        tries.late += any(int(path.stem.split("-")[1]) > 0 or "batch" in path.stem for path in states(job))
        tries.traces.append(running.trace())
    tries.traces.append(finish(script, job).trace())
    return tries


def _is_due(saves: int, further: int, trace: str) -> bool:
    """True after `saves` saves and `further` units of work, or a save later."""
    return trace.count("S") > saves or (trace.count("S") == saves and len(trace.rpartition("S")[2]) >= further)


def states(job: Job) -> list[Path]:
    """The states of a job on disk, whole ones."""
    return [*job.run.glob("state/**/step-*.json"), *job.run.glob("state/**/batch-*.json")]


def generator_job(run: Path, steps: int = 150, patients: int = 20, **training: object) -> Job:
    """A diffusion generator that saves every SAVE_EVERY steps."""
    options = {"steps": steps, "save_every": SAVE_EVERY, "snapshots": [steps // 2], "log_every": 20, **training}
    return training_job(run, write_data(run, patients=patients), training=options)


def shard_job(run: Path, solver_steps: int = SOLVER_STEPS, batch_size: int = 2) -> Job:
    """A shard of a pool of 80 images drawn from a generator that is trained here; a batch is a state."""
    generator = generator_job(run, steps=2, patients=80)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    train_family(generator)
    for number, handler in handlers.items():  # else this process would no longer end on SIGTERM
        signal.signal(number, handler)
    relative = str(generator.outputs[0].relative_to(run))
    fields = {
        "slice": {
            "pool": "drawn",
            "index": 0,
            "replica": 1,
            "shard": 0,
            "shards": 1,
            "pool_identity": "0123456789abcdef",
            "module": "generated",
            "options": {"generator": [generator.slice["generator"], 0], "snapshot": None},
            "rows_of": "toy",
            "conditions": {"mode": "rows", "shuffled": False},
            "sampling": {"solver": "heun", "steps": solver_steps, "batch_size": batch_size, "compile": False},
            "image": {"size": 8, "channels": 1},
            "seed": 0,
        },
        "inputs": {**paths_of(generator.inputs), relative: generator.identity},
        "code": "code",
    }
    output = run / "pools/drawn/0/replica-1/shard-0/manifest.json"
    return new_job(**fields, identity=digest(fields), run=run, outputs=[output], threads=1)


def downstream_job(run: Path, steps: int = 600) -> Job:
    """A small classifier."""
    return train_job(run, write_dataset(run, "a"), {}, model=model_slice(steps=steps, validate_every=100))
