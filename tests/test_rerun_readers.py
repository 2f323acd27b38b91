"""docs/rerun.md, rows of steering and readers: what the planner gives another identity runs again, and nothing else."""

import copy
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulated_run import Code
from studies import tiny
from test_rerun import expected, table
from test_steering_study import MORE, PANEL, REWARD, STEERED

from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.stages.table import STAGES

RATED = {"scores": "readers", "name": "panel", "column": "quality", "samples": 64}
ARMS = {
    "arms__steered": {"real": "hospital_a", "synthetic": "steered", "ratios": [100]},
    "readers": {"panel": PANEL},
}
LIKED = {"of": "drawn", "filter": {"scores": "readers", "name": "panel", "column": "quality", "threshold": 0.5}}


def steered(**reward: object) -> dict[str, object]:
    """Another reward, in the steered generator and the shuffled one beside it."""
    return {
        "generators__tuned": MORE | {"reward": REWARD | reward},
        "generators__permuted": MORE | {"reward": REWARD | reward | {"shuffled": True}},
    }


FEEDBACK = {
    "generators__tuned": MORE | {"reward": RATED},
    "generators__permuted": MORE | {"reward": RATED | {"shuffled": True}},
}
# change: (what the study is before, what is changed, whether answers come)
CHANGES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], bool]] = {
    "another strength of steering": ({}, steered(anchor=0.5), False),
    "more rounds of steering": ({}, steered(rounds=3), False),
    "readers' answers": ({}, {}, True),
    "readers' answers, where a pool is filtered by them": ({"pools__liked": LIKED}, {}, True),
    "readers' answers, where they steer": (FEEDBACK, {}, True),
    "another option of a reader kit": ({}, {"readers": {"panel": PANEL | {"undo": True}}}, False),
    "another seed of a reader kit": ({}, {"readers": {"panel": PANEL | {"seed": 1}}}, False),
}


def identities(folder: Path, changes: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return {(rule, output): identity} of all jobs up to the report."""
    study = parse_study(tiny(**copy.deepcopy({**STEERED, **ARMS, **changes})))
    plan = Planner(study, "tiny", 0, Code(), Path("results"), folder, STAGES)
    for rule in ("write_protocol", "write_report"):
        plan.job(rule)
    return {(job.rule, str(job.output)): job.identity for job in plan.jobs()}


def test_the_table_and_the_changes_are_the_same() -> None:
    assert set(table(3)) == set(CHANGES)


@pytest.mark.parametrize("change", CHANGES)
def test_plan_after(change: str, tmp_path: Path) -> None:
    start, changes, answers = CHANGES[change]
    before = identities(tmp_path, start)
    if answers:
        (tmp_path / "sent").mkdir()
        (tmp_path / "sent" / "panel-reader_1.json").write_text(json.dumps({}), encoding="utf-8")
    after = identities(tmp_path, {**start, **changes})
    changed = [job for job, identity in after.items() if before.get(job) != identity]
    found = Counter(rule for rule, _ in changed)
    rules, counts = expected(table(3)[change])
    assert set(found) == rules, found
    assert {rule: found[rule] for rule in counts} == counts
    untouched = ("generators/ddpm", "generators/longer", "downstream/cnn/real/", "pools/drawn/")
    assert [output for _, output in changed if any(place in output for place in untouched)] == []
