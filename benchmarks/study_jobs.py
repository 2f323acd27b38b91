"""Jobs of a study run in this process, without Snakemake, so that a benchmark starts from what the workflow makes."""

import contextlib
import copy
import importlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from synthgain.runtime.command import Job, job_of
from synthgain.study.session import Session
from synthgain.study.stage import PlannedJob
from synthgain.study.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parents[1]


def default_study(size: int | None = None, **changes: Any) -> dict[str, Any]:
    """Return config.yaml with `changes`: dotted paths, with `__` for the dots; size: of its images, if another."""
    config: dict[str, Any] = copy.deepcopy(read_yaml(ROOT / "config.yaml"))
    if size is not None:
        config["image"]["size"] = size
    for path, value in changes.items():
        *parents, last = path.split("__")
        here = config
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = value
    return config


class StudyJobs:
    """The jobs of one study, below `folder`/results."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        session = Session(config, ROOT, folder / "results")
        (name, self.planner), *_ = session.planners.items()
        self.run = folder / "results" / name
        self.threads = int(os.environ.get("OMP_NUM_THREADS", "1"))

    def make(self, rule: str, **wildcards: Any) -> Path:
        """Run a job after those it needs, unless done; return its first output."""
        wanted = self.planner.job(rule, **wildcards)
        self._run(wanted, {job.output: job for job in self.planner.jobs()})
        return self.run / wanted.output

    def job(self, rule: str, **wildcards: Any) -> Job:
        """Return a job as its script sees it, its inputs made."""
        planned = self.planner.job(rule, **wildcards)
        known = {job.output: job for job in self.planner.jobs()}
        for path in planned.inputs:
            self._run(known[path], known)
        return self._as_script_sees(planned)

    def _run(self, planned: PlannedJob, known: dict[str, PlannedJob]) -> None:
        if (self.run / planned.output).exists():
            return
        for path in planned.inputs:
            self._run(known[path], known)
        (self.run / planned.output).parent.mkdir(parents=True, exist_ok=True)
        getattr(importlib.import_module(planned.rule), planned.rule)(self._as_script_sees(planned))

    def _as_script_sees(self, planned: PlannedJob) -> Job:
        outputs = [self.run / planned.output]
        return job_of(json.loads(planned.parameter()), self.run, outputs, self.threads)


@contextlib.contextmanager
def study_jobs(config: dict[str, Any]) -> Iterator[StudyJobs]:
    """Give the jobs of a study in a temporary folder, with the workflow's progress lines off."""
    logging.getLogger("synthgain").setLevel(logging.ERROR)
    here = Path.cwd()
    with TemporaryDirectory(prefix="synthgain-bench-") as folder:
        os.chdir(folder)  # the session keeps its facts about the code in the working folder
        try:
            yield StudyJobs(config, Path(folder))
        finally:
            os.chdir(here)
