"""One table of stages: rule files, scripts, Slurm profile, documentation and plans agree with it."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from studies import tiny

from synthgain.runtime.command import job_of
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.inputs import Input, Inputs, NamedInputs
from synthgain.study.planner import Planner
from synthgain.study.session import Session
from synthgain.study.stage import Draft
from synthgain.study.stages.report import NAMES, shown
from synthgain.study.stages.table import STAGES

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "workflow_scripts"
TARGETS = {"report", "plan", "audit", "samples", "exports", "reader_kit", "verify", "accept"}  # of the Snakefile
DEAR = {
    "measure_speed",
    "train_autoencoder",
    "train_generator",
    "train_downstream",
}  # what first needs all data sets read and audited


def blocks(path: Path) -> dict[str, str]:
    """Return {rule: its text} of a rule file."""
    parts = re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]
    return {part.split(":")[0]: part for part in parts}


def rule_files() -> list[Path]:
    return sorted(path for path in (ROOT / "rules").glob("*.smk") if path.stem not in ("terminal", "study", "common"))


@pytest.mark.parametrize("path", rule_files(), ids=lambda path: path.stem)
def test_a_rule_file_holds_the_stages_of_its_module(path: Path) -> None:
    module = importlib.import_module(f"synthgain.study.stages.{path.stem}")
    assert list(blocks(path)) == [stage.name for stage in module.STAGES]


def test_every_stage_is_in_the_table_once() -> None:
    assert set(STAGES) == {rule for path in rule_files() for rule in blocks(path)}
    assert len({stage.output for stage in STAGES.values()}) == len(STAGES)
    assert all(name == stage.name for name, stage in STAGES.items())
    assert all(maker in STAGES for stage in STAGES.values() for maker in stage.inputs.values())


@pytest.mark.parametrize("name", STAGES)
def test_a_rule_names_the_inputs_of_its_stage(name: str) -> None:
    stage = STAGES[name]
    (text,) = [rules[name] for rules in map(blocks, rule_files()) if name in rules]
    assert re.findall(r'(\w+)=needs\("(\w+)", "(\w+)"\)', text) == [(given, name, given) for given in stage.inputs]
    assert (f'gpu=gpus("{name}")' in text) == stage.on_gpu
    assert f'job=job("{name}")' in text
    folder = ', "{wildcards.study}"' if stage.over_runs else ""
    assert f'script("{name}"{folder})' in text
    assert (f'audited=audited("{name}")' in text) == (name in DEAR)
    assert f'log_of("{name}")' in text
    assert f'benchmark_of("{name}")' in text


def test_every_job_has_a_log_of_its_own() -> None:
    for name, stage in STAGES.items():
        run = "study" if stage.over_runs else "run"
        log = stage.record("logs", "log")
        assert log.startswith(f"{{{run}}}/logs/{name}/")
        assert set(re.findall(r"\{(\w+)\}", log)) == {run, *stage.wildcards}, name


def read_by(path: Path) -> set[str]:
    """Return the names that a module reads of `job.inputs` or `request.inputs`."""
    return set(re.findall(r"\b(?:job|request)\.inputs\.(?!all\b)(\w+)", path.read_text()))


@pytest.mark.parametrize("name", STAGES)
def test_a_script_reads_inputs_that_its_rule_names(name: str) -> None:
    assert read_by(SCRIPTS / f"{name}.py") <= set(STAGES[name].inputs)


def test_what_rules_name_is_read() -> None:
    read = {name for path in SCRIPTS.rglob("*.py") for name in read_by(path)}
    assert read == {name for stage in STAGES.values() for name in stage.inputs}


FOLDERS = {stage.output.split("/")[0] for stage in STAGES.values() if "/" in stage.output} - {"forecast"}
ELSEWHERE = {"speed", "study"}  # writes a run of its own; plans


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(SCRIPTS.rglob("*.py")) if not ELSEWHERE & set(path.relative_to(SCRIPTS).parts)],
    ids=lambda path: str(path.relative_to(SCRIPTS)),
)
def test_no_script_builds_the_path_of_an_input(path: Path) -> None:
    """Messages may name a place; a path to a manifest or a table may not be put together."""
    text = path.read_text()
    found = re.findall(rf'"(?:{"|".join(FOLDERS)})/[^"]*(?:manifest\.json|\.parquet|\.png)"', text)
    assert not found
    assert not re.findall(rf'startswith\(f?"(?:{"|".join(FOLDERS)})/', text)


def test_the_docs_list_every_output() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    short = {
        "dataset": "d",
        "autoencoder": "a",
        "generator": "g",
        "index": "i",
        "snapshot": "step",
        "pool": "p",
        "replica": "k",
    }
    short |= {"shard": "s", "model": "m"}
    for stage in STAGES.values():
        path = stage.output.replace("{look}", "")
        written = re.sub(r"\{(\w+)\}", lambda match: f"<{short.get(match[1], match[1])}>", path)
        assert f"`{written}" in text or f"`../{written}" in text, written
        assert f"| {stage.name} |" in text, stage.name


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Planner:
    monkeypatch.chdir(ROOT)
    (planner,) = Session(tiny(), ROOT, Path("results")).planners.values()
    return planner


def test_what_the_report_shows_has_a_name_there(plan: Planner) -> None:
    assert set(shown(plan)) | {"forecast_cost"} == set(NAMES)
    assert list(STAGES["write_report"].inputs) == list(NAMES.values())


def test_planned_inputs_are_made_by_the_stage_that_the_table_names(plan: Planner) -> None:
    plan.job("write_report")
    jobs = {job.output: job for job in plan.jobs()}
    for job in jobs.values():
        assert list(job.named) == list(STAGES[job.rule].inputs)
        paths = [path for entries in job.named.values() for _, path in entries]
        assert set(paths) == set(job.inputs)
        for name, entries in job.named.items():
            assert {jobs[path].rule for _, path in entries} <= {STAGES[job.rule].inputs[name]}


def test_the_order_of_input_names_moves_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (plan,) = Session(tiny(), ROOT, Path("results")).planners.values()

    def turned(stage_plan):
        def draft(*arguments, **wildcards) -> Draft:
            found = stage_plan(*arguments, **wildcards)
            return replace(found, inputs=dict(reversed(found.inputs.items())))

        return draft

    stages = {
        name: replace(stage, plan=turned(stage.plan), inputs=dict(reversed(stage.inputs.items())))
        for name, stage in STAGES.items()
    }
    other = Planner(plan.study, plan.run, plan.seed, plan.code, Path("results"), None, stages)
    place = {"model": "cnn", "arm": "supplemented", "ratio": 100, "chunk": 0}
    for rule in ("train_downstream", "predict_downstream"):
        assert plan.job(rule, **place).identity == other.job(rule, **place).identity
        assert plan.job(rule, **place).parameter() == other.job(rule, **place).parameter()


def test_a_job_finds_its_inputs_by_name_and_key(plan: Planner, tmp_path: Path) -> None:
    planned = plan.job("train_downstream", model="cnn", arm="supplemented", ratio=100, chunk=0)
    job = job_of(json.loads(planned.parameter()), tmp_path, [tmp_path / planned.output])
    assert list(job.inputs.datasets) == ["hospital_a"]
    replica = job.inputs.replicas["drawn", 0, 1]
    assert replica.path == tmp_path / "pools/drawn/0/replica-1/manifest.json"
    assert replica.identity == planned.inputs[replica.name]
    assert {entry.name: entry.identity for entry in job.inputs.all()} == planned.inputs
    with pytest.raises(AttributeError, match=r"names no input 'pools'; it names .*replicas"):
        _ = job.inputs.pools
    with pytest.raises(SynthGainError, match=r"no datasets hospital_b; there are hospital_a"):
        _ = job.inputs.datasets["hospital_b"]


def test_named_inputs_keep_their_order_and_can_be_narrowed() -> None:
    entries = {(pool, index): Input(f"{pool}/{index}", Path(pool), "i") for pool in "ba" for index in (1, 0)}
    group = NamedInputs("fidelity", entries)
    assert list(group) == [("b", 1), ("b", 0), ("a", 1), ("a", 0)]
    assert list(group.below("a")) == [("a", 1), ("a", 0)]
    assert group.below("a", 1).only.name == "a/1"
    assert ("a", 2) not in group
    with pytest.raises(SynthGainError, match="has 4 fidelity, where one is read"):
        _ = group.only
    assert not Inputs({"fidelity": NamedInputs("fidelity", {})}).fidelity
