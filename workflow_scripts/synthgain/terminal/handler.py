"""Snakemake's log records as lines of `View`; Snakemake itself is not imported.

Snakemake's own handler stays behind this one: for dry runs, --verbose and --printshellcmds, and for what is no run
(--unlock, --report, …). Its complete log, in .snakemake/log, is not touched.
"""

import atexit
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from synthgain.terminal.failures import Try, shortened
from synthgain.terminal.view import BETWEEN_SECONDS, View

OWN_HANDLER = "DefaultStreamHandler"  # what Snakemake calls the one that prints
WORTH_SAYING = ("Nothing to be done", "Trying to restart")
STOPPING = "Terminating processes"
# Of jobs that failed, which the view sums up; the last comes with a shell command and its JSON.
SAID_BY_JOBS = (
    "Exiting because a job execution failed",
    "At least one job did not complete",
    "CalledProcessError",
)
UNASKED = ("Assuming unrestricted shared filesystem", "Config file ")
LOCKED = "Directory cannot be locked"
LONGEST_ERROR = 12  # lines


class RunHandler(logging.Handler):
    """inner: Snakemake's handler; own: whether a run is shown by `View`, else by `inner` alone.

    start: called when a real run begins, before it locks its folder; returns its view. who_locks: in words, whose
    lock it is that keeps a run from starting.
    """

    def __init__(self, inner: logging.Handler, own: bool, write: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG)
        self.inner, self.own, self.write = inner, own, write
        self.start: Callable[[], View] | None = None
        self.who_locks: Callable[[], str] = str
        self.view: View | None = None
        self._refusals: list[str] = []
        self._warned: set[str] = set()

    def refuse(self, text: str) -> str:
        """Remember a clear line, which is shown in place of whatever Snakemake wraps around it; return it."""
        self._refusals.append(text)
        return text

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, hand it on, or leave it out."""
        event = str(getattr(record, "event", None) or "")
        if event == "workflow_started" and self.start is not None:
            self._begin(self.start())
        if self.view is not None:
            self._follow(record, event, self.view)
        if record.levelno >= logging.ERROR:
            self._error(record, event)
        elif self.view is None or not self.own:
            if not (self.own and record.getMessage().startswith(UNASKED)):
                self.inner.handle(record)
        elif record.levelno >= logging.WARNING:
            self._warning(record.getMessage(), self.view)

    def _begin(self, view: View) -> None:
        self.view = view
        view.say("planning")
        threading.Thread(target=self._heartbeat, args=(view,), daemon=True).start()
        atexit.register(self._close, view)

    def _heartbeat(self, view: View) -> None:
        pause = threading.Event()
        while not pause.wait(BETWEEN_SECONDS / 6):
            self.acquire()  # records come from other threads
            try:
                view.beat()
            finally:
                self.release()

    def _follow(self, record: logging.LogRecord, event: str, view: View) -> None:
        """Tell the view of a job or of the plan."""
        facts: Mapping[str, Any] = record.__dict__
        if event == "run_info" and "stats" in facts:
            view.plan({rule: count for rule, count in facts["stats"].items() if isinstance(count, int)})
        elif event == "job_info":
            logs = tuple(Path(log) for log in facts["log"])
            view.start(Try(facts["jobid"], facts["rule_name"], facts["rule_msg"] or facts["rule_name"], logs))
        elif event == "job_finished":
            view.finish(facts["job_id"])
        elif event == "job_error":
            view.fail(facts["jobid"], facts["rule_name"], str(facts.get("rule_msg") or ""), facts["log"])
        elif not event and record.levelno < logging.WARNING:
            text = record.getMessage()
            view.stopped |= text.startswith(STOPPING)
            if text.startswith(WORTH_SAYING):
                view.say(text.splitlines()[0])

    def _error(self, record: logging.LogRecord, event: str) -> None:
        """Show an error in clear lines; those that the view sums up at the end are not shown."""
        text = record.getMessage()
        refusal = next((line for line in self._refusals if line in text), "")
        if refusal or (LOCKED in text and self.who_locks()):
            self.write(f"error: {shortened(refusal or self.who_locks())}")
        elif not self.own:
            self.inner.handle(record)
        elif event not in ("job_error", "group_error") and not any(words in text for words in SAID_BY_JOBS):
            for line in screenful(text):
                self.write(line)

    def _warning(self, text: str, view: View) -> None:
        line = shortened(text.strip().splitlines()[0]) if text.strip() else ""
        if line and line not in self._warned:
            self._warned.add(line)
            view.say(f"warning: {line}")

    def _close(self, view: View) -> None:
        """Print the last lines of all, after whatever Snakemake had to say."""
        for line in view.close():
            self.write(line)


def screenful(text: str) -> list[str]:
    """Return the end of an error that nobody foresaw, without a job's JSON; all of it stands in Snakemake's log."""
    lines = [shortened(line) for line in text.strip().splitlines() if line.strip()]
    if len(lines) <= LONGEST_ERROR:
        return lines
    return ["… (the whole of it: .snakemake/log)", *lines[1 - LONGEST_ERROR :]]


def install(logger: logging.Logger, own: bool) -> RunHandler | None:
    """Put a handler in the place of Snakemake's own; None where a logger plugin has taken that place."""
    inner = next((handler for handler in logger.handlers if handler.name == OWN_HANDLER), None)
    if inner is None:
        return None
    stream = getattr(inner, "stream", sys.stderr)
    handler = RunHandler(inner, own, lambda line: print(line, file=stream, flush=True))
    logger.removeHandler(inner)
    logger.addHandler(handler)
    return handler
