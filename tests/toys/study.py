"""Plans studies of toys in a copy of the project, and makes outputs of each: the scripts are those of the workflow."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from synthgain.runtime.command import job_of
from synthgain.study.session import Session
from synthgain.study.stages.forecast import closure


def run(config: dict[str, Any], repository: Path, results: Path, outputs: list[str]) -> None:
    """Make `outputs` of the study and whatever they need."""
    ((name, plan),) = Session(config, repository, results).planners.items()
    plan.job("write_report")  # and whatever it needs
    for planned in closure(outputs, {job.output: job for job in plan.jobs()}):
        path = results / name / planned.output
        path.parent.mkdir(parents=True, exist_ok=True)
        job = job_of(json.loads(planned.parameter()), results / name, [path])
        getattr(importlib.import_module(planned.rule), planned.rule)(job)


if __name__ == "__main__":
    studies, copy, folder = (Path(word) for word in sys.argv[1:])
    made = []
    for study, wanted in json.loads(studies.read_text()):
        run(study, copy, folder, wanted)
        made += wanted
    print(json.dumps(made))
