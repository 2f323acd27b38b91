"""Protocols: what they cover, that they are numbered and never overwritten, and looks as the planner has them."""

import json
from pathlib import Path
from typing import Any

import pytest
from studies import tiny

from synthgain.runtime.command import job_of
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.ledger import Mark, append
from synthgain.runtime.protocols import marks_of, path_of, read_protocols, write_protocol
from synthgain.statistics.looking import declared_of
from synthgain.study.load import parse_study
from synthgain.study.looks import look_now, told
from synthgain.study.planner import Planner
from synthgain.study.session import Session
from write_protocol import write_protocol as run_write_protocol

ROOT = Path(__file__).parent.parent
LOOKS = {"count": 12, "looks": [4, 8, 12], "per_job": 3}


def planner(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Planner:
    monkeypatch.chdir(ROOT)
    (plan,) = Session(tiny(**changes), ROOT, Path("results")).planners.values()
    return plan


def content(**study: Any) -> dict[str, Any]:
    return {"study": study, "data": {"a": "0" * 64}, "code": {"train_downstream": "1" * 32}, "declared": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"datasets__hospital_a__split": {"train": 0.4, "validation": 0.2, "test": 0.4}},
        {"datasets__hospital_a__prevalence": {"opacity": 0.4}},
        {"models__cnn__learning_rate": 0.01},
        {"models__cnn__steps": 7},
        {"models__cnn__selection": "last"},
        {"generators__ddpm__training": {"steps": 7, "batch_size": 8, "snapshots": [3]}},
        {"pools__drawn__sampling": {"steps": 3, "batch_size": 16}},
        {"pools__drawn": {"known": "oracle", "rows_of": "hospital_a", "replicas": 2}},
        {"image": {"size": 48, "channels": 1}},
        {"analysis__margin": 0.03},
        {"analysis__margin_reason": "because"},
        {"arms__real_long__steps_factor": 3},
        {"evaluation__memorisation": None},
        {"replicates__count": 3},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_covers_the_whole_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict) -> None:
    made = [planner(monkeypatch, **given).job("write_protocol").slice for given in ({}, change)]
    protocols = [
        write_protocol(tmp_path, {key: facts[key] for key in ("study", "data", "code", "declared")}, 0, [])
        for facts in made
    ]
    assert [protocol.number for protocol in protocols] == [1, 2]
    assert protocols[0].deviations(protocols[1])


def test_what_only_readers_read_and_where_it_runs_are_not_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planner(monkeypatch).job("write_protocol")
    after = planner(
        monkeypatch,
        description="new",
        arms__real__description="new",
        compute={"downstream_threads": 2},
        generators__ddpm__training__log_every=3,
        pools__drawn__shards=5,
        replicates__per_job=1,
    ).job("write_protocol")
    assert after.identity == before.identity


def test_data_and_code_are_covered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = {"adapter": "table", "table": "t.csv", "patient_id": "p", "site": {"constant": "c"}}
    table["targets"] = {"opacity": {"column": "x", "map": {"yes": 1, "no": 0}}}
    found = []
    for text in ("image,x,p\n", "image,x,p\na,1,2\n"):
        (tmp_path / "t.csv").write_text(text)
        changes = {"datasets__clinic": table, "evaluate_on": ["hospital_a", "clinic"], "data_root": str(tmp_path)}
        found.append(planner(monkeypatch, **changes).job("write_protocol").slice)
    assert found[0]["data"] != found[1]["data"]
    assert found[0]["study"] == found[1]["study"]
    assert {"train_generator", "train_downstream", "compare_arms"} <= found[0]["code"].keys()


def test_protocols_are_numbered_and_never_overwritten(tmp_path: Path) -> None:
    assert write_protocol(tmp_path, content(steps=1), 0, []).number == 1
    before = path_of(tmp_path, 1).read_bytes()
    assert write_protocol(tmp_path, content(steps=1), 5, []).number == 1
    second = write_protocol(tmp_path, content(steps=2), 5, [Mark(0, "a" * 64)])
    assert write_protocol(tmp_path, content(steps=1), 5, []).number == 3  # back again is another change
    assert path_of(tmp_path, 1).read_bytes() == before
    found, problems = read_protocols(tmp_path)
    assert problems == []
    assert [entry.number for entry in found] == [1, 2, 3]
    assert (found[1].results, found[1].marks) == (5, second.marks)
    assert found[0].hash == found[2].hash
    assert found[0].sha256 != found[2].sha256
    assert found[0].deviations(found[1]) == ["steps 1, now 2"]


def test_deviations_name_keys_data_and_code(tmp_path: Path) -> None:
    first = write_protocol(tmp_path, content(steps=1), 0, [])
    other = content(steps=1) | {
        "data": {"a": "f" * 64},
        "code": {"train_downstream": "2" * 32, "compare_arms": "3" * 32},
    }
    found = first.deviations(write_protocol(tmp_path, other, 0, []))
    assert found[0].startswith("data set a ")
    assert found[1] == "code of compare_arms, train_downstream"


def test_a_changed_or_missing_protocol_is_named(tmp_path: Path) -> None:
    for steps in (1, 2, 3):
        write_protocol(tmp_path, content(steps=steps), 0, [])
    text = path_of(tmp_path, 1).read_text()
    path_of(tmp_path, 1).write_text(text.replace('"steps": 1', '"steps": 9'))
    path_of(tmp_path, 2).unlink()
    path_of(tmp_path, 3).write_text("{")
    _, problems = read_protocols(tmp_path)
    said = ["protocol-1.json: was changed after", "protocol-2.json: is gone", "protocol-3.json: is damaged"]
    assert [piece in problem for piece, problem in zip(said, problems, strict=True)] == [True, True, True]


def test_statistics_and_protocols_name_the_lines_that_were_there(tmp_path: Path) -> None:
    mark = append(tmp_path, {"look": 1})
    folder = tmp_path / "statistics" / "look-1" / "cnn"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"identity": "x", "files": {}, "ledger": [vars(mark)]}))
    write_protocol(tmp_path, content(steps=1), 0, [mark])
    assert list(marks_of(tmp_path)) == [("statistics/look-1/cnn", mark), ("protocol-1.json", mark)]


def test_the_writer_writes_once_with_page_power_and_receipt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    planned = planner(monkeypatch, replicates=LOOKS).job("write_protocol")
    job = job_of(json.loads(planned.parameter()), tmp_path, [tmp_path / "protocol" / "receipt.json"])
    run_write_protocol(job)
    run_write_protocol(job)
    (protocol,), problems = read_protocols(tmp_path)
    assert problems == []
    assert json.loads(job.outputs[0].read_text())["sha256"] == protocol.sha256
    page = (tmp_path / "protocol-1.html").read_text()
    for heading in ("Hypotheses", "Estimand", "Margin", "Arms", "Looks", "Power", "No prediction of this study"):
        assert heading in page
    for item in (
        "Population",
        "Training recipe",
        "Generator",
        "Contrast",
        "Diverged seeds",
        "Missing labels",
        "Quarantine",
    ):
        assert f"<dt>{item}</dt>" in page
    power = protocol.content["power"]
    assert set(power["controls"]) == {"repeated", "real_long"}
    assert [look["replicates"] for look in power["looks"]] == [4, 8, 12]
    assert power["false_equivalent"] < 0.06


def test_power_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for changes, said in (
        (
            {"analysis__primary__metric": "brier", "analysis__margin": 0.01, "analysis__margin_reason": "small"},
            "give analysis.assumed",
        ),
        ({"replicates__count": 1}, "Two replicates are needed."),
    ):
        planned = planner(monkeypatch, **changes).job("write_protocol")
        job = job_of(json.loads(planned.parameter()), tmp_path, [tmp_path / "protocol" / "receipt.json"])
        run_write_protocol(job)
        assert said in read_protocols(tmp_path)[0][-1].content["power"]["note"]


def test_analysis_and_protocol_declare_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planner(monkeypatch, replicates=LOOKS)
    assert (
        declared_of(plan.at("look-2/").job("compare_arms", model="cnn").slice)
        == plan.job("write_protocol").slice["declared"]
    )


def test_no_job_reaches_over_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planner(monkeypatch, replicates=LOOKS)
    cut = [plan.replicates_of(chunk) for chunk in plan.at("look-3/").chunks()]
    assert cut == [[0, 1, 2], [3], [4, 5, 6], [7], [8, 9, 10], [11]]
    assert list(plan.at("look-1/").chunks()) == [0, 1]
    assert plan.chunk_of(7) == 3


def test_a_look_has_its_own_results_and_only_its_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planner(monkeypatch, replicates=LOOKS).at("look-2/")
    report = plan.job("write_report")
    assert report.output == "look-2/report.html"
    assert "statistics/look-2/cnn/manifest.json" in report.inputs
    collected = plan.job("collect_predictions", model="cnn", arm="real")
    assert [path.split("/")[-1] for path in collected.inputs] == ["0.parquet", "1.parquet", "2.parquet", "3.parquet"]
    assert plan.job("compare_arms", model="cnn").slice["replicates"]["count"] == 8


def test_looks_at_multiples_of_a_jobs_replicates_cut_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = planner(monkeypatch, replicates={"count": 12, "per_job": 4})
    looked = planner(monkeypatch, replicates={"count": 12, "per_job": 4, "looks": [4, 8, 12]})
    place = {"model": "cnn", "arm": "supplemented", "ratio": 100}
    for chunk in plain.chunks():
        job = plain.job("train_downstream", **place, chunk=chunk)
        assert looked.job("train_downstream", **place, chunk=chunk).identity == job.identity


@pytest.mark.parametrize(
    ("replicates", "said"),
    [
        ({"count": 12, "looks": [12]}, "is no plan of several looks"),
        ({"count": 12, "looks": [8, 4, 12]}, "looks must rise"),
        ({"count": 10, "looks": [4, 8, 12]}, "the last is at 12 replicates, and count is 10"),
        ({"count": 8, "looks": [2, 8]}, "2 replicates decide nothing"),
        ({"count": 8, "looks": [5, 8], "generators": 2}, "5 is no multiple of the 2 generators"),
        ({"count": 8, "looks": ["4", 8]}, "looks"),
    ],
)
def test_a_wrong_plan_of_looks_is_refused_in_one_line(replicates: dict, said: str) -> None:
    with pytest.raises(SynthGainError, match="replicates") as error:
        parse_study(tiny(replicates=replicates))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_ledger_says_which_look_is_next(tmp_path: Path) -> None:
    study = parse_study(tiny(replicates=LOOKS))
    assert look_now(study, tmp_path) == "look-1/"
    assert told(study, tmp_path) == ""
    append(tmp_path, {"look": 1, "replicates": 4, "decided": False, "verdict": "inconclusive"})
    assert look_now(study, tmp_path) == "look-2/"
    assert told(study, tmp_path) == "undecided at look 1 of 3 (4 replicates): run the same command to go on"
    append(tmp_path, {"look": 2, "replicates": 8, "decided": True, "verdict": "helps"})
    assert look_now(study, tmp_path) == "look-2/"
    assert "decided at look 2 of 3 (8 replicates): helps" in told(study, tmp_path)
    append(tmp_path, {"look": 1, "replicates": 4, "decided": False, "verdict": "inconclusive"})
    assert look_now(study, tmp_path) == "look-2/"
    once = parse_study(tiny())
    assert (look_now(once, tmp_path), told(once, tmp_path)) == ("", "")
