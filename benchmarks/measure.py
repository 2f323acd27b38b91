"""The instrument of the benchmarks: interleaved timing, the matmul rate, the machine, and the row of the table.

Times are compared as ratios within one run, piece by piece in turn (A B A B …), since machines are shared and drift.
Processor time is used where one process does the work: it does not count what other programs take; wall time where
several processes share it.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

# Side of the float32 matrices that are multiplied: large enough for the full rate of a core, of a GPU (TF32).
MATMUL_SIDE = {"cpu": 1024, "cuda": 8192}
PRODUCTS = {"cpu": 1, "cuda": 40}  # in a row: a GPU wakes first
PACKAGES = ("torch", "torchvision", "diffusers", "accelerate", "monai", "numpy", "pandas", "snakemake")


@dataclass(frozen=True)
class Options:
    """How a benchmark runs. small: under a minute on one idle core; generator: folder of a trained one, or None."""

    small: bool = False
    threads: int = 1
    generator: Path | None = None
    run: Path | None = None  # results/<study> of a finished default study
    size: int | None = None  # px of the images instead of the default study's: sampling and training
    patients: int | None = None  # of the whole sweep instead of 400


@dataclass(frozen=True)
class Row:
    """One line of the table. ratio: (median, lowest, highest) over the interleaved repeats, larger is better for us.

    met: whether the reach is met, None where this run cannot tell; note: by how much it is missed and what bounds it.
    """

    name: str
    what: str
    ours: str
    theirs: str
    reach: str
    ratio: tuple[float, float, float] | None
    met: bool | None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Times:
    """Seconds of one repeated piece of work: wall clock and processor, one entry a repeat."""

    wall: list[float]
    processor: list[float]

    def median(self, clock: str = "processor") -> float:
        """Return the middle repeat's seconds."""
        return statistics.median(getattr(self, clock))


def interleaved(pieces: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Run every piece once unmeasured, then all of them in turn `repeats` times."""
    for piece in pieces.values():
        piece()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    times: dict[str, Times] = {name: Times([], []) for name in pieces}
    for _ in range(repeats):
        for name, piece in pieces.items():
            wall, processor = time.perf_counter(), processor_seconds()
            piece()
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            times[name].processor.append(processor_seconds() - processor)
            times[name].wall.append(time.perf_counter() - wall)
    return times


def processor_seconds() -> float:
    """Return the processor time of this process and its living children (workers of a loader)."""
    children = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(times.user + times.system for times in children)


def is_idle() -> bool:
    """True where this machine has cores to spare, so that wall times of several processes mean something."""
    return os.getloadavg()[0] <= (os.cpu_count() or 1)


def speed_up(ours: Times, theirs: Times, clock: str = "processor", scale: float = 1.0) -> tuple[float, float, float]:
    """Return (median, lowest, highest) of theirs / ours, pair by pair; scale: images of ours per image of theirs."""
    pairs = zip(getattr(ours, clock), getattr(theirs, clock), strict=True)
    ratios = [scale * other / own for own, other in pairs]
    return statistics.median(ratios), min(ratios), max(ratios)


def clock_for(device: torch.device) -> str:
    """Return the clock that work on a device is timed by: a GPU's work takes no processor time."""
    return "processor" if device.type == "cpu" else "wall"


def multiply_matrices(device: torch.device) -> Callable[[], Any]:
    """Return a piece that multiplies two square float32 matrices, for `matmul_rate`."""
    side = MATMUL_SIDE[device.type]
    first, second = torch.randn(side, side, device=device), torch.randn(side, side, device=device)

    def multiply() -> None:
        for _ in range(PRODUCTS[device.type]):
            torch.mm(first, second)

    return multiply


def matmul_rate(times: Times, device: torch.device) -> float:
    """Return floating point operations per second of `multiply_matrices`."""
    return 2.0 * PRODUCTS[device.type] * MATMUL_SIDE[device.type] ** 3 / times.median(clock_for(device))


def flops_of(work: Callable[[], Any]) -> float:
    """Return the multiplications and additions (2 each) of matrix products and convolutions in `work`."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def machine(threads: int) -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, threads, load, versions."""
    model = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": model[0] if model else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
