"""What every script shares: its job, its log, its progress lines, and how it ends.

Each rule calls `python <rule>.py --job JSON --run FOLDER --threads N --log FILE --output FILES`.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, remove_parts
from synthgain.runtime.inputs import Input, Inputs, inputs_of
from synthgain.runtime.job_pack import PACK, unpacked
from synthgain.runtime.seals import Sealing

EXIT_TERMINATED = 143  # 128 + SIGTERM, as a shell reports it
PROGRESS_SECONDS = 5.0
WHOLE = (0.0, 1.0)  # where a part of the job begins, and how much it is
_PARTS = [WHOLE]
TERMINAL = "SYNTHGAIN_TERMINAL"  # "warnings": how far a job is stands in its log alone

logger = logging.getLogger("synthgain")


class Terminated(Exception):
    """SIGTERM, SIGINT or SIGHUP arrived and the state has been saved."""


@dataclass(frozen=True)
class Job:
    """One job as the Snakefile planned it.

    slice: the part of the resolved study that this job needs, plain JSON values.
    inputs: what earlier jobs made, by the names in the rule file: `job.inputs.datasets["hospital_a"].folder()`.
    code: digest of the code behind the job; identity: digest of slice, inputs and code.
    run: the folder of this study's results; outputs: declared outputs, in the rule's order.
    """

    slice: dict[str, Any]
    inputs: Inputs
    code: str
    identity: str
    run: Path
    outputs: list[Path]
    threads: int

    def state_folder(self) -> Path:
        """Folder for undeclared state that survives a kill: `state/<path of the first output>`."""
        return self.run / "state" / self.outputs[0].relative_to(self.run).with_suffix("")

    def part_identity(self, without: tuple[str, ...], inputs: Iterable[Input], **keys: object) -> str:
        """Identity of one part of this job (say one replicate): slice but `without`, these inputs, code, keys."""
        kept = {name: value for name, value in self.slice.items() if name not in without}
        return digest({"slice": kept, "inputs": {i.name: i.identity for i in inputs}, "code": self.code, **keys})


class Progress:
    """Prints `[what] done/total (share) note, about m:ss to go` every few seconds, and at the end.

    The share is that of `what`, and beside it that of the whole job where `part_of_job` or another Progress, in one of
    whose units this one runs, says that the job has more parts.
    """

    _outer: ClassVar["Progress | None"] = None  # the last that ran inside no other

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self.what, self.total, self.done = what, total, done
        self._first = done
        self._start = time.monotonic()
        self._last = self._start
        self._part = _PARTS[-1]
        outer = Progress._outer
        low, width = self._part
        if outer is not None and outer._part is self._part and outer.what != what and outer.done < outer.total:
            self._span, self._kept = (low + width * outer.done / outer.total, width / outer.total), False
        else:
            self._span, Progress._outer = (low, width), self
            self._kept = outer is None and self._of_job() > 0

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units done; print if it is time to."""
        if self._kept:  # by an earlier run: how far this one is does not tell how fast
            self._kept = False
            logger.info("[%s] %d/%d (%s) done before", self.what, self.done, self.total, self._shares())
        self.done += count
        now = time.monotonic()
        if self.done < self.total and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        elapsed = now - self._start
        fresh = max(self.done - self._first, 1)
        left = elapsed / fresh * (self.total - self.done)
        note = f"{note}, " if note else ""
        tail = f"about {_clock(left)} to go" if self.done < self.total else f"done in {_clock(elapsed)}"
        logger.info("[%s] %d/%d (%s) %s%s", self.what, self.done, self.total, self._shares(), note, tail)

    def _of_job(self) -> float:
        low, width = self._span
        return low + width * self.done / max(self.total, 1)

    def _shares(self) -> str:
        own = f"{100 * self.done // max(self.total, 1)} %"
        return own if self._span == WHOLE else f"{own}, {100 * self._of_job():.0f} % of the job"


@contextlib.contextmanager
def part_of_job(number: int, count: int) -> Iterator[None]:
    """Within, a Progress is of part `number` (from 0) of `count` equal ones of the job, or of the part around it."""
    low, width = _PARTS[-1]
    _PARTS.append((low + width * number / count, width / count))
    try:
        yield
    finally:
        _PARTS.pop()


class StopSignal:
    """Turns SIGTERM, SIGINT and a closed terminal into a flag that loops look at, so that they can save and leave."""

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        signal.signal(signal.SIGTERM, self._set)
        signal.signal(signal.SIGINT, self._set)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
            signal.signal(signal.SIGHUP, self._set)

    def _set(self, number: int, frame: object) -> None:
        self.requested = True
        if self._at_once:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, a signal raises KeyboardInterrupt at once: for long work of which nothing can be saved."""
        self._at_once = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False


def run_script(work: Callable[[Job], None], arguments: list[str] | None = None) -> None:
    """Parse the command line, call `work(job)`, and end with one clear line on any error.

    Exit codes: 0 done, 1 error (SynthGainError: one line; others: one line, traceback in the log),
    143 stopped by a signal with the state saved.
    """
    parsed = _parse(arguments)
    _set_up_logging(parsed.log)
    code = 0
    Progress._outer = None  # an earlier job's, of the same process
    if arguments is None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds, so that temporary files are removed
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        job = _job_of(parsed)
        _remove_parts(job)
        sealing = Sealing(job.outputs, job.identity, job.inputs)
        work(job)
        sealing.finish()
    except SynthGainError as error:
        logger.error("error: %s", " ".join(str(error).split()))
        code = 1
    except Terminated as stop:
        logger.warning("stopped: %s; run snakemake again to go on", str(stop) or "state saved")
        code = EXIT_TERMINATED
    except KeyboardInterrupt:  # a signal where no loop looks for one
        logger.warning("stopped; run snakemake again to go on")
        code = EXIT_TERMINATED
    except Exception as error:  # the last line of defence: one line for the user, the rest in the log
        logging.getLogger("synthgain.file").error("%s", traceback.format_exc())
        reason = " ".join(str(error).split())
        logger.error("error: %s: %s (traceback in %s)", type(error).__name__, reason, parsed.log)
        code = 1
    if arguments is not None:  # called from Python, not as a script
        if code:
            sys.exit(code)
        return
    # Everything is written and flushed: leave without taking torch's libraries down, which costs as long as a
    # third of importing them.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _remove_parts(job: Job) -> None:
    """Remove what a killed try left half written next to the outputs; of several processes the first does so."""
    if os.environ.get("RANK", "0") == "0":
        for output in job.outputs:  # next to a manifest everything is this job's
            remove_parts(output.parent, "*" if output.name == "manifest.json" else output.name)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", required=True, help="canonical JSON of slice, inputs, their names, code and identity")
    parser.add_argument("--run", required=True, type=Path, help="folder of this study's results")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log", type=Path, default=None)
    parser.add_argument("--output", type=Path, nargs="+", required=True)
    return parser.parse_args(arguments)


def _job_of(parsed: argparse.Namespace) -> Job:
    """Return the job of the command line; SynthGainError where the pack that holds it is gone or was changed."""
    fields = json.loads(parsed.job)
    if PACK in fields:
        fields = json.loads(unpacked(Path(fields[PACK]), fields["digest"]))
    return job_of(fields, parsed.run, parsed.output, parsed.threads)


def job_of(fields: dict[str, Any], run: Path, outputs: list[Path], threads: int = 1) -> Job:
    """Return a job from its JSON, as the planner wrote it."""
    return Job(fields["slice"], inputs_of(fields, run), fields["code"], fields["identity"], run, outputs, threads)


def _set_up_logging(log: Path | None) -> None:
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.raiseExceptions = False  # a log on a full disk must not bury the one clear line
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.addFilter(lambda record: record.name != "synthgain.file")
    if os.environ.get(TERMINAL) == "warnings":
        console.setLevel(logging.WARNING)
    logger.addHandler(console)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        detail = logging.FileHandler(log, mode="a", encoding="utf-8")
        detail.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(detail)
        warnings = logging.getLogger("py.warnings")
        warnings.propagate = False
        warnings.addHandler(detail)
        logging.captureWarnings(True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
