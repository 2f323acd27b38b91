"""Sizes and steps that fit a machine, by the forecast's own rule: measured speeds times what the plan counts."""

import importlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthgain.runtime.command import job_of
from synthgain.runtime.files import read_json
from synthgain.speed import documents
from synthgain.speed.forecast import wall_seconds
from synthgain.speed.plan_text import duration, size
from synthgain.study.session import Session

MINUTE = 60
# px, seconds by the clock that a first whole run may take.
CPU_SIZES, CPU_BUDGET = (64, 32), 15 * MINUTE
GPU_SIZES, GPU_BUDGET = (128, 64, 32), 240 * MINUTE
LEAST = 0.25  # of the usual steps; below it a smaller image is better


@dataclass(frozen=True)
class Sizes:
    """Side of the images (px), pixels seen as one by the generator (1 or 2), steps; `said`: what a run will take."""

    side: int
    patch: int
    generator_steps: int
    model_steps: int
    said: str = ""


def usual(side: int, gpu: bool) -> Sizes:
    """Return the steps that one would take at this size, were time no matter."""
    return Sizes(side, 2 if side > 32 or not gpu else 1, 20_000 if gpu else 4_000, 2_000 if gpu else 1_000)


def candidates(shorter: int, gpu: bool) -> list[int]:
    """Return the sides to try for images whose shorter side is `shorter` px, the largest first; never empty."""
    sizes = GPU_SIZES if gpu else CPU_SIZES
    return [side for side in sizes if side <= shorter] or [sizes[-1]]


Config = Mapping[str, Any]  # a study as YAML gives it


def fitted(
    config: Callable[[Sizes], Config],
    shorter: int,
    gpu: bool,
    forecast: Callable[[Config], "Cost"],
) -> Sizes:
    """Return sizes whose study the forecast finishes within the machine's budget.

    The largest image at which a quarter of the usual steps fit; at the smallest, what fits.
    """
    budget = GPU_BUDGET if gpu else CPU_BUDGET
    sides = candidates(shorter, gpu)
    for side in sides:
        sizes = usual(side, gpu)
        cost = forecast(config(sizes))
        share = min(1.0, budget / cost.seconds)
        if share >= LEAST or side == sides[-1]:
            break
    if share < 1:
        sizes = replace(
            sizes,
            generator_steps=_rounded(share * sizes.generator_steps),
            model_steps=_rounded(share * sizes.model_steps),
        )
        cost = forecast(config(sizes))
    return replace(sizes, said=cost.said)


def _rounded(steps: float) -> int:
    """Return steps to two digits, at least 100."""
    digits = 10 ** max(0, len(str(int(steps))) - 2)
    return max(100, int(steps) // digits * digits)


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and all in words."""

    seconds: float
    said: str


class Forecast:
    """The study's own forecast, made in a folder of its own: speeds are measured once per kind of work."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._folder = tempfile.TemporaryDirectory(prefix="synthgain-")

    def __call__(self, config: Config) -> Cost:
        """Return what a study costs on this machine, from which its `data_root` is read."""
        with chdir(self._folder.name):
            results = Path("results")
            session = Session(config, self._repository, results)
            ((run, plan),) = session.planners.items()
            forecast = plan.job("forecast_cost")
            jobs = {job.output: job for job in plan.jobs()}
            for planned in (jobs[next(iter(forecast.inputs))], forecast):
                output = results / run / planned.output
                output.parent.mkdir(parents=True, exist_ok=True)
                job = job_of(json.loads(planned.parameter()), results / run, [output])
                getattr(importlib.import_module(planned.rule), planned.rule)(job)
            groups = documents.Forecast.model_validate(read_json(results / run / forecast.output)).groups
        cores = os.cpu_count() or 1
        seconds = max(wall_seconds(groups, cores).values())
        disk = size(sum(group.disk_bytes for group in groups))
        missing = [reason for group in groups for reason in group.missing]
        left_out = f", without what could not be measured: {missing[0]}" if missing else ""
        return Cost(seconds, f"about {duration(seconds)} on these {cores} cores, {disk} on disk{left_out}")


def gpu_here() -> bool:
    """Whether jobs would compute on a GPU of this machine."""
    from synthgain.device import chosen_device

    return chosen_device().type == "cuda"
