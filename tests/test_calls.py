"""Calls of Snakemake in one folder: a dead one is told from a live one, and what it left is ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
from slurm_node import wait_for

from synthgain.runtime import calls
from synthgain.runtime.calls import CALLS, LOCKS, VARIABLE, Call, end_own_jobs, enter, is_dead, leave, this_call

FOLDER = "a folder"
POLITE = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
PATIENT = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {POLITE}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / FOLDER).mkdir()
    monkeypatch.chdir(tmp_path / FOLDER)
    return tmp_path / FOLDER


@pytest.fixture
def dead() -> Call:
    """A call whose process is gone, written down, with a lock."""
    process = subprocess.Popen([sys.executable, "-c", POLITE], stdout=subprocess.DEVNULL)
    call = replace(this_call(), pid=process.pid, started=psutil.Process(process.pid).create_time())
    process.kill()
    process.wait()
    write_down(call)
    lock()
    return call


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it may go between any two looks
        return False


def write_down(call: Call) -> None:
    CALLS.mkdir(parents=True, exist_ok=True)
    (CALLS / f"{call.name}.json").write_text(json.dumps(asdict(call)))


def lock() -> None:
    LOCKS.mkdir(parents=True, exist_ok=True)
    (LOCKS / "0.output.lock").write_text("results/x")


def locked() -> bool:
    return LOCKS.exists() and any(LOCKS.iterdir())


@pytest.fixture
def jobs() -> Iterator[list[int]]:
    started: list[int] = []
    yield started
    for pid in started:
        if runs(pid):
            os.kill(pid, signal.SIGKILL)


def job(call: Call, code: str = POLITE) -> int:
    """Start a job as Snakemake does, in a shell; return the number of its script's process."""
    command = f"set -euo pipefail;  {sys.executable} -c '{code}'; true"
    environment = {**os.environ, VARIABLE: call.name}
    process = subprocess.Popen(["bash", "-c", command], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_a_process_that_runs_is_alive() -> None:
    assert not is_dead(this_call())


def test_a_process_that_is_gone_is_dead(dead: Call) -> None:
    assert is_dead(dead)


def test_a_process_of_which_nobody_took_leave_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    call = replace(this_call(), pid=process.pid, started=psutil.Process(process.pid).create_time())
    wait_for("its end", lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert is_dead(call)
    process.wait()


def test_another_process_with_its_number_is_not_it() -> None:
    assert is_dead(replace(this_call(), started=1.0))


def test_a_machine_started_anew_runs_none_of_them() -> None:
    assert is_dead(replace(this_call(), boot="of yesterday"))


@pytest.mark.parametrize(
    "other", [{"host": "another"}, {"host": "another", "boot": "its"}, {"space": "of a container"}]
)
def test_where_nobody_can_look_a_call_counts_as_alive(other: dict[str, str]) -> None:
    call = replace(this_call(), pid=999_999_999, **other)
    write_down(call)
    lock()
    found = enter(this_call(), print)
    assert found.live == (call,)
    assert locked()


def test_the_lock_of_a_dead_call_goes(dead: Call) -> None:
    found = enter(this_call(), print)
    assert (found.dead, found.live, found.unlocked) == ((dead,), (), True)
    assert not locked()
    assert not (CALLS / f"{dead.name}.json").exists()


def test_the_lock_stays_while_any_call_is_alive(dead: Call) -> None:
    alive = replace(this_call(), pid=os.getppid(), started=psutil.Process(os.getppid()).create_time())
    write_down(alive)
    found = enter(this_call(), print)
    assert found.live == (alive,)
    assert not found.unlocked
    assert locked()


def test_a_lock_of_which_nothing_is_known_stays() -> None:
    """It may be that of a Snakemake without our records: its own words tell how to go on."""
    lock()
    assert not enter(this_call(), print).unlocked
    assert locked()


def test_of_two_calls_that_find_a_dead_one_the_second_sees_the_first(dead: Call) -> None:
    first = replace(this_call(), pid=os.getppid(), started=psutil.Process(os.getppid()).create_time())
    assert enter(first, print).unlocked
    lock()  # the first takes it
    second = enter(this_call(), print)
    assert second.live == (first,)
    assert locked()


def test_a_call_that_ends_by_itself_is_forgotten() -> None:
    call = this_call()
    enter(call, print)
    assert [path.stem for path in CALLS.glob("*.json")] == [call.name]
    leave(replace(call, pid=1))  # a fork of its process is not it
    assert list(CALLS.glob("*.json"))
    leave(call)
    assert not list(CALLS.glob("*.json"))


def test_half_a_record_is_none() -> None:
    CALLS.mkdir(parents=True)
    (CALLS / "a.json").write_text('{"host": ')
    assert enter(this_call(), print).live == ()


def test_jobs_of_a_dead_call_are_asked_to_leave(dead: Call, jobs: list[int]) -> None:
    jobs += [job(dead), job(dead)]
    other = job(replace(dead, pid=1))
    jobs.append(other)
    said: list[str] = []
    assert enter(this_call(), said.append).ended == 2
    assert "2 jobs it started still run" in said[0]
    assert [runs(pid) for pid in jobs] == [False, False, True]


def test_a_job_that_does_not_leave_is_killed(dead: Call, jobs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SAVE_SECONDS", 1.0)
    jobs.append(job(dead, PATIENT))
    assert enter(this_call(), print).ended == 1
    assert not runs(jobs[0])


def test_a_call_can_end_its_own_jobs(jobs: list[int]) -> None:
    call = this_call()
    jobs.append(job(call))
    end_own_jobs(call)
    wait_for("its end", lambda: not runs(jobs[0]))


def test_the_shell_of_a_job_stays_until_its_script_has_left(jobs: list[int]) -> None:
    """So that Snakemake waits until the state is saved."""
    call = this_call()
    jobs.append(job(call, PATIENT))
    end_own_jobs(call)
    shell = psutil.Process(jobs[0]).parent()
    assert shell is not None
    assert shell.name() == "bash"
    assert shell.is_running()


def test_slurm_jobs_of_a_dead_call_are_cancelled(dead: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a Snakemake gave to Slurm in this very folder; nobody else's."""
    run = "123e4567-e89b-12d3-a456-426614174000"
    programs, cancelled = folder.parent / "bin", folder.parent / "cancelled"
    programs.mkdir()
    lines = [
        f"11|RUNNING|{run}|{folder}",
        f"12|PENDING|{run}|{folder}",
        f"13|RUNNING|{run}|{folder.parent}",  # another clone's
        f"14|RUNNING|bash|{folder}",  # the user's own
        f"15|COMPLETED|{run}|{folder}",
    ]
    text = "\n".join(lines)
    (programs / "squeue").write_text(f"#!/bin/sh\n[ -e '{cancelled}' ] || echo '{text}'\n")
    (programs / "scancel").write_text(f"#!/bin/sh\necho \"$@\" > '{cancelled}'\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    write_down(replace(dead, sends=True))
    assert enter(this_call(sends=True), print).ended == 2
    assert cancelled.read_text().split() == ["11", "12"]
