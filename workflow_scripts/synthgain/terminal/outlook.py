"""How long a call will take: the forecast, the jobs that are left, and how fast the ones before were."""

import time
from collections import Counter
from collections.abc import Mapping

from synthgain.speed.documents import Forecast
from synthgain.speed.forecast import wall_seconds
from synthgain.speed.plan_text import over_runs, size

SURE = 0.1  # share of the work after which the speed so far corrects the forecast
SLOWEST, FASTEST = 5.0, 0.3  # times as long as forecast: what a correction may say


class Outlook:
    """Time to go of one call.

    left: {rule: jobs still to run}; cores: jobs at once.
    """

    def __init__(self, forecast: Forecast, left: Mapping[str, int], cores: int) -> None:
        self._groups = [over_runs(group, forecast.runs, kept=0) for group in forecast.groups]
        self._of_rule: Counter[str] = Counter()
        for group in self._groups:
            self._of_rule[group.rule] += group.jobs
        self._cores = max(cores, 1)
        self._first = self._forecast(left)
        self._begin = time.monotonic()

    def _shares(self, left: Mapping[str, int]) -> list[float]:
        return [min(1.0, left.get(group.rule, 0) / max(self._of_rule[group.rule], 1)) for group in self._groups]

    def _forecast(self, left: Mapping[str, int]) -> float:
        return max(wall_seconds(self._groups, self._cores, self._shares(left)).values())

    def unknown(self, left: Mapping[str, int]) -> dict[str, str]:
        """Return {rule: why} of jobs to go whose work could not be forecast."""
        return {group.rule: group.missing[0] for group in self._groups if group.missing and left.get(group.rule)}

    def words(self, left: Mapping[str, int], sends: bool) -> str:
        """Return what is forecast: `about 16 minutes on these 2 cores (30 processor minutes), 412.0 MB of disk`."""
        shares = self._shares(left)
        disk = sum(share * group.disk_bytes for share, group in zip(shares, self._groups, strict=True))
        cores = "this core" if self._cores == 1 else f"these {self._cores} cores"
        where = f"with {self._cores} jobs at once, without waiting for nodes" if sends else f"on {cores}"
        work = self._cores * wall_seconds(self._groups, self._cores, shares)["work"]
        used = f" ({work / 60:.0f} processor minutes)" if work >= 90 and not sends else ""
        time_to_go = duration(self._forecast(left))
        if self.unknown(left):
            time_to_go = time_to_go.replace("about", "at least").replace("less than a minute", "some time")
        return f"{time_to_go} {where}{used}, {size(disk)} of disk"

    def share(self, left: Mapping[str, int]) -> float:
        """Return which part of the work is done, 0 … 1."""
        return 1.0 - self._forecast(left) / self._first if self._first > 0 else 1.0

    def seconds(self, left: Mapping[str, int]) -> float:
        """Return the seconds to go, at the speed so far."""
        now = self._forecast(left)
        done = self._first - now
        pace = (time.monotonic() - self._begin) / done if done > SURE * self._first else 1.0
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
