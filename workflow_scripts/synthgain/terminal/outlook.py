"""How long a call will take: the forecast, what is left of the jobs, and how fast the work before was."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from synthgain.speed.documents import Forecast
from synthgain.speed.forecast import wall_seconds
from synthgain.speed.plan_text import over_runs, size

SURE = 0.1  # share of the work after which the speed so far corrects the forecast
SLOWEST, FASTEST = 5.0, 0.3  # times as long as forecast: what a correction may say

Group = tuple[str, str]  # rule and name of a group of the forecast
Amounts = Sequence[tuple[float, float]]  # of each group: jobs to go, and how much of the longest of them (0 … 1)


@dataclass(frozen=True)
class Left:
    """What is to go. waiting: {rule: jobs that have not begun}; begun: {group: jobs that this call has started};

    running: {group: what is left of each job of it that runs, 0 … 1}.
    """

    waiting: Mapping[str, int]
    begun: Mapping[Group, int] = field(default_factory=dict)
    running: Mapping[Group, Sequence[float]] = field(default_factory=dict)


class Outlook:
    """Time to go of one call.

    left: as the call begins; cores: jobs at once.
    """

    def __init__(self, forecast: Forecast, left: Left, cores: int) -> None:
        self._groups = [over_runs(group, forecast.runs, kept=0) for group in forecast.groups]
        self._cores = max(cores, 1)
        self._whole = self._amounts(left)
        self._begin = time.monotonic()

    def _amounts(self, left: Left) -> Amounts:
        """Return what is to go of each group; jobs that wait are shared out by how many each has not begun."""
        begun, running, waiting = Counter(left.begun), defaultdict(list, left.running), Counter(left.waiting)
        free = [max(group.jobs - begun[group.rule, group.name], 0) for group in self._groups]
        of_rule: Counter[str] = Counter()
        for group, jobs in zip(self._groups, free, strict=True):
            of_rule[group.rule] += jobs
        found = []
        for group, jobs in zip(self._groups, free, strict=True):
            own = running[group.rule, group.name]
            still = jobs * min(1.0, waiting[group.rule] / max(of_rule[group.rule], 1))
            found.append((still + sum(own), 1.0 if still else max(own, default=0.0)))
        return found

    def _shares(self, amounts: Amounts) -> list[float]:
        return [jobs / max(group.jobs, 1) for (jobs, _), group in zip(amounts, self._groups, strict=True)]

    def _forecast(self, amounts: Amounts) -> float:
        longest = [left for _, left in amounts]
        return max(wall_seconds(self._groups, self._cores, self._shares(amounts), longest).values())

    def _of_this_call(self, earlier: Mapping[Group, Sequence[float]]) -> float:
        """Return the seconds of all the work of this call. earlier: shares of its jobs that were done before it."""
        before = defaultdict(list, earlier)
        amounts = []
        for (jobs, longest), group in zip(self._whole, self._groups, strict=True):
            done = before[group.rule, group.name]
            resumed = 1 - min(done) if done and jobs <= len(done) else longest  # no other job of the group is left
            amounts.append((max(jobs - sum(done), 0.0), min(longest, resumed)))
        return self._forecast(amounts)

    def unknown(self, left: Left) -> dict[str, str]:
        """Return {rule: why} of jobs to go whose work could not be forecast."""
        amounts = zip(self._groups, self._amounts(left), strict=True)
        return {group.rule: group.missing[0] for group, (jobs, _) in amounts if group.missing and jobs}

    def words(self, left: Left, sends: bool) -> str:
        """Return what is forecast: `about 16 minutes on these 2 cores (30 processor minutes), 412.0 MB of disk`."""
        amounts = self._amounts(left)
        shares = self._shares(amounts)
        disk = sum(share * group.disk_bytes for share, group in zip(shares, self._groups, strict=True))
        cores = "this core" if self._cores == 1 else f"these {self._cores} cores"
        where = f"with {self._cores} jobs at once, without waiting for nodes" if sends else f"on {cores}"
        work = self._cores * wall_seconds(self._groups, self._cores, shares)["work"]
        used = f" ({work / 60:.0f} processor minutes)" if work >= 90 and not sends else ""
        time_to_go = duration(self._forecast(amounts))
        if self.unknown(left):
            time_to_go = time_to_go.replace("about", "at least").replace("less than a minute", "some time")
        return f"{time_to_go} {where}{used}, {size(disk)} of disk"

    def share(self, left: Left, earlier: Mapping[Group, Sequence[float]] = MappingProxyType({})) -> float:
        """Return which part of this call's work is done, 0 … 1. earlier: what was done of its jobs before it."""
        whole = self._of_this_call(earlier)
        return max(0.0, 1.0 - self._forecast(self._amounts(left)) / whole) if whole > 0 else 1.0

    def seconds(self, left: Left, earlier: Mapping[Group, Sequence[float]] = MappingProxyType({})) -> float:
        """Return the seconds to go, at the speed so far."""
        now, whole = self._forecast(self._amounts(left)), self._of_this_call(earlier)
        done = whole - now
        pace = (time.monotonic() - self._begin) / done if done > SURE * whole else 1.0
        return now * min(max(pace, FASTEST), SLOWEST)


def duration(seconds: float) -> str:
    """Return `less than a minute`, `about 16 minutes`, `about 3.5 hours`, `about 4 days`."""
    if seconds < 50:
        return "less than a minute"
    minutes = seconds / 60
    if minutes < 90:
        return f"about {minutes:.0f} minute{'s' if round(minutes) != 1 else ''}"
    if minutes < 48 * 60:
        return f"about {minutes / 60:.1f} hours"
    return f"about {minutes / 60 / 24:.0f} days"
