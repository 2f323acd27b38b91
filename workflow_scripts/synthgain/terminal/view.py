"""What a person sees of a call while it runs: the stage, how far, how long to go, and at the end what became of it."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json
from synthgain.speed.documents import Forecast
from synthgain.terminal.failures import Failure, Try, failure, summary
from synthgain.terminal.outlook import Group, Left, Outlook, duration

BETWEEN_SECONDS = 30.0  # between lines that say how far
SHOWN_STAGES = 3  # in one line


@dataclass(frozen=True)
class Facts:
    """Of a call. titles: {rule: its stage in words}; forecasts: where a forecast may lie; cores: jobs at once.

    sends: to a cluster; audits: pages to open; at_the_end: what is said where all went well, such as where the report
    is; quiet: nothing but the end is shown.
    """

    study: str
    titles: Mapping[str, str]
    forecasts: Sequence[Path]
    cores: int
    sends: bool = False
    audits: Sequence[Path] = ()
    at_the_end: Callable[[], Sequence[str]] = tuple
    quiet: bool = False


@dataclass
class View:
    """State of a call and the lines about it; `write` prints one."""

    facts: Facts
    write: Callable[[str], None]
    planned: Counter[str] = field(default_factory=Counter)  # {rule: jobs of this call}
    done: Counter[str] = field(default_factory=Counter)
    running: dict[int, Try] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    stopped: bool = False
    ended_well: bool = False
    _outlook: Outlook | None = None
    _begin: float = field(default_factory=time.monotonic)
    _last: float = 0.0
    _begun: set[str] = field(default_factory=set)
    _groups: dict[int, Group] = field(default_factory=dict)  # of every job that was started and has not failed
    _earlier: dict[int, tuple[Group, float]] = field(default_factory=dict)  # what was done of a job before this call

    def left(self) -> Left:
        """Return what is to go, by the jobs that ended and by what the running ones say in their logs."""
        waiting = self.planned - self.done - Counter(job.rule for job in self.running.values())
        running: dict[Group, list[float]] = defaultdict(list)
        for job in self.running.values():
            share = job.look()
            running[job.group].append(1.0 - (share or 0.0))
            if share is not None:
                self._earlier.setdefault(job.number, (job.group, job.earlier))
        return Left(waiting, Counter(self._groups.values()), running)

    def earlier(self) -> dict[Group, list[float]]:
        """Return which shares of this call's jobs were done before it, as far as they have been seen."""
        found: dict[Group, list[float]] = defaultdict(list)
        for group, share in self._earlier.values():
            found[group] += [share] if share else []
        return found

    def say(self, text: str) -> None:
        """Print a line with the time, unless the call is a quiet one."""
        if not self.facts.quiet:
            self.write(f"{time.strftime('%H:%M:%S')}  {text}")
            self._last = time.monotonic()

    def plan(self, jobs: Mapping[str, int]) -> None:
        """Say how many jobs there are. jobs: {rule: count}, those that compute nothing with them."""
        self.planned = Counter({rule: count for rule, count in jobs.items() if rule in self.facts.titles})
        where = f"{self.facts.cores} at once" if self.facts.sends else f"on {_counted(self.facts.cores, 'core')}"
        self.say(f"{self.facts.study}: {_counted(self.planned.total(), 'job')} to do, {where}")
        if not self.planned["forecast_cost"]:
            self._look_ahead()

    def start(self, job: Try) -> None:
        """A job starts, or is handed to the cluster."""
        self.running[job.number] = job
        self._groups[job.number] = job.group
        if job.rule in self.facts.titles and job.rule not in self._begun:
            self._begun.add(job.rule)
            self.say(f"{self.facts.titles[job.rule]} ({_counted(self.planned[job.rule], 'job')})")

    def finish(self, number: int) -> None:
        """A job has ended well, at whatever try."""
        job = self.running.pop(number, None)
        self.failed.pop(number, None)
        if job is None or job.rule not in self.facts.titles:
            return
        if job.rule == "audit_datasets":
            for page in self.facts.audits:
                self.say(f"the data sets are read and audited: {page}{_left_out(page)}")
        self.done[job.rule] += 1
        if job.rule == "forecast_cost":
            self._look_ahead()
        self.beat()

    def fail(self, number: int, rule: str, told: str, logs: Sequence[str]) -> None:
        """A try of a job has failed."""
        if self.stopped:
            return
        job = self.running.pop(number, None) or Try(number, rule, rule, tuple(Path(log) for log in logs))
        self._groups.pop(number, None)
        self.failed[number] = failure(job, told, logs)
        why = f": {self.failed[number].line}" if self.facts.sends else ""  # on this machine the job has said it itself
        self.say(f"failed: {job.what}{why}")

    def beat(self) -> None:
        """Say how far the call is, if nothing was said for a while."""
        if self.planned and time.monotonic() - self._last >= BETWEEN_SECONDS:
            self.say(self.status())

    def status(self) -> str:
        """Return how far, how long to go, and which stages are running."""
        parts = [f"{self.done.total()} of {_counted(self.planned.total(), 'job')}"]
        if self._outlook is not None:
            left, earlier = self.left(), self.earlier()
            parts.append(f"{100 * self._outlook.share(left, earlier):.0f} % of the work")
            parts.append(f"{duration(self._outlook.seconds(left, earlier))} to go")
        return ", ".join(parts) + self._stages()

    def _stages(self) -> str:
        """Return the running stages, those with the fewest jobs in hand last."""
        jobs: dict[str, list[Try]] = {}
        for job in self.running.values():
            if job.rule in self.facts.titles:
                jobs.setdefault(job.rule, []).append(job)
        told = []
        for rule in sorted(jobs, key=lambda rule: -len(jobs[rule]))[:SHOWN_STAGES]:
            share = jobs[rule][0].look() if len(jobs[rule]) == 1 else None
            now = "" if share is None else f", this one {100 * share:.0f} %"
            told.append(f"{self.facts.titles[rule]} {self.done[rule]}/{self.planned[rule]}{now}")
        return ": " + "; ".join(told) if told else ""

    def _look_ahead(self) -> None:
        """Say what the forecast says, where there is one."""
        for path in self.facts.forecasts:
            if path.exists() and self._outlook is None:
                try:
                    forecast = Forecast.model_validate(read_json(path))
                except (SynthGainError, ValueError):  # of another version: the jobs are counted all the same
                    return
                left = self.left()
                self._earlier = {number: (job.group, 0.0) for number, job in self.running.items() if job.done}
                self._outlook = Outlook(forecast, left, self.facts.cores)
                self.say(f"forecast: {self._outlook.words(left, self.facts.sends)}")
                unknown = self._outlook.unknown(left)
                if unknown:
                    stages = ", ".join(self.facts.titles[rule] for rule in unknown)
                    self.say(f"warning: that leaves out {stages}: {next(iter(unknown.values()))}")

    def close(self) -> list[str]:
        """Return the last lines: what became of the call, and how to go on."""
        done = f"{self.done.total()} of {_counted(self.planned.total(), 'job')} done"
        again = "run the same command again: finished work is kept"
        if self.stopped:
            return ["", f"stopped: {done}; to go on, {again}"]
        if self.failed:
            count = _counted(len(self.failed), "job")
            return ["", f"{count} failed, {done}", *summary(list(self.failed.values())), f"mend it, then {again}"]
        if not self.ended_well:
            return []
        took = f" in {duration(time.monotonic() - self._begin).removeprefix('about ')}" if self.planned else ""
        lines = [f"{self.facts.study}: done{took}"] if self.planned and not self.facts.quiet else []
        return [*lines, *self.facts.at_the_end()]


def _left_out(page: Path) -> str:
    """Say how many images the audit of this page found unreadable."""
    audit = page.with_name("audit.json")
    datasets = read_json(audit)["datasets"].values() if audit.exists() else ()
    count = sum(int(facts["quarantined"]) for facts in datasets)
    return f"; {_counted(count, 'image')} left out, each with its reason there" if count else ""


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
