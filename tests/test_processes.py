"""Generator training in several processes: the same result as one, resumed with another number, ended together."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generator_jobs import SCRIPTS, start_script, training_job, write_data

from synthgain.generators.diffusion import training as diffusion_training
from synthgain.generators.gan import training as gan_training
from synthgain.generators.loading import denoises, load_generator
from synthgain.generators.training import train_family
from synthgain.runtime.command import EXIT_TERMINATED, Job
from synthgain.runtime.files import canonical_json

# ------------------------------------------------------------------------------------------ the launcher by itself

# A script like train_generator.py, whose second process behaves as it is told; no torch, so that it starts fast.
SCRIPT = f"""
import os, signal, sys, time
sys.path.insert(0, {str(SCRIPTS)!r})
from synthgain.runtime.command import StopSignal, Terminated, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime import processes

processes.GRACE_SECONDS = 1.0

def work(job):
    if not processes.is_one_of_several():
        processes.launch([sys.executable, *sys.argv], 2, job.threads)
        return
    processes.leave_with_launcher()
    stop, rank, told = StopSignal(), int(os.environ["RANK"]), job.slice["second"]
    print(f"process {{rank}} with {{os.environ['OMP_NUM_THREADS']}} threads", file=sys.stderr, flush=True)
    (job.run / f"{{rank}}.pid").write_text(str(os.getpid()))
    while len(list(job.run.glob("*.pid"))) < 2:
        time.sleep(0.01)
    if told == "done":
        return
    if rank == 1 and told == "error":
        raise SynthGainError("datasets.a: mend it")
    if rank == 1 and told == "crash":
        raise ValueError("boom")
    if rank == 0 and told == "late":  # what the survivor sees may be heard before the other's end
        raise RuntimeError("gloo/transport/tcp/pair.cc: Connection reset by peer")
    if rank == 1 and told == "late":
        time.sleep(0.3)
    if rank == 1 and told in ("killed", "late"):
        os.kill(os.getpid(), signal.SIGKILL)
    while not (stop.requested and told == "wait"):  # in the other cases the first process does not listen
        time.sleep(0.01)
    raise Terminated("state saved at step 5 of 9")

run_script(work)
"""


def start_two(folder: Path, second: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    job = canonical_json({"slice": {"second": second}, "inputs": {}, "named": {}, "code": "", "identity": ""})
    command = [sys.executable, str(script), "--job", job, "--run", str(folder), "--threads", "4"]
    command += ["--log", str(folder / "log"), "--output", str(folder / "out" / "manifest.json")]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_both(folder: Path) -> list[int]:
    """Return the process ids of the two processes once they are there."""
    while len(files := [path for path in folder.glob("*.pid") if path.read_text()]) < 2:
        time.sleep(0.02)
    return [int(path.read_text()) for path in files]


def all_gone(pids: list[int]) -> bool:
    """Wait until none of these processes runs any more; False if one still does after a minute."""
    for _ in range(600):
        if not any(Path(f"/proc/{pid}").exists() and "Z" not in state_of(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_the_first_process_speaks_for_all_and_threads_are_shared(tmp_path: Path) -> None:
    process = start_two(tmp_path, "done")
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 0
    assert shown == "process 0 with 2 threads\n"


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ("error", "error: datasets.a: mend it"),
        ("crash", "error: ValueError: boom (traceback in"),
        ("killed", "error: process 2 of 2 was killed by SIGKILL"),
        ("late", "error: process 2 of 2 was killed by SIGKILL"),
    ],
)
def test_one_that_fails_ends_the_job_with_one_line(tmp_path: Path, second: str, line: str) -> None:
    process = start_two(tmp_path, second)
    pids = wait_for_both(tmp_path)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 1
    (error,) = [text for text in shown.splitlines() if "error" in text]
    assert error.startswith(line)
    assert all_gone(pids)  # the other one too, although it hears no signal
    assert ("Traceback" in (tmp_path / "log").read_text()) == (second in ("crash", "late"))


def test_a_signal_reaches_all_of_them(tmp_path: Path) -> None:
    process = start_two(tmp_path, "wait")
    pids = wait_for_both(tmp_path)
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == EXIT_TERMINATED
    assert shown.splitlines()[1:] == ["stopped: state saved at step 5 of 9; run snakemake again to go on"]
    assert all_gone(pids)


def test_none_outlives_the_launcher(tmp_path: Path) -> None:
    process = start_two(tmp_path, "deaf")
    pids = wait_for_both(tmp_path)
    process.kill()
    process.communicate(timeout=120)
    assert all_gone(pids)


# ------------------------------------------------------------------------------------------------------- training

GAN = {
    "module": "gan",
    "network": {"module": "gan", "options": {"channels": [16, 16], "latent_dim": 8}},
    "formulation": None,
    "structures": [],
    "mask_by": None,
}
# Two processes add up a batch in another order, so the last bits differ, and Adam gives even a gradient of rounding
# errors its full step. Measured over 12 steps: losses differ by less than 1e-5 (diffusion) and 5e-4 (GAN) of
# themselves. Were half of each batch the other half again, diffusion's would by 7 % at the first step, and its images
# by up to 0.18.
LOSS_TOLERANCE = {"diffusion": 1e-4, "gan": 2e-3}
OUTPUT_TOLERANCE = 0.02  # of images in [-1, 1]


def job_of(run: Path, family: str, **options: Any) -> Job:
    options = {"dropout": 0.0, "log_every": 1, "save_every": 1, **options}
    return training_job(run, write_data(run), family, training=options, **(GAN if family == "gan" else {}))


def start(job: Job, monkeypatch: pytest.MonkeyPatch, processes: int = 2) -> subprocess.Popen[str]:
    monkeypatch.setenv("SYNTHGAIN_SETTINGS", canonical_json({"compute": {"generator_processes": processes}}))
    return start_script(job)


def killed_after(steps: int, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process and break off in the step after `steps`."""
    module: Any = gan_training if "gan" in job.slice["module"] else diffusion_training
    original = module.train_step

    def breaking(run: Any, *arguments: Any) -> torch.Tensor:
        if run.step == steps:
            raise KeyboardInterrupt
        return original(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_step", breaking)
        with pytest.raises(KeyboardInterrupt):
            train_family(job)


def losses(job: Job) -> np.ndarray:
    rows = list(csv.DictReader((job.outputs[0].parent / "training.csv").read_text().splitlines()))
    names = ("loss", "discriminator_loss", "r1", "r2")
    return np.array([[float(row[name]) for name in names if name in row] for row in rows])


def images(job: Job) -> torch.Tensor:
    """What the trained generator makes of fixed noise."""
    generator = load_generator(job.outputs[0].parent)
    random = torch.Generator().manual_seed(0)
    condition = generator.null_condition(16)
    with torch.no_grad():
        if not denoises(generator):
            return generator.generate(torch.randn(16, generator.latent_dim, generator=random), condition)
        return generator.denoise(torch.randn(16, 1, 8, 8, generator=random), torch.full((16,), 0.5), condition)


def environments(job: Job) -> list[tuple[int, int]]:
    """(first step, processes) of each part of a training, as the manifest says."""
    found = json.loads(job.outputs[0].read_text())["environments"]
    return [(part["from_step"], part["processes"]) for part in found]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["diffusion", "gan"])
def test_two_processes_equal_one(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two steps by one process, the other ten by two gloo processes: as all twelve by one."""
    whole = job_of(tmp_path / "one", family)
    train_family(whole)
    job = job_of(tmp_path / "two", family)
    killed_after(2, job, monkeypatch)
    process = start(job, monkeypatch)
    _, shown = process.communicate(timeout=540)
    assert process.returncode == 0, shown
    assert shown.count("resumed at step 2 of 12") == 1
    assert environments(job) == [(0, 1), (2, 2)]
    np.testing.assert_allclose(losses(job), losses(whole), rtol=LOSS_TOLERANCE[family])
    difference = (images(job) - images(whole)).abs().max()
    assert 0 < difference < OUTPUT_TOLERANCE  # 0: no second process took part


@pytest.mark.slow
def test_killed_stopped_and_resumed_with_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 160
    job = job_of(tmp_path, "diffusion", steps=steps, log_every=2, snapshots=[steps])
    process = start(job, monkeypatch)
    wait_for_state(job, process)
    second = next(pid for pid in children(process.pid) if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(second, signal.SIGKILL)
    _, shown = process.communicate(timeout=540)
    assert process.returncode == 1, shown
    assert [line for line in shown.splitlines() if "rror" in line] == [
        "error: process 2 of 2 was killed by SIGKILL (memory ran out?); run snakemake again to go on from the state "
        "saved"
    ]
    before = steps_saved(job)

    process = start(job, monkeypatch)
    while steps_saved(job) == before and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=540)
    assert process.returncode == EXIT_TERMINATED, shown
    (last,) = [line for line in shown.splitlines() if line.startswith("stopped: ")]
    stopped_at = max(steps_saved(job))
    assert last == f"stopped: state saved at step {stopped_at} of {steps}; run snakemake again to go on"

    train_family(job)
    assert environments(job) == [(0, 2), (stopped_at, 1)]
    assert losses(job)[-20:].mean() < losses(job)[:20].mean()


def test_uneven_batch_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    job = training_job(tmp_path, {})
    with pytest.raises(Exception, match="batch_size 8: not a multiple of the 3 processes"):
        train_family(job)


def wait_for_state(job: Job, process: subprocess.Popen[str]) -> None:
    while not steps_saved(job):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def steps_saved(job: Job) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in job.state_folder().glob("step-*.json")]


def children(pid: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
