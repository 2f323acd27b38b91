"""Calls of Snakemake in one folder: which still run, and what one that was killed has left: lock, jobs, Slurm jobs.

Each call writes down who it is (machine, process, when that started) and hands its name to its jobs in their
environment, so that the next call can tell a dead one from a live one and find the jobs of the dead.
"""

import atexit
import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

VARIABLE = "SYNTHGAIN_CALL"
CALLS = Path(".snakemake") / "synthgain_running"
LOCKS = Path(".snakemake") / "locks"  # Snakemake's own
SAVE_SECONDS = 60.0  # that a job has to save its state and leave, before it is killed
LOOK_SECONDS = 0.2
SLURM_SECONDS = 120.0  # that Slurm has to end jobs: it gives them 30 s (KillWait) and looks once in a while
SAME_START_SECONDS = 2.0
SHELLS = ("bash", "sh", "dash")
RUN_OF_SNAKEMAKE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # what its Slurm jobs are called


@dataclass(frozen=True)
class Call:
    """A call of Snakemake.

    host: the machine, with its boot and process space; started: Unix time, s; sends: jobs to a cluster.
    """

    host: str
    boot: str
    space: str
    pid: int
    started: float
    sends: bool

    @property
    def name(self) -> str:
        """What its jobs find in their environment, and the stem of its file."""
        return f"{self.host}-{self.pid}-{self.started:.2f}"

    @property
    def words(self) -> str:
        """Who it is, for people."""
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.started))
        return f"process {self.pid} on {self.host}, since {since}"


@dataclass(frozen=True)
class Others:
    """What `enter` found. live: calls that run, or may run where they cannot be seen; ended: how many jobs it ended."""

    live: tuple[Call, ...] = ()
    dead: tuple[Call, ...] = ()
    ended: int = 0
    unlocked: bool = False


def this_call(sends: bool = False) -> Call:
    """Return the call that this process is."""
    host, boot, space = _here()
    return Call(host, boot, space, os.getpid(), psutil.Process().create_time(), sends)


def enter(call: Call, say: Callable[[str], None]) -> Others:
    """Write down `call`, end what dead calls left running, and take away their lock where no other call may run.

    Of two calls that come at once the second sees the first: who looks has written himself down before.
    """
    CALLS.mkdir(parents=True, exist_ok=True)
    with _alone():
        found = [other for other in _written_down() if other.name != call.name]
        (CALLS / f"{call.name}.json").write_text(json.dumps(asdict(call)))
        atexit.register(leave, call)
        dead = tuple(other for other in found if is_dead(other))
        live = tuple(other for other in found if other not in dead)
        ended = sum(_end_jobs_of(other, say) for other in dead)
        if dead and not live and any(other.sends for other in dead):
            ended += _end_slurm_jobs(say)
        unlocked = bool(dead) and not live and _has_locks()
        if unlocked:
            shutil.rmtree(LOCKS)
            LOCKS.mkdir()
        for other in dead:
            (CALLS / f"{other.name}.json").unlink(missing_ok=True)
    return Others(live, dead, ended, unlocked)


def leave(call: Call) -> None:
    """Forget a call that ends by itself; in a fork of its process nothing."""
    if os.getpid() == call.pid:
        (CALLS / f"{call.name}.json").unlink(missing_ok=True)


def is_dead(call: Call) -> bool:
    """True where a call certainly runs no more; one on another machine counts as alive: nobody here can tell."""
    host, boot, space = _here()
    if call.host != host:
        return False
    if call.boot != boot:  # the machine was started anew
        return True
    if call.space != space:  # of a container, say
        return False
    try:
        process = psutil.Process(call.pid)
        if not _runs(process):
            return True
        if abs(process.create_time() - call.started) <= SAME_START_SECONDS:
            return False
        # Times move when a clock is set: a Snakemake in this folder with that number is the one that was written down.
        return not ("snakemake" in " ".join(process.cmdline()) and process.cwd() == os.getcwd())
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def end_own_jobs(call: Call) -> None:
    """Ask the jobs of this call on this machine to save and leave."""
    for process in _outermost(_jobs_of(call)):
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)


def _end_jobs_of(call: Call, say: Callable[[str], None]) -> int:
    """End the jobs that a dead call left on this machine, asked first, killed if they stay. Return their number."""
    left = _jobs_of(call)
    jobs = _outermost(left)
    if not jobs:
        return 0
    say(f"the call before this one was killed ({call.words}); {_counted(len(jobs))} it started still run: ending them")
    for process in jobs:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    for process in _still_there(left, SAVE_SECONDS):
        with contextlib.suppress(psutil.Error):
            process.kill()
    _still_there(left, SAVE_SECONDS)
    return len(jobs)


def _still_there(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait at most `seconds` for the ends of processes; return those that run on."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return left


def _runs(process: psutil.Process) -> bool:
    """False also for one that has ended and of which its parent took no leave, as in many containers."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _jobs_of(call: Call) -> list[psutil.Process]:
    """Return the processes that carry the call's name: shells, scripts and what these have started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != call.pid and process.environ().get(VARIABLE) == call.name:
                found.append(process)
    return found


def _outermost(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the scripts themselves: not the shells around them, which would leave without them, nor their children."""
    scripts = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.name() not in SHELLS:
                scripts[process.pid] = process
    outer = []
    for process in scripts.values():
        with contextlib.suppress(psutil.Error):
            if process.ppid() not in scripts:
                outer.append(process)
    return outer


def _end_slurm_jobs(say: Callable[[str], None]) -> int:
    """Cancel the jobs of Snakemake that Slurm holds for this folder, and wait for their ends. Return how many."""
    jobs = _slurm_jobs()
    if not jobs:
        return 0
    say(f"the call before this one was killed; Slurm still holds {_counted(len(jobs))} of it: cancelling them")
    subprocess.run(["scancel", *jobs], capture_output=True)
    deadline = time.monotonic() + SLURM_SECONDS
    while _slurm_jobs() and time.monotonic() < deadline:
        time.sleep(1.0)
    return len(jobs)


def _slurm_jobs() -> list[str]:
    """Return the numbers of the jobs that a Snakemake started in this folder gave to Slurm and that have not ended."""
    if shutil.which("squeue") is None:
        return []
    words = ["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%j|%Z"]
    done = subprocess.run(words, capture_output=True, text=True)
    jobs = []
    for line in done.stdout.splitlines():
        number, state, name, folder = [*line.split("|", 3), "", "", ""][:4]
        here = folder.strip() == os.getcwd() and RUN_OF_SNAKEMAKE.fullmatch(name)
        if here and state in ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING", "REQUEUED"):
            jobs.append(number)
    return jobs


def _counted(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def _has_locks() -> bool:
    return LOCKS.is_dir() and any(LOCKS.iterdir())


def _written_down() -> Iterator[Call]:
    for path in sorted(CALLS.glob("*.json")):
        try:
            yield Call(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):  # half written, as by a full disk: nothing can be told from it
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Of the calls on this file system one at a time is within."""
    with (CALLS / "lock").open("w") as handle:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _here() -> tuple[str, str, str]:
    """Return what this machine is called, which boot of it this is, and its process space; empty where not known."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return (
        platform.node(),
        boot.read_text().strip() if boot.exists() else "",
        os.readlink(space) if space.is_symlink() else "",
    )
