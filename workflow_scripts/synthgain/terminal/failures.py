"""What a failed job said: the one clear line in its log."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synthgain.runtime.files import no_space_left

TAIL_BYTES = 1 << 16
LONGEST = 600  # characters of one line on the terminal
ERROR_LINE = re.compile(r"(?:^|ERROR )error: (.+)$")
# As `runtime.command.Progress` writes it.
PROGRESS = re.compile(r"\] \d+/\d+ \((?P<share>\d+) %(?:, (?P<of_job>\d+) % of the job)?\)(?P<before> done before$)?")
SLURM_STATE = re.compile(r"SLURM status is: '(\w+)'|status[: ]+'?(OUT_OF_MEMORY|TIMEOUT|NODE_FAIL|CANCELLED|FAILED)")


@dataclass
class Try:
    """A job that runs. number: Snakemake's; what: in words; logs: its files; start: their sizes when it began.

    done, earlier: how much of it is done, and was before this call, as far as it was seen (0 … 1).
    """

    number: int
    rule: str
    what: str
    logs: tuple[Path, ...]
    start: dict[Path, int] = field(default_factory=dict)
    done: float | None = None
    earlier: float = 0.0

    def __post_init__(self) -> None:
        self.start = {log: _size(log) for log in self.logs}

    def said(self) -> list[str]:
        """Return the last lines that this try has written to its logs."""
        lines: list[str] = []
        for log in self.logs:
            begin = self.start[log] if self.start[log] <= _size(log) else 0
            try:
                with log.open("rb") as handle:
                    handle.seek(max(begin, _size(log) - TAIL_BYTES))
                    lines += handle.read().decode("utf-8", errors="replace").splitlines()
            except OSError:
                continue
        return lines

    def look(self) -> float | None:
        """Return how much of itself the job says is done, 0 … 1; None as long as it has not said so.

        What an earlier run had done of it is kept as `earlier`.
        """
        for line in self.said():
            match = PROGRESS.search(line)
            if match is not None:
                self.done = int(match["of_job"] or match["share"]) / 100
                self.earlier = self.done if match["before"] else self.earlier
        return self.done

    @property
    def group(self) -> tuple[str, str]:
        """The job's group in the forecast: its rule, and the names among its wildcards, as its log has them."""
        parts = self.logs[0].stem.split("-") if self.logs else []
        return self.rule, " ".join(part for part in parts if not part.isdigit() and parts != ["all"])


@dataclass(frozen=True)
class Failure:
    """A job that failed. line: why, in one line; log: where more is."""

    what: str
    line: str
    log: str


def failure(job: Try, told: str, more: Sequence[str] = ()) -> Failure:
    """Return why a job failed. told: what its executor said; more: further logs, such as Slurm's."""
    further = [Path(path) for path in more if Path(path) not in job.logs]
    said = job.said() + [line for path in further for line in _tail(path)]
    found = [match[1] for line in said if (match := ERROR_LINE.search(line))]
    log = str(job.logs[0]) if job.logs else ""
    if found:
        return Failure(job.what, shortened(found[-1]), log)
    state = SLURM_STATE.search(told)
    ended = f"ended by Slurm ({state[1] or state[2]})" if state else "ended without a word"
    ended += " at its time limit" if "TIMEOUT" in ended else ""
    if no_space_left(Path.cwd()) or (job.logs and no_space_left(job.logs[0].parent)):
        return Failure(job.what, f"{ended}: no space left on the disk; free some and run again", log)
    last = _last_words(job.said())
    killed = "" if "TIMEOUT" in ended else ", as a job that is killed or runs out of memory"
    hint = f"; its last words: {last}" if last else killed
    return Failure(job.what, shortened(f"{ended}{hint}"), log or ", ".join(more))


def summary(failures: Sequence[Failure], lines: int = 8) -> list[str]:
    """Return the failures in at most `lines` lines, the same reason once."""
    by_line: dict[str, list[Failure]] = {}
    for one in failures:
        by_line.setdefault(one.line, []).append(one)
    told: list[str] = []
    shown = min(len(by_line), max(1, lines // 2)) if 2 * len(by_line) <= lines else max(1, (lines - 1) // 2)
    for line, jobs in list(by_line.items())[:shown]:
        others = f", and {len(jobs) - 1} more" if len(jobs) > 1 else ""
        told += [f"error: {line}", f"  in: {jobs[0].what}{others}" + (f" ({jobs[0].log})" if jobs[0].log else "")]
    if len(by_line) > shown:
        told.append(f"and {len(by_line) - shown} other errors above")
    return told


def shortened(line: str) -> str:
    """Return a line of at most LONGEST characters without a shell command's JSON."""
    line = re.sub(r"--job '?\{.*?\}'? --run", "--job … --run", line, flags=re.DOTALL)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _last_words(lines: Sequence[str]) -> str:
    """Return the last warning of a job."""
    words = [match[1] for line in lines if (match := re.search(r" WARNING (.+)$", line))]
    return words[-1] if words else ""


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, _size(path) - TAIL_BYTES))
            return handle.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
