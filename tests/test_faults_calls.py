"""A study is stopped in every way there is, and the same command goes on.

One story, since each call loads the libraries: a generator that trains for ever is stopped by Ctrl-C, by `kill -INT` of
Snakemake alone, by `kill -9` of Snakemake alone, and by closing its terminal; each time the same command goes on where
it was. Nothing is unlocked, deleted or waited for by hand.
"""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml
from slurm_node import wait_for
from studies import tiny
from workshop import Workshop, new_workshop

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

PATIENCE = 600.0  # seconds, on a busy machine
FOREVER = 10**6
TARGET = "results/tiny/generators/ddpm/0/manifest.json"
COMMAND = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--cores", "1", TARGET]


@dataclass
class Stop:
    """One call and its end.

    job: the process that trained; resumed: from which step, 0 for the first; saved: the last that was saved.
    """

    said: str
    code: int
    job: int
    resumed: int
    saved: int
    job_ran_on: bool
    locked: bool


@dataclass
class Story:
    """What was seen of each call."""

    shop: Workshop
    stops: dict[str, Stop] = field(default_factory=dict)
    second: str = ""  # what a second call beside a live one says
    first_lived: bool = False


def trainings(folder: Path) -> list[int]:
    """Return the processes that train a generator in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            ended = process.status() == psutil.STATUS_ZOMBIE
            if len(command) > 1 and command[1].endswith("train_generator.py") and process.cwd() == str(folder):
                found += [] if ended else [process.pid]
        except psutil.Error:
            continue
    return found


def start(shop: Workshop, log: Path) -> subprocess.Popen[bytes]:
    """Start the command at a terminal of its own, as a person does; what it says goes to `log` as well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNTHGAIN_")}
    with log.open("wb") as output:
        return subprocess.Popen(
            COMMAND,
            cwd=shop.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # not ignored: a terminal's
        )


def until_saved(story: Story, alive: Callable[[], bool], log: Path) -> int:
    """Wait until a training of this call alone runs and has saved a step of its own; return its process."""
    shop = story.shop
    earlier = {stop.job for stop in story.stops.values()}
    found: list[int] = []

    def saved() -> bool:
        assert alive(), log.read_text(errors="replace")[-4000:]
        found[:] = trainings(shop.folder)
        begun = len(found) == 1 and found[0] not in earlier
        return begun and shop.saved_step() > (resumed_step(shop) if story.stops else 0)

    wait_for("training that has saved", saved, PATIENCE)
    return found[0]


def resumed_step(shop: Workshop) -> int:
    """Return the step from which the training that runs went on; one out of reach where it has not said so yet."""
    return (shop.resumed_steps() or [FOREVER])[-1]


def stopped(story: Story, name: str, stop: Callable[[int], None]) -> None:
    """Start the command, wait until it has saved more, stop it with `stop(pid)`, and note what is left."""
    shop, log = story.shop, story.shop.folder.parent / f"{name}.log"
    process = start(shop, log)
    try:
        job = until_saved(story, lambda: process.poll() is None, log)
        if name == "kill -INT":  # while it runs, another call is refused
            story.second = shop.snakemake("--cores", "1", TARGET, check=False)
            story.first_lived = process.poll() is None and trainings(shop.folder) == [job]
        stop(process.pid)
        code = process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    note(story, name, log.read_text(errors="replace"), code, job)


def note(story: Story, name: str, said: str, code: int, job: int) -> None:
    locks = story.shop.folder / ".snakemake" / "locks"
    story.stops[name] = Stop(
        said=said,
        code=code,
        job=job,
        resumed=(story.shop.resumed_steps() or [0])[-1],
        saved=story.shop.saved_step(),
        job_ran_on=job in trainings(story.shop.folder),
        locked=locks.exists() and any(locks.iterdir()),
    )


def terminal_closed(story: Story) -> None:
    """Start the command as the first process of a terminal, and close the terminal."""
    shop, log = story.shop, story.shop.folder.parent / "closed terminal.log"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(shop.folder)
        for name in [name for name in os.environ if name.startswith("SYNTHGAIN_")]:
            del os.environ[name]
        os.execv(COMMAND[0], COMMAND)
    said = b""
    os.set_blocking(terminal, False)

    def alive() -> bool:
        nonlocal said
        with contextlib.suppress(BlockingIOError):
            said += os.read(terminal, 1 << 16)
        log.write_bytes(said)
        return os.waitpid(pid, os.WNOHANG) == (0, 0)

    job = until_saved(story, alive, log)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    note(story, "closed terminal", said.decode(errors="replace"), status, job)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Everything that happens, once."""
    shop = new_workshop(tmp_path_factory.mktemp("calls"))
    training = {"steps": FOREVER, "batch_size": 8, "snapshots": [FOREVER], "save_every_seconds": 0.5}
    (shop.folder / "tiny.yaml").write_text(yaml.safe_dump(tiny(generators__ddpm__training=training)))
    told = Story(shop)
    stopped(told, "Ctrl-C", lambda pid: os.killpg(pid, signal.SIGINT))  # a terminal's reaches the jobs as well
    stopped(told, "kill -INT", lambda pid: os.kill(pid, signal.SIGINT))
    stopped(told, "kill -9", lambda pid: os.kill(pid, signal.SIGKILL))
    terminal_closed(told)
    stopped(told, "the last", lambda pid: os.killpg(pid, signal.SIGINT))
    return told


WAYS = ("Ctrl-C", "kill -INT", "kill -9", "closed terminal")


@pytest.mark.parametrize("way", WAYS)
def test_the_same_command_goes_on_after(way: str, story: Story) -> None:
    """From the last step that was saved, which after all but `kill -9` is the last that was trained."""
    after = list(story.stops.values())[WAYS.index(way) + 1]
    assert after.resumed >= story.stops[way].saved > 0
    assert "IncompleteFiles" not in after.said
    assert "cannot be locked" not in after.said
    assert "Traceback" not in after.said


@pytest.mark.parametrize("way", ["Ctrl-C", "kill -INT", "closed terminal"])
def test_no_job_and_no_lock_is_left_by(way: str, story: Story) -> None:
    assert not story.stops[way].job_ran_on
    assert not story.stops[way].locked
    assert story.stops[way].code != 0


@pytest.mark.parametrize("way", ["Ctrl-C", "kill -INT"])
def test_a_call_that_was_stopped_says_how_to_go_on(way: str, story: Story) -> None:
    last = story.stops[way].said.strip().splitlines()[-1]
    assert re.match(r"stopped: \d of \d jobs? done; to go on, run the same command again", last), story.stops[way].said
    assert '{"code"' not in story.stops[way].said


def test_the_job_of_a_killed_call_is_ended_by_the_next(story: Story) -> None:
    killed = story.stops["kill -9"]
    assert killed.job_ran_on
    assert killed.locked
    after = story.stops["closed terminal"].said
    assert "1 job it started still run: ending them" in after
    assert "the lock of a call that was killed is gone" in after


def test_a_second_call_beside_a_live_one_is_refused_in_one_line(story: Story) -> None:
    errors = [line for line in story.second.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: another snakemake works in this folder (process ")
    assert "Traceback" not in story.second
    assert story.first_lived
