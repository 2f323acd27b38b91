"""Faults of a whole study: two calls at once, a killed call, results that moved, data that cannot be written."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from workshop import Workshop

pytestmark = [pytest.mark.slow, pytest.mark.workflow]
PATIENCE_SECONDS = 600


def restyle(shop: Workshop) -> None:
    """Make the figures and the report due again."""
    shop.append("workflow_scripts/synthgain/report/figures/style.py", "\nCHANGED = True\n")


def start(shop: Workshop) -> subprocess.Popen[str]:
    """Start the study in the background and wait until Snakemake holds its lock and a job runs."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", "--config", f"data_root={shop.data}"]
    log = (shop.folder / "first.log").open("w")
    process = subprocess.Popen(
        [*command, "--cores", "1"], cwd=shop.folder, stdout=log, stderr=log, text=True, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list((shop.folder / ".snakemake" / "incomplete").glob("*")):
        assert process.poll() is None, (shop.folder / "first.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_two_calls_at_once(built: Workshop, tmp_path: Path) -> None:
    """The second is told that there is a first, and changes nothing; the first ends well."""
    shop = built.copy(tmp_path)
    restyle(shop)
    first = start(shop)
    try:
        second = shop.snakemake("--cores", "1", check=False)
        assert "error: another snakemake works in this folder (process" in second
        assert "Traceback" not in second
        assert first.wait(timeout=PATIENCE_SECONDS) == 0, (shop.folder / "first.log").read_text()
    finally:
        first.kill()
    assert shop.plan() == {}


def test_after_a_call_was_killed_with_its_jobs_the_same_command_goes_on(built: Workshop, tmp_path: Path) -> None:
    shop = built.copy(tmp_path)
    restyle(shop)
    first = start(shop)
    os.killpg(first.pid, signal.SIGKILL)  # with its jobs, as when the power fails
    first.wait()
    assert set(shop.plan()) <= {"draw_figures", "write_report"}
    shop.snakemake("--cores", "2", "--quiet", "all")
    assert shop.plan() == {}


def test_moved_results_are_the_same_results(built: Workshop, tmp_path: Path) -> None:
    """The whole clone renamed, then its results on another disk behind a link: nothing is due, nothing differs."""
    built.copy(tmp_path)
    (tmp_path / "repository").rename(tmp_path / "renamed clone")
    shop = Workshop(tmp_path / "renamed clone")
    assert shop.plan() == {}
    assert "0 differ" in shop.snakemake("--cores", "1", "verify", "--quiet", "all")
    shutil.move(shop.folder / "results", tmp_path / "big disk")
    (shop.folder / "results").symlink_to(tmp_path / "big disk")
    assert shop.plan() == {}
    assert "0 differ" in shop.snakemake("--cores", "1", "verify", "--quiet", "all")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody can write into the folder, not even root."""
    ways = (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)])
    for way in ways:
        mounted = subprocess.run(["mount", *way], capture_output=True, text=True)
        if mounted.returncode != 0:
            pytest.skip(f"no right to mount here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_data_that_cannot_be_written_are_read(built: Workshop, tmp_path: Path) -> None:
    shop = built.copy(tmp_path)
    prepared = "results/tiny/datasets/clinic"
    before = (shop.folder / prepared / "images.npy").read_bytes()
    shutil.rmtree(shop.folder / prepared)
    with read_only(tmp_path / "data"):
        with pytest.raises(OSError, match=r"[Rr]ead-only"):
            (tmp_path / "data" / "clinic" / "new.txt").touch()
        shop.snakemake("--cores", "1", f"{prepared}/manifest.json")
        assert "0 differ" in shop.snakemake("--cores", "1", "verify", "--quiet", "all")
    assert (shop.folder / prepared / "images.npy").read_bytes() == before
