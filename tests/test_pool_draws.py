"""Every draw of a pool that arms train on is searched, judged, exported and shown: none is left out."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from studies import tiny

from synthgain.report.evidence import Measured
from synthgain.report.facts import MeasuredFacts, PoolFacts
from synthgain.report.sections.segmentation import yield_blocks
from synthgain.statistics.analysis import ComparedArm
from synthgain.statistics.memorisation_gate import BARRED, apply_gates
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner, plan_over_runs
from synthgain.study.session import Session

ROOT = Path(__file__).parent.parent
REPEATED = [
    {"count": 6, "generators": 3, "pools": 1},
    {"count": 6, "generators": 1, "pools": 3},
    {"count": 7, "generators": 2, "pools": 3},
    {"count": 4, "generators": 3, "pools": 2},  # fewer replicates than pairs of generator and pool draw
    {"count": 6, "generators": 3, "pools": 1, "per_job": 4},
]
FILTERED = {
    "of": "drawn",
    "filter": {"scores": "memorisation", "column": "flagged", "keep": "false"},
    "description": "without the flagged images",
}


def session(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Session:
    monkeypatch.chdir(ROOT)
    return Session(tiny(**changes), ROOT, Path("results"))


def trained_on(plan: Planner, pool: str) -> set[int]:
    """Draws of a pool among the inputs of all trainings."""
    found = {path for job in plan.jobs() if job.rule == "train_downstream" for path in job.inputs}
    return {int(path.split("/")[2]) for path in found if path.startswith(f"pools/{pool}/")}


def named(paths: Any, pattern: str) -> set[int]:
    return {int(match[1]) for path in paths if (match := re.fullmatch(pattern, path))}


@pytest.mark.parametrize("replicates", REPEATED, ids=str)
def test_the_gates_cover_every_draw_that_arms_train_on(monkeypatch: pytest.MonkeyPatch, replicates: dict) -> None:
    found = session(
        monkeypatch,
        replicates=replicates,
        pools__clean=FILTERED,
        arms__cleaned={"real": "hospital_a", "synthetic": "clean", "ratios": [50]},
    )
    found.expected()
    (plan,) = found.planners.values()
    job = plan.job("compare_arms", model="cnn")
    for arm in ("supplemented", "synthetic_only", "cleaned"):
        assert {tuple(draw) for draw in job.slice["gates"][arm]} == {("drawn", i) for i in trained_on(plan, "drawn")}
    assert {tuple(draw) for draw in job.slice["gates"]["cleaned"]} <= {key for key, _ in job.named["memorisation"]}
    assert len(trained_on(plan, "drawn")) == plan.pool_draws()


@pytest.mark.parametrize("replicates", REPEATED, ids=str)
def test_every_draw_is_in_the_report_and_in_the_exports(monkeypatch: pytest.MonkeyPatch, replicates: dict) -> None:
    found = session(monkeypatch, replicates=replicates, pools__clean=FILTERED)
    (plan,) = found.planners.values()
    draws = set(range(plan.pool_draws()))
    report = plan.job("write_report").inputs
    for folder in ("memorisation/drawn", "fidelity/drawn", "label_consistency/drawn"):
        assert named(report, rf"{folder}/(\d+)/manifest\.json") == draws
    for pool in ("drawn", "clean"):
        assert named(report, rf"pools/{pool}/(\d+)/replica-1/manifest\.json") == draws
        assert named(found.targets("exports"), rf"results/tiny/exports/{pool}/(\d+)/manifest\.json") == draws


def test_calibration_judges_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    primary = {"model": "cnn", "arm": "supplemented", "ratio": 100, "test_set": "hospital_a"}
    found = session(
        monkeypatch,
        generators=...,
        pools={"drawn": {"known": "copier", "rows_of": "hospital_a", "replicas": 2}},
        study_seeds=[1, 2],
        replicates={"count": 4, "pools": 2},
        analysis={"primary": [primary], "bootstrap": 100},
    )
    job = plan_over_runs("summarise_calibration", found.planners)
    assert job.slice["draws"] == 2
    for seed in (1, 2):
        assert named(job.inputs, rf"seed-{seed}/memorisation/drawn/(\d+)/manifest\.json") == {0, 1}


def gate(excess: float, exceeded: bool = False, barred: tuple[str, ...] = ()) -> dict[str, Any]:
    numbers = {"excess": excess, "low": excess - 0.01, "high": excess + 0.01, "limit": 0.01}
    return {**numbers, "exceeded": exceeded, "barred_sets": list(barred), "sentence": f"Excess {excess:g}."}


def judged(*gates: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    columns = ["arm", "ratio", "baseline", "dataset", "label", "metric", "difference", "low", "high", "verdict"]
    rows = [("supplemented", 100, "real", name, "macro", "auroc", 0.1, 0.05, 0.2, "helps") for name in ("a", "b")]
    analysis: Any = SimpleNamespace(
        arms={"supplemented": ComparedArm()}, primary_endpoints=lambda: {("a", "macro", "auroc")}
    )
    return apply_gates(pd.DataFrame(rows, columns=columns), {"supplemented": gates}, analysis)


def test_one_copying_draw_raises_the_alarm_and_is_named() -> None:
    _, alarm = judged(gate(0.0), gate(0.2, exceeded=True), gate(0.0))
    (row,) = alarm["rows"]
    assert row["exceeded"]
    assert row["sentence"] == "In draw 1, the worst of 3 draws of the pool (1 above the limit): Excess 0.2."
    assert judged(gate(0.2, exceeded=True))[1]["rows"][0]["sentence"] == "Excess 0.2."


def test_a_draw_with_copied_test_images_is_heard_behind_one_with_a_larger_excess() -> None:
    table, alarm = judged(gate(0.005), gate(0.001, barred=("a/test",)))
    assert dict(zip(table["dataset"], table["verdict"], strict=True)) == {"a": BARRED, "b": "helps"}
    assert alarm["raised"]
    assert alarm["rows"][0]["sentence"].startswith("In draw 1")
    table, alarm = judged(gate(0.2, exceeded=True), gate(0.001, barred=("a/test",)))
    assert alarm["rows"][0]["exceeded"]
    assert alarm["rows"][0]["barred_sets"] == ["a/test"]


def test_the_yield_of_a_filter_is_shown_for_every_draw() -> None:
    pools = {
        f"clean/{index}/replica-1": PoolFacts(identity="i", kept=kept, of_images=100)
        for index, kept in enumerate((90, 60, 10))
    }
    evidence: Any = SimpleNamespace(study=parse_study(tiny(pools__clean=FILTERED)), pools=pools)
    (table,) = yield_blocks(evidence)
    assert [row[-1] for row in table.rows] == ["90.0 %", "60.0 %", "10.0 %"]


def test_pictures_of_suspicious_pairs_name_their_draw(tmp_path: Path) -> None:
    from synthgain.report.evidence import pair_title

    assert pair_title("drawn", "0") == "Pool drawn: the most suspicious pairs"
    assert pair_title("drawn", "2") == "Pool drawn, draw 2: the most suspicious pairs"
    assert Measured("drawn", "2", MeasuredFacts(files={}), []).name() == "Pool drawn, draw 2"
