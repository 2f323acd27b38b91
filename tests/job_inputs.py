"""Inputs of jobs that tests make by hand: from paths to the names that the rules give them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgain.runtime.command import Job
from synthgain.runtime.inputs import Inputs, inputs_of
from synthgain.study.stage import Stage
from synthgain.study.stages.table import STAGES

LOOKS = r"(?P<look>(?:look-\d+/)?)"
NAMES = {(name, maker) for stage in STAGES.values() for name, maker in stage.inputs.items()}


def named(paths: Mapping[str, str]) -> dict[str, list[list[Any]]]:
    """Return {input name: [[key, path]]} of {path: identity}: each path under every name that some rule gives it."""
    found: dict[str, list[list[Any]]] = {name: [] for name, _ in NAMES}
    for name, maker in sorted(NAMES):
        for path in paths:
            match = re.fullmatch(pattern(STAGES[maker]), path)
            if match is not None:
                run = [match["of_run"].strip("/")] if match["of_run"] else []
                found[name].append([[*run, *STAGES[maker].key(match.groupdict())], path])
    return found


def pattern(stage: Stage) -> str:
    """Return the regular expression of a stage's output, maybe below the folder of a run (`of_run`)."""
    return r"(?P<of_run>seed-\d+/)?" + re.sub(
        r"\\{(\w+)\\}", lambda name: LOOKS if name[1] == "look" else f"(?P<{name[1]}>[^/]+)", re.escape(stage.output)
    )


def new_job(
    slice: dict[str, Any],
    inputs: Mapping[str, str],
    code: str,
    identity: str,
    run: Path,
    outputs: list[Path],
    threads: int = 1,
) -> Job:
    """Return a job as its script sees it; inputs: {path: identity}."""
    return Job(slice, inputs_at(run, inputs), code, identity, run, outputs, threads)


def inputs_at(run: Path, paths: Mapping[str, str]) -> Inputs:
    """Return {path: identity} as a script sees it."""
    return inputs_of({"inputs": paths, "named": named(paths)}, run)


def paths_of(given: Inputs) -> dict[str, str]:
    """Return {path: identity} of a job's inputs."""
    return {entry.name: entry.identity for entry in given.all()}


def fields_of(job: Job) -> dict[str, Any]:
    """Return a job's JSON, as its rule gives it."""
    paths = paths_of(job.inputs)
    return {
        "slice": job.slice, "inputs": paths, "named": named(paths), "code": job.code, "identity": job.identity,
    }  # fmt: skip
