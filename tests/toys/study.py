"""Plans a study of toys in a copy of the project, and runs a job of each: the scripts are those of the workflow."""

import importlib
import json
import sys
from pathlib import Path

from synthgain.runtime.command import Job
from synthgain.runtime.files import read_json
from synthgain.study.forecast import closure
from synthgain.study.session import Session


def run(config: Path, repository: Path, results: Path, outputs: list[str]) -> None:
    """Make `outputs` of the study and whatever they need; print what each job's manifest says."""
    session = Session(json.loads(config.read_text()), repository, results)
    ((name, plan),) = session.planners.items()
    plan.job("write_report")  # and whatever it needs
    jobs = {job.output: job for job in plan.jobs()}
    for planned in closure(outputs, jobs):
        path = results / name / planned.output
        path.parent.mkdir(parents=True, exist_ok=True)
        job = Job(**json.loads(planned.parameter()), run=results / name, outputs=[path], threads=1)
        getattr(importlib.import_module(planned.rule), planned.rule)(job)
    kept = ("module", "parameters", "images", "rows", "count")
    said = {output: {k: v for k, v in read_json(results / name / output).items() if k in kept} for output in outputs}
    print(json.dumps({"jobs": len(jobs), "made": said}))


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
