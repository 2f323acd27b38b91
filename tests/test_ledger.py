"""The ledger: lines are chained, whoever changes one is found out, and killed or concurrent appends break nothing."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from synthgain.runtime.ledger import NAME, Mark, append, read_ledger

SCRIPTS = Path(__file__).parent.parent / "workflow_scripts"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for number in range(4):
        append(tmp_path, {"look": number, "p": 0.1 * number})
    return tmp_path


def lines(run: Path) -> list[bytes]:
    return (run / NAME).read_bytes().splitlines(keepends=True)


def test_lines_are_numbered_and_chained(run: Path) -> None:
    found = read_ledger(run)
    assert found.problems == []
    assert [entry["line"] for entry in found.entries] == [0, 1, 2, 3]
    assert [entry["previous"] for entry in found.entries[1:]] == [entry["hash"] for entry in found.entries[:-1]]


def changed(found: list[bytes]) -> list[bytes]:
    return [found[0], found[1].replace(b'"p":0.1', b'"p":0.2'), *found[2:]]


def rewritten(found: list[bytes]) -> list[bytes]:
    """Changed, with a hash that fits again: the next line knows better."""
    import hashlib

    entry = json.loads(found[1]) | {"p": 0.7}
    body = {key: value for key, value in entry.items() if key != "hash"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    entry["hash"] = hashlib.sha256(text.encode()).hexdigest()
    return [found[0], json.dumps(entry).encode() + b"\n", *found[2:]]


TAMPERED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "changed": (changed, "line 2 was changed after it was written"),
    "rewritten": (rewritten, "line 3 does not follow the one before it"),
    "removed": (lambda found: [found[0], *found[2:]], "line 2 was written as line 3: a line before it was removed"),
    "first removed": (lambda found: found[1:], "line 1 was written as line 2"),
    "reordered": (lambda found: [found[0], found[2], found[1], found[3]], "line 2 was written as line 3"),
    "no line": (lambda found: [found[0], b"{}\n", *found[2:]], "line 2 is no line of a ledger"),
    "text": (lambda found: [found[0], b"\xff\xfe[\n", *found[2:]], "line 2 is no line of a ledger"),
    "twice": (lambda found: [*found, found[3]], "line 5 was written as line 4"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_named(run: Path, name: str) -> None:
    change, said = TAMPERED[name]
    (run / NAME).write_bytes(b"".join(change(lines(run))))
    assert said in read_ledger(run).problems[0]


@pytest.mark.parametrize("kept", [0, 2])
def test_a_ledger_that_was_cut_is_known_by_those_who_name_its_lines(run: Path, kept: int) -> None:
    last = read_ledger(run).last
    (run / NAME).write_bytes(b"".join(lines(run)[:kept]))
    assert read_ledger(run).problems == []  # by itself it cannot be known
    (problem,) = read_ledger(run, [("statistics/cnn", last)]).problems
    assert "line 4, of which statistics/cnn was written, is not there any more" in problem
    (run / NAME).unlink()
    assert read_ledger(run, [("statistics/cnn", last)]).problems


def test_a_line_follows_a_broken_chain_which_stays_broken(run: Path) -> None:
    (run / NAME).write_bytes(b"".join(changed(lines(run))))
    before = read_ledger(run).problems
    append(run, {"look": 4})
    assert read_ledger(run).problems == before


@pytest.mark.parametrize("left", [1, 40])
def test_what_a_killed_append_left_is_recognised_and_mended(run: Path, left: int) -> None:
    whole = (run / NAME).read_bytes()
    line = lines(run)[3]
    (run / NAME).write_bytes(whole + line[:left])
    found = read_ledger(run)
    assert (len(found.entries), found.cut, found.broken) == (4, left, ())
    assert "an append was killed" in found.problems[0]
    assert append(run, {"look": 4}).line == 4
    found = read_ledger(run)
    assert found.problems == []
    assert found.entries[-1]["mended"] == left
    assert (run / NAME).read_bytes().startswith(whole)


def test_killed_appends_leave_a_chain_that_goes_on(tmp_path: Path) -> None:
    """SIGKILL while a process appends without pause."""
    code = (
        "from pathlib import Path; from synthgain.runtime.ledger import append\n"
        f"while True: append(Path({str(tmp_path)!r}), {{'text': 'x' * 5000}})"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
        count = len(read_ledger(tmp_path).entries)
        while len(read_ledger(tmp_path).entries) < count + 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        append(tmp_path, {"text": "after"})
    assert read_ledger(tmp_path).problems == []


def _many(folder: str) -> None:
    for number in range(25):
        append(Path(folder), {"writer": os.getpid(), "number": number})


def test_concurrent_appends_wait_for_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_many, args=(str(tmp_path),)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = read_ledger(tmp_path)
    assert found.problems == []
    assert len(found.entries) == 100


def test_an_empty_folder_has_an_empty_ledger(tmp_path: Path) -> None:
    found = read_ledger(tmp_path / "none")
    assert (found.entries, found.problems, found.last) == ((), [], Mark(-1, "0" * 64))
