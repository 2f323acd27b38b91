"""Descriptions of jobs that are too long for a command line: a file of a rule, in which each is a line.

A line is the digest of a description and the description; whoever knows the digest finds it. So a changed job adds a
line and leaves what the commands of its neighbours say as it was.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest

PACK = "job_pack"  # in a --job: the file that holds it; next to it its `digest`, and the job's code and identity


class JobPack:
    """The pack of a rule, written by the planner."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = {name for name, text in _lines(path) if digest(text) == name} if path.exists() else set[str]()

    def keep(self, text: str) -> str:
        """Add a description (one line) where it is not there; return its digest."""
        name = digest(text)
        if name not in self._held or not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as pack:
                fcntl.flock(pack, fcntl.LOCK_EX)  # two calls may plan at once
                pack.seek(max(0, pack.seek(0, os.SEEK_END) - 1))
                cut = pack.read(1) not in (b"", b"\n")  # a call was killed while it wrote
                pack.write(("\n" if cut else "").encode() + f"{name} {text}\n".encode())
            self._held.add(name)
        return name


def unpacked(path: Path, name: str) -> str:
    """Return the description of this digest; SynthGainError where it is gone or was changed."""
    reason = "is not in it"
    try:
        for held, text in _lines(path):
            if held == name:
                if digest(text) == name:
                    return text
                reason = "was changed"
    except (OSError, ValueError) as error:
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise SynthGainError(f"{path}: the job's description {reason}; delete the file, if it is there, and run again")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8") as pack:
        for line in pack:
            name, _, text = line.rstrip("\n").partition(" ")
            yield name, text
