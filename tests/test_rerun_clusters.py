"""The table of clusters and styling in docs/rerun.md, row by row, against two plans of one study."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from studies import tiny
from test_rerun import table

from synthgain.study.session import Session

ROOT = Path(__file__).parent.parent
Plan = Mapping[str, tuple[str, str]]  # {output: (rule, identity)}


def study() -> dict[str, Any]:
    """Return the tiny study with pairs by a generator per cluster, plain and styled, and by one of all images."""

    def pairs() -> dict[str, Any]:
        return tiny()["generators"]["ddpm"] | {"output": "image+mask", "structures": ["lungs"]}

    drawn = {"rows_of": "hospital_a", "replicas": 1}
    return tiny(
        clusters={"looks": {"of": "hospital_a", "k": 3}},
        generators={"whole": pairs(), "each": pairs() | {"train_on": {"per": "looks"}}},
        pools={
            "full": {"from": "whole", **drawn},
            "clustered": {"from": "each", **drawn},
            "styled": {"from": "each", **drawn, "styling": {"strength": 0.4}},
        },
        arms={
            "real": {"real": "hospital_a"},
            **{f"with_{pool}": {"real": "hospital_a", "synthetic": pool, "ratios": [100]} for pool in DRAWN},
        },
        analysis__primary__arm="with_full",
        analysis__primary__ratio=100,
        replicates={"count": 2, "per_job": 2},
    )


DRAWN = ("full", "clustered", "styled")
CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another k (4 in place of 3)": lambda config: config["clusters"]["looks"].update(k=4),
    "another rule for tiny clusters": lambda config: config["clusters"]["looks"].update(smallest=2, rule="merge"),
    "another styling strength": lambda config: config["pools"]["styled"]["styling"].update(strength=0.6),
    "colours matched after styling": lambda config: config["pools"]["styled"]["styling"].update(colour=True),
    "steps of the generator per cluster": lambda config: config["generators"]["each"]["training"].update(steps=9),
}


def planned(config: dict[str, Any]) -> Plan:
    ((_, plan),) = Session(config, ROOT, Path("results")).planners.items()
    for rule in ("write_report", "write_protocol", "audit_clusters"):
        plan.job(rule)
    return {job.output: (job.rule, job.parameter()) for job in plan.jobs()}


@pytest.fixture(scope="module")
def before() -> Plan:
    return planned(study())


def test_the_table_and_the_changes_are_the_same() -> None:
    assert list(table(2)) == list(CHANGES)


@pytest.mark.parametrize("change", list(CHANGES))
def test_what_runs_after(change: str, before: Plan) -> None:
    config = study()
    CHANGES[change](config)
    runs = Counter(rule for output, (rule, made) in planned(config).items() if before.get(output) != (rule, made))
    assert sorted(table(2)[change].split(", ")) == sorted(f"{rule} ×{count}" for rule, count in runs.items())
