"""Seconds and CPU seconds of a repeated piece of work."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from synthgain.speed.documents import Rate

SECONDS_PER_KIND = 1.0  # about how long one kind of work is timed
MOST_REPEATS = 20
GIBIBYTE = 1 << 30


class Ticks:
    """Times at which a loop came by: wall clock and CPU, in seconds."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.times = device, list[tuple[float, float]]()

    def add(self) -> None:
        """Note the time, once the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times.append((time.perf_counter(), time.process_time()))

    def last(self) -> float:
        """Return the seconds between the last two ticks: of the GPU's clock, else of the CPU's own."""
        now, later = self.times[-2:]
        return later[0] - now[0] if self.device.type == "cuda" else later[1] - now[1]

    def rate(self, warm_up: int = 1) -> Rate:
        """Return the medians between ticks, without the first `warm_up`."""
        passed = [(later[0] - now[0], later[1] - now[1]) for now, later in pairwise(self.times)]
        kept = passed[min(warm_up, len(passed) - 1) :]
        wall, cpu = (statistics.median(column) for column in zip(*kept, strict=True))
        return Rate(seconds=wall, cpu_seconds=cpu, timed=len(kept))


def repeats(seconds: float) -> int:
    """Return how often work of so many seconds is timed: as often as fits, once at least."""
    return max(1, min(MOST_REPEATS, int(SECONDS_PER_KIND / max(seconds, 1e-6))))


def timed(work: Callable[[], object], device: torch.device, share: float) -> Rate:
    """Return the rate of `share` of a call of `work` (1/N: of one of its N images), after one call to warm up."""
    ticks = Ticks(device)
    ticks.add()
    work()
    ticks.add()
    for _ in range(repeats(ticks.last())):
        work()
        ticks.add()
    rate = ticks.rate()
    return Rate(seconds=rate.seconds * share, cpu_seconds=rate.cpu_seconds * share, timed=rate.timed)


def memory_gb(device: torch.device) -> dict[str, float]:
    """Return the largest memory so far in GiB: of the process, and of the GPU where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    found = {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIBIBYTE}
    if device.type == "cuda":
        found["gpu_memory_gb"] = torch.cuda.max_memory_allocated(device) / GIBIBYTE
        torch.cuda.reset_peak_memory_stats(device)
    return found


def parameter_bytes(modules: Sequence[torch.nn.Module]) -> int:
    """Return what the weights of these modules take."""
    return sum(weights.nbytes for module in modules for weights in module.state_dict().values())
