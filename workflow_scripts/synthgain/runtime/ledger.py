"""The ledger of a run: every look at its results, one line each, chained by hashes. Lines are only ever added.

A line is JSON: `line` (its number, from 0), `previous` (hash of the line before), `hash` (of all else in the line), and
what was looked at. It is no output of a rule, since Snakemake deletes outputs before a job runs again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import canonical_json

NAME = "ledger.jsonl"
START = "0" * 64  # the hash before the first line


class Comparison(TypedDict):
    """A declared comparison of a model."""

    model: str
    arm: str
    ratio: int
    metric: str
    labels: str
    test_set: str


class DeclaredComparison(Comparison):
    """A declared comparison, and what its arm is held against."""

    baseline: str


class Named(TypedDict):
    """The protocol in force at a look."""

    number: int
    sha256: str


class Facts(TypedDict):
    """What was looked at, and what was found (`statistics/looking.py`); a number that is not known is null."""

    date: str
    kind: str
    look: int
    unplanned: str
    protocol: Named | None
    comparison: DeclaredComparison
    replicates: int
    predictions: list[str]
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    level: float
    verdict: str | None
    decided: bool


class Line(Facts):
    """A line of the ledger. mended: bytes of a killed append that were dropped before it."""

    line: int
    previous: str
    hash: str
    mended: NotRequired[int]


@dataclass(frozen=True)
class Mark:
    """Names a line, for whoever must know that it is still there."""

    line: int
    hash: str


@dataclass(frozen=True)
class Ledger:
    """What a ledger holds. entries: its lines as written; broken: what is wrong with their chain, a sentence each.

    whole: bytes up to the end of the last line that was written to its end; cut: bytes after that, of a killed append.
    """

    path: Path
    entries: tuple[Line, ...] = ()
    broken: tuple[str, ...] = ()
    whole: int = 0
    cut: int = 0

    @property
    def last(self) -> Mark:
        """The line that the next one is chained to."""
        if not self.entries:
            return Mark(-1, START)
        return Mark(self.entries[-1]["line"], self.entries[-1]["hash"])

    @property
    def problems(self) -> list[str]:
        """What is wrong, a killed append included, which the next look mends."""
        killed = f"{self.path}: its last line is not whole (an append was killed); the next look mends it"
        return [*self.broken, *([killed] if self.cut else [])]


def read_ledger(folder: Path, marks: Iterable[tuple[str, Mark]] = ()) -> Ledger:
    """Read the ledger of a run and say what is wrong with its chain; an empty one where there is none.

    marks: (who names it, line) of lines that must be there: how a ledger is known that was cut, or written anew.
    """
    path = folder / NAME
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    entries: list[Line] = []
    broken, previous = [], START
    for place, text in enumerate(content[:whole].splitlines()):
        entry = _line(text)
        if entry is None:
            broken.append(f"{path}: line {place + 1} is no line of a ledger")
            continue
        if entry["hash"] != _hash(entry):
            broken.append(f"{path}: line {place + 1} was changed after it was written")
        elif entry["line"] != place or entry["previous"] != previous:
            broken.append(f"{path}: {_misplaced(place, entry['line'])}")
        previous = entry["hash"]
        entries.append(entry)
    there = {entry["hash"] for entry in entries}
    for who, mark in marks:
        if mark.hash not in there:
            broken.append(f"{path}: line {mark.line + 1}, of which {who} was written, is not there any more")
    return Ledger(path, tuple(entries), tuple(broken), whole, len(content) - whole)


def _line(text: bytes) -> Line | None:
    try:
        entry = json.loads(text)
        typed = all(isinstance(entry[key], kind) for key, kind in (("line", int), ("previous", str), ("hash", str)))
    except (ValueError, KeyError, TypeError):
        return None
    return cast("Line", entry) if typed else None  # the other keys are as its writer left them


def _misplaced(place: int, number: int) -> str:
    if number == place:
        return f"line {place + 1} does not follow the one before it, which was changed, removed or put elsewhere"
    moved = "a line before it was removed, or their order changed" if number > place else "the order was changed"
    return f"line {place + 1} was written as line {number + 1}: {moved}"


def append(folder: Path, facts: Facts) -> Mark:
    """Add a line of these facts and return its mark; it is on disk when this returns.

    One writer at a time, others wait. What a killed append left of a line is dropped, and the new line says so
    (`mended`: bytes). A chain that is broken stays so: the new line follows the last one that can be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    with path.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # let go when the file is closed, or the process dies
        found = read_ledger(folder)
        entry: Line = {**facts, "line": found.last.line + 1, "previous": found.last.hash, "hash": ""}
        if found.cut:
            handle.truncate(found.whole)
            entry["mended"] = found.cut
        entry["hash"] = _hash(entry)
        try:
            handle.write(canonical_json(entry).encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        except OSError as error:
            raise SynthGainError(f"{path}: not written ({error.strerror}); free some space and run again") from error
    return Mark(entry["line"], entry["hash"])


def sha256_of(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _hash(entry: Line) -> str:
    return sha256_of({key: value for key, value in entry.items() if key != "hash"})
