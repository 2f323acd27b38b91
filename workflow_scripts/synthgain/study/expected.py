"""What `snakemake verify` compares: the results that the plan makes, and the sources that they were read from."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgain.study.planner import Planner, look_folders
from synthgain.study.stage import LOOK, NUMBERS, PlannedJob
from synthgain.study.stages.forecast import closure

_OF_THE_POOL = ("source", "replica", "parent_image_id", "parent_patient_id")  # options that the adapter lacks
BESIDE = (
    "audit_clusters",
    "check_weights",
    "draw_sample_grid",
    "export_pool",
)  # stages that the report does not need: where they were asked for


def plan_all(plan: Planner, results: Path) -> list[PlannedJob]:
    """Plan protocol and report, and of stages beside them what lies below a run's folder; return these jobs and theirs.

    Of planned looks it is the one that the planner is at, and what is there of earlier ones.
    """
    wanted = [plan.job("write_protocol").output, plan.job("write_report").output]
    looks = look_folders(plan.study)
    asked_for = [(rule, "") for rule in BESIDE]
    asked_for += [
        (rule, look)
        for look in looks[: looks.index(plan.look)]
        for rule, stage in plan.stages.items()
        if LOOK in stage.wildcards
    ]
    for rule, look in asked_for:
        pattern = plan.stages[rule].output.replace(f"{{{LOOK}}}", look)
        for path in sorted((results / plan.run).glob(re.sub(r"{\w+}", "*", pattern))):
            found = re.fullmatch(_expression(pattern), path.relative_to(results / plan.run).as_posix())
            if found is not None:
                try:
                    wanted.append(plan.job(rule, **found.groupdict(), **({LOOK: look} if look else {})).output)
                except KeyError:  # of a generator or a pool that the study lacks now
                    continue
    return closure(wanted, {job.output: job for job in plan.jobs()})


def sources(jobs: list[PlannedJob]) -> dict[str, Mapping[str, Any]]:
    """Return {path of a result: how to read its source again} of data sets and of imported images."""
    found: dict[str, Mapping[str, Any]] = {}
    for job in jobs:
        if job.rule == "prepare_dataset":
            facts = {name: job.slice[name] for name in ("module", "options", "image", "seed")}
            found[job.output] = {"rule": job.rule, "name": job.slice["dataset"], **facts, "masks": True}
        elif job.rule == "draw_pool_shard" and job.slice["module"] == "imported":
            given = job.slice["options"]
            assert isinstance(given, Mapping)
            options = {name: value for name, value in given.items() if name not in _OF_THE_POOL}
            found[job.output] = {
                "rule": job.rule,
                "name": f"pools.{job.slice['pool']}",
                "module": "table",
                "options": {"patient_id": None, **options},
                "image": job.slice["image"],
                "seed": job.slice["seed"],
                "masks": not job.slice["misaligned"],
            }
    return found


def _expression(pattern: str) -> str:
    kinds = {True: "[0-9]+", False: "[a-z0-9_]+"}
    return re.sub(r"\\{(\w+)\\}", lambda part: f"(?P<{part[1]}>{kinds[part[1] in NUMBERS]})", re.escape(pattern))
