"""Every job of a planned study, one after the other in this process: what Snakemake would start, without start-up."""

import importlib
import json
import signal
from pathlib import Path
from typing import Any

from synthgain.runtime.command import job_of
from synthgain.study.session import Session
from synthgain.study.stages.forecast import closure

FURTHER_OUTPUTS = {
    "audit_datasets": ["audit.html"],
    "audit_clusters": ["clusters.html"],
}  # beside the first output of a rule


def run_study(
    config: dict[str, Any], repository: Path, results: Path, rule: str = "write_report", **wildcards: object
) -> Path:
    """Run a study up to its report, or up to another job of it, and return the path of that job's output."""
    session = Session(config, repository, results)
    ((run, plan),) = session.planners.items()
    plan.job("write_report")
    wanted = plan.job(rule, **wildcards)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for planned in closure([wanted.output], {job.output: job for job in plan.jobs()}):
            fields = json.loads(planned.parameter())
            first = results / run / planned.output
            outputs = [first, *(first.parent / name for name in FURTHER_OUTPUTS.get(planned.rule, []))]
            for path in outputs:
                path.parent.mkdir(parents=True, exist_ok=True)
            job = job_of(fields, results / run, outputs)
            getattr(importlib.import_module(planned.rule), planned.rule)(job)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return results / run / wanted.output
