"""The protocol: what the study declares, written and dated before there is any result."""

import re
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic.main import IncEx

from synthgain.registry import FAMILY_PROSE
from synthgain.runtime.files import digest
from synthgain.statistics.metric_registry import METRICS
from synthgain.study.job_settings import keys_of_no_result
from synthgain.study.planner import Planner, look_folders
from synthgain.study.roles import baseline_of, role_of
from synthgain.study.schema import UNTOLD, Study
from synthgain.study.stage import LOOK, NUMBERS, Draft, PlannedJob, Stage
from synthgain.study.stages.forecast import closure, size_facts

_CHECKSUM = re.compile(r"[0-9a-f]{64}")


def write_protocol(plan: Planner) -> Draft:
    study = plan.study
    plan = plan.at(look_folders(study)[-1])
    behind = _behind_statistics(plan)
    return Draft(
        {
            # As it was given, so that the script makes the same study of it again.
            "config": study.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=_undeclared(study)),
            "study": {**resolved(study), "seed": plan.seed},
            "data": _checksums(behind),
            "code": _code(behind),
            "declared": declared(study),
            "controls": _controls(study),
            "power": _power(study),
            "sizes": {primary.test_set: size_facts(plan, primary.test_set) for primary in study.analysis.primaries},
            "run": plan.run,
            "seed": plan.seed,
        },
        modules=tuple(FAMILY_PROSE[generator.family] for generator in study.generators.values()),
    )


def resolved(study: Study) -> dict[str, object]:
    """Return the whole study, every default written out but those that stand for an absent key (`OmittedWhen`)."""
    return study.dump(mode="json", by_alias=True, exclude=_undeclared(study))


def _undeclared(study: Study) -> IncEx:
    """Return where and how the study runs, and what only readers read, as pydantic's `exclude`."""
    found: dict[str, object] = {**dict.fromkeys({*UNTOLD, "title", "description"}, True), "replicates": {"per_job"}}
    of_no_result = keys_of_no_result(study)
    for section in ("datasets", "autoencoders", "generators", "pools", "models", "arms"):
        keys = of_no_result.get(section, {})
        found[section] = {name: {**keys.get(name, {}), "description": True} for name in getattr(study, section)}
    return cast("IncEx", found)


def declared(study: Study) -> dict[str, object]:
    """Return what a look must agree with (`statistics/standing.py`)."""
    analysis = study.analysis
    comparisons = [{**entry.dump(), "baseline": baseline_of(study, entry.arm)} for entry in analysis.primaries]
    return {
        "comparisons": comparisons,
        "looks": study.replicates.planned,
        "alpha": analysis.alpha,
        "margin": analysis.margin,
        "alternative": analysis.alternative,
        "threshold policy": analysis.thresholds.primary,
    }


def _controls(study: Study) -> dict[str, str]:
    """Return {arm: role} of the controls."""
    roles = {name: role_of(study, name) for name in study.arms}
    return {name: role for name, role in roles.items() if role in ("repeated", "real_long", "negative_control")}


def _power(study: Study) -> dict[str, object]:
    """What power is computed from: variance assumed, and whether the usual one stands in for it."""
    assumed, metrics = study.analysis.assumed, [METRICS[entry.metric] for entry in study.analysis.primaries]
    return {
        "assumed": assumed.model_dump() if assumed is not None else None,
        "usual": all(metric.default_margin for metric in metrics),
    }


def _behind_statistics(plan: Planner) -> list[PlannedJob]:
    outputs = [plan.job("compare_arms", model=model).output for model in plan.study.models]
    return closure(outputs, {job.output: job for job in plan.jobs()})


def _checksums(jobs: list[PlannedJob]) -> dict[str, str]:
    """Return {what: SHA-256} of every file from outside that a job names: tables, archives, weights."""
    found = {}
    for job in jobs:
        place = {key: value for key, value in job.place.items() if key not in NUMBERS | {LOOK}}
        for key, value in _leaves(job.slice):
            if isinstance(value, str) and _CHECKSUM.fullmatch(value):
                found[" ".join([*map(str, place.values()), key])] = value
    return found


def _leaves(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{place}.{number}")
    else:
        yield place, value


def _code(jobs: list[PlannedJob]) -> dict[str, str]:
    """Return {rule: digest of the code of its jobs}."""
    by_rule: dict[str, set[str]] = {}
    for job in jobs:
        by_rule.setdefault(job.rule, set()).add(job.code)
    return {rule: digest(sorted(found)) for rule, found in sorted(by_rule.items())}


STAGES = (Stage("write_protocol", "Writing the protocol", "protocol/receipt.json", write_protocol),)
