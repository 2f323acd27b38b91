"""The forecast: counts against the plan and against the code that computes, speeds measured for real, sums by hand."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from job_inputs import inputs_at, new_job, paths_of
from simulated_run import make_run, report_job
from studies import tiny
from test_solvers import Gaussian
from workshop import Workshop, new_workshop

from measure_speed import measure_speed
from synthgain.downstream.options import Arm
from synthgain.evaluation.membership import NOISE_LEVELS
from synthgain.pools.inpainting import levels
from synthgain.pools.options import Inpainting, Sampling
from synthgain.pools.passes import evaluations
from synthgain.pools.sampling import SOLVERS, sample
from synthgain.report.evidence import gather
from synthgain.report.facts import ForecastFacts
from synthgain.report.sections.cost import cost_section, stage_minutes
from synthgain.runtime.files import write_json, write_manifest
from synthgain.speed.documents import Counted, Forecast, Size, SizeSource, Speed, Term
from synthgain.speed.forecast import added, by, forecast_groups, wall_seconds
from synthgain.speed.plan_text import duration, plan_text
from synthgain.speed.sizes import dataset_sizes
from synthgain.statistics.protocol_power import shares_that_end
from synthgain.study.planner import PlannedJob, Planner
from synthgain.study.session import Session
from synthgain.study.stage import TABLES
from synthgain.study.stages.downstream import steps_of
from synthgain.study.stages.evaluation import MEMBERSHIP_LEVELS
from synthgain.study.stages.forecast import Group, work_groups
from synthgain.study.stages.table import STAGES
from synthgain.study.work import joined
from synthgain.study.yaml_files import read_yaml

ROOT = Path(__file__).parent.parent
LATENT_STUDY: dict[str, Any] = {
    "autoencoders__vae": {"train_on": {"datasets": ["hospital_a"]}, "training": {"steps": 4, "batch_size": 8}},
    "generators__ddpm__autoencoder": "vae",
    "pools__ceiling": {"known": "reconstructed", "autoencoder": "vae", "rows_of": "hospital_a"},
    "arms__ceiling": {"real": "hospital_a", "synthetic": "ceiling", "ratios": [100]},
}
SEVERAL = {"replicates": {"count": 5, "per_job": 2, "generators": 2, "pools": 3}}
GAN = {
    "family": "gan",
    "train_on": {"datasets": ["hospital_a"]},
    "condition_on": ["opacity"],
    "training": {"steps": 4, "batch_size": 4},
}


def planner(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> Planner:
    monkeypatch.chdir(ROOT)
    return next(iter(Session(config, ROOT, Path("results")).planners.values()))


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_evaluations_are_those_of_the_solvers(solver: str, scale: float, steps: int) -> None:
    generator, condition = Gaussian(), torch.zeros(1, dtype=torch.float64)
    noise = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    sample(generator, condition, noise, solver, steps, guidance_scale=scale)
    assert evaluations(Sampling(solver=solver, steps=steps, guidance_scale=scale)) == generator.calls
    inside = Gaussian()
    sample(inside, condition, noise, solver, steps, guidance_scale=scale, guidance_interval=(0.1, 1.0))
    assert inside.calls <= generator.calls


@pytest.mark.parametrize(("steps", "resamples", "jump"), [(18, 5, 3), (7, 2, 3), (2, 4, 5), (6, 1, 3), (1, 3, 1)])
def test_evaluations_of_inpainting_are_the_steps_down_of_its_path(steps: int, resamples: int, jump: int) -> None:
    path = levels(steps, resamples, jump)
    down = sum(after > now for now, after in pairwise(path))
    inpainting = Inpainting(structure="disc", resamples=resamples, jump_length=jump)
    assert evaluations(Sampling(solver="euler", steps=steps), inpainting) == down


def test_membership_has_its_levels() -> None:
    assert len(NOISE_LEVELS) == MEMBERSHIP_LEVELS


@pytest.mark.parametrize(
    ("changes", "ratio", "expected"),
    [
        ({}, 300, 100),
        ({"steps_factor": 2.0}, 0, 200),
        ({"match": "epochs"}, 300, 400),
        ({"match": "epochs"}, 0, 100),
        ({"match": "epochs", "real": None}, 300, 300),
        ({"match": "epochs", "sibling_probability": 0.5}, 200, 200),
    ],
)
def test_steps_of_an_arm(changes: dict[str, Any], ratio: int, expected: int) -> None:
    arm = Arm.model_construct(**{"steps_factor": 1.0, "real": "a", "sibling_probability": None, **changes})
    assert steps_of(100, changes.get("match", "steps"), arm, ratio) == expected


STUDIES = {
    "tiny": tiny(),
    "several": tiny(**SEVERAL),
    "snapshots": tiny(evaluation__snapshots=True),
    "latents": tiny(**LATENT_STUDY, evaluation__snapshots=True),
    "gan": tiny(generators__gan=GAN, pools__other={"from": "gan", "rows_of": "hospital_a", "replicas": 1}),
    **{
        name: read_yaml(ROOT / f"{name}.yaml")
        for name in ("config", "studies/phantom_segmentation", "studies/calibration")
    },
}


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_planned_job_is_counted_once_after_its_inputs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planner(monkeypatch, STUDIES[name])
    groups = work_groups(plan)
    plan.job("write_report")
    jobs = [job for job in plan.jobs() if job.rule not in ("measure_speed", "forecast_cost")]
    wanted = _behind(plan.job("write_report"), {job.output: job for job in jobs})
    counted = [group.counted() for group in groups]
    assert Counter({rule: sum(g.jobs for g in counted if g.rule == rule) for rule in {g.rule for g in counted}}) == (
        Counter(job.rule for job in wanted)
    )
    assert all(before < number for number, group in enumerate(counted) for before in group.after)
    measured = plan.job("measure_speed").slice["kinds"]
    for group in counted:
        assert 1 / group.jobs - 1e-6 <= group.longest <= 1
        for entry in group.work:
            assert entry.kind in measured, "a kind of work that nothing measures"
            assert entry.amount > 0


def _behind(report: PlannedJob, jobs: dict[str, PlannedJob]) -> list[PlannedJob]:
    found, pending = {report.output: report}, [report]
    while pending:
        for path in pending.pop().inputs:
            if path in jobs and path not in found:
                found[path] = jobs[path]
                pending.append(jobs[path])
    return list(found.values())


def terms_of(groups: list[Group], rule: str) -> list[Term]:
    return [term for group in groups if group.rule == rule for term in group.counted().work]


def amounts(groups: list[Group], rule: str, unit: str) -> float:
    return sum(term.amount for term in terms_of(groups, rule) if term.unit == unit and not term.images)


def weight(groups: list[Group], rule: str, place: str) -> float:
    terms = [term for term in terms_of(groups, rule) if not term.at_most]
    return sum(term.amount * term.images.get(place, 0.0) for term in terms)


def test_counts_of_a_study_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = {"solver": "heun", "steps": 4, "guidance_scale": 2.0, "batch_size": 16}
    changes = {**SEVERAL, "match": "epochs", "pools__drawn__sampling": sampling}
    groups = work_groups(planner(monkeypatch, tiny(**changes)))
    assert amounts(groups, "train_generator", "step") == 2 * 6
    # 3 draws x 2 generators take turns, so the 5 replicates use 5 draws; the memorisation gate reads both replicas
    assert weight(groups, "draw_pool_shard", "hospital_a/train") == 5 * 2 * (2 * (2 * 4 - 1))
    # steps 6: real, strong, only synthetic; 12: long; 12: repeated and supplemented, twice the images
    assert amounts(groups, "train_downstream", "step") == 5 * (6 + 6 + 6 + 12 + 12 + 12)
    assert weight(groups, "train_downstream", "hospital_a/validation") == 5 * (2 + 2 + 2 + 4 + 4 + 4)
    assert weight(groups, "predict_downstream", "hospital_b/all") == 5 * 6
    assert weight(groups, "predict_downstream", "hospital_a/test") == 5 * 6


@pytest.mark.parametrize(
    ("changes", "measured", "counted"),
    [
        ({"compute__generator_threads": 2, "compute__device": "cpu"}, False, False),
        ({"models__cnn__learning_rate": 0.01}, False, False),
        ({"analysis__margin": 0.03}, False, False),
        ({"arms__supplemented__ratios": [100, 200]}, False, True),
        ({"generators__ddpm__training__steps": 9}, False, True),
        ({"models__cnn__batch_size": 4}, True, True),
        ({"generators__ddpm__network": {"block_out_channels": [8, 16], "layers_per_block": 1}}, True, True),
        ({"image__size": 64}, True, True),
    ],
)
def test_what_is_measured_and_counted_again(
    changes: dict[str, Any], measured: bool, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = (planner(monkeypatch, tiny(**change)) for change in ({}, changes))
    found = [before.job(rule).identity != after.job(rule).identity for rule in ("measure_speed", "forecast_cost")]
    assert found == [measured, counted]
    assert not {"measure_speed", "forecast_cost"} & {
        job.rule
        for job in after.jobs()
        if job.rule != "write_report" and any("forecast/" in path for path in job.inputs)
    } - {"forecast_cost"}, "nothing but the report rests on a forecast"


@pytest.mark.parametrize(
    ("module", "behind"),
    [
        ("pools/sampling.py", True),
        ("networks/unet.py", True),
        ("networks/small_cnn.py", True),
        ("downstream/training.py", True),
        ("networks/gan.py", False),
        ("generators/gan/training.py", False),
        ("datasets/phantom.py", False),
        ("statistics/analysis.py", False),
        ("report/figures/style.py", False),
    ],
)
def test_which_code_is_measured_again(
    module: str, behind: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = planner(monkeypatch, tiny()).job("measure_speed").code
    for name in ("workflow_scripts", "envs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "workflow_scripts" / "synthgain" / module
    path.write_text(path.read_text() + "\nEDITED = 1\n")
    edited = next(iter(Session(tiny(), tmp_path, Path("results")).planners.values()))
    assert (edited.job("measure_speed").code != before) == behind


def test_rehearsals_and_seeds_of_a_study_have_no_forecast_in_their_report(monkeypatch: pytest.MonkeyPatch) -> None:
    for config in (tiny(rehearsal=True), STUDIES["studies/calibration"]):
        report = planner(monkeypatch, config).job("write_report")
        assert not [path for path in report.inputs if path.startswith("forecast/")]


SPEED = Speed.model_validate({
    "kinds": {
        "model m": {
            "step": {"seconds": 0.5, "cpu_seconds": 0.2},
            "image": {"seconds": 0.1, "cpu_seconds": 0.04},
            "threads": 2, "memory_gb": 1.5, "network_bytes": 100,
        },
        "sampling g": {"error": "out of memory"},
    },
    "start_up": {"python": 0.1, "tables": 1.0, "torch": 3.0, "drawing": 5.0},
    "machine": {"gpu": False, "device": "cpu", "cores": 2, "measured": "now", "busy": 0.5},
    "threads": {}, "seconds": 4.0,
})  # fmt: skip
SIZES = {
    "a": Size(all=100, train=50, validation=20, test=30, known="read"),
    "b": Size(known="no"),
}


def term(kind: str, unit: str, amount: float, images: dict | None = None, at_most: int = 0, passes: int = 1) -> Term:
    return Term(kind=kind, unit=unit, amount=amount, images=images or {}, at_most=at_most, passes=passes)


def group(rule: str, work: list[Term], jobs: int = 1, after: list[int] | None = None, **more: Any) -> Counted:
    entry = {
        "rule": rule,
        "name": "x",
        "jobs": jobs,
        "work": work,
        "disk": [],
        "longest": 1 / jobs,
        "after": after or [],
        "gpu": STAGES[rule].on_gpu and bool(work),
        "loads": STAGES[rule].loads if work else TABLES,
    }
    return Counted(**{**entry, **more})


def test_work_is_counted_up_to_each_planned_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    looks = {"count": 12, "looks": [4, 8, 12], "per_job": 4}
    once, planned = (
        next(iter(Session(tiny(replicates=given), ROOT, Path("results")).planners.values()))
        .at(look)
        .job("forecast_cost")
        .slice
        for given, look in (({"count": 12}, ""), (looks, "look-1/"))
    )
    assert "looks" not in once
    jobs = [
        sum(group["jobs"] for group in look["groups"] if group["rule"] == "train_downstream")
        for look in planned["looks"]
    ]
    assert jobs == [6, 12, 18]
    assert planned["groups"] == planned["looks"][-1]["groups"]
    ends = shares_that_end([4, 8, 12], 0.05, 0.024**2, 0.19**2 / 150, np.random.default_rng(0))
    assert [sum(shares) for shares in zip(*ends, strict=True)] == pytest.approx([1, 1])
    assert ends[0][1] > ends[0][0]


def test_hours_of_a_group_by_hand() -> None:
    work = [
        term("model m", "step", 10, passes=8),
        term("model m", "image", 3, {"a/validation": 1.0, "a/test": 1.0}, 40),
    ]
    disk = [term("model m", "network", 2), term("", "bytes", 4, {"a/all": 1.0})]
    (found,) = forecast_groups([group("train_downstream", work, jobs=2, disk=disk)], SPEED, SIZES)
    assert found.steps == 10
    assert found.passes == 10 * 8 + 3 * 40, "the cap holds before the factor"
    assert found.cpu_seconds == pytest.approx(2 * 3 + 10 * 0.2 + 120 * 0.04)
    assert found.seconds == pytest.approx(2 * 3 + 10 * 0.1 + 120 * 0.02), "of cores of its own: CPU time over threads"
    assert found.longest_seconds == pytest.approx(3 + (1.0 + 2.4) / 2)
    assert found.disk_bytes == 2 * 100 + 4 * 100
    assert (found.gpu_seconds, found.memory_gb, found.missing) == (0.0, 1.5, [])
    machine = SPEED.machine.model_copy(update={"gpu": True})
    gpu = SPEED.model_copy(update={"start_up": {**SPEED.start_up, "device": 2.0}, "machine": machine})
    (there,) = forecast_groups([group("train_downstream", work, jobs=2)], gpu, SIZES)
    assert there.gpu_seconds == there.seconds == pytest.approx(2 * (3 + 2) + 10 * 0.5 + 120 * 0.1)


def test_what_is_not_known_is_named_and_not_hidden() -> None:
    unread = [term("model m", "image", 1, {"b/all": 1.0})]
    broken, unmeasured = [term("sampling g", "pass", 5)], [term("features z", "image", 5)]
    made = [
        group("predict_downstream", unread),
        group("draw_pool_shard", broken),
        group("measure_fidelity", unmeasured),
    ]
    found = forecast_groups([*made, group("compare_arms", [])], SPEED, SIZES)
    reasons = [entry.missing for entry in found]
    assert "not known before it is read" in reasons[0][0]
    assert "out of memory" in reasons[1][0]
    assert "not measured" in reasons[2][0]
    assert reasons[3] == []
    assert not found[3].modelled
    text = plan_text(Forecast(study="s", runs=1, groups=found, sizes=SIZES, speed=SPEED), [0, 0, 0, 1], 2, {})
    assert "Not forecast: sampling g: out of memory." in text
    assert text.count("not all forecast") >= 3
    assert "start-up only" in text


def test_the_plan_says_what_four_generators_would_cost() -> None:
    step = [term("model m", "step", 100)]

    def text(generators: int, runs: int = 1) -> str:
        groups = forecast_groups([group("train_generator", step, jobs=generators)], SPEED, SIZES)
        forecast = Forecast(study="s", runs=runs, groups=groups, sizes=SIZES, speed=SPEED)
        return " ".join(plan_text(forecast, [0], 2, {}).split())

    one = forecast_groups([group("train_generator", step)], SPEED, SIZES)[0].seconds
    assert "The verdict will be about this generator alone." in text(1)
    assert f"would take {duration(3 * one)} and" in text(1)
    assert "about these 2 generators alone" in text(2)
    assert "generators alone" not in text(4)
    assert "about this generator alone" in text(1, runs=10)


def test_the_clock_is_bound_by_work_and_by_the_longest_chain() -> None:
    step = [term("model m", "step", 100)]  # 10 s on two threads, and 3 s to start
    groups = [
        group("train_downstream", step),
        group("score_pool", step, after=[0]),
        group("predict_downstream", step, 4),
    ]
    found = forecast_groups(groups, SPEED, SIZES)
    bounds = wall_seconds(found, 4)
    assert bounds["path"] == pytest.approx(26)
    assert bounds["work"] == pytest.approx(2 * (13 + 13 + 4 * 3 + 10) / 4)
    assert wall_seconds(found, 4, [0.0, 1.0, 0.0])["path"] == pytest.approx(13)
    assert by(found, "rule")[0].seconds == pytest.approx(13)
    assert added(found).jobs == 6


def test_terms_of_one_kind_are_added_and_capped_ones_kept_apart() -> None:
    terms = [term("m", "image", 2, {"a/test": 1.0}), term("m", "image", 1, {"a/test": 3.0, "b/all": 1.0})]
    capped = term("m", "image", 1, {"a/test": 1.0}, 7)
    found = joined([*terms, capped, capped])
    assert found == [term("m", "image", 1, {"a/test": 5.0, "b/all": 1.0}), term("m", "image", 2, {"a/test": 1.0}, 7)]


def test_sizes_are_read_counted_or_not_known(tmp_path: Path) -> None:
    rows = {"image": range(10), "view": ["AP", "PA"] * 5, "fold": ["1"] * 6 + ["2"] * 4}
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    shares = {"train": 0.5, "validation": 0.2, "test": 0.3}
    datasets: dict[str, dict[str, Any]] = {
        "phantom": {"identity": "i", "split_identity": "s", "images": 90.0, "shares": shares},
        "table": {"identity": "i", "table": {"path": "table.csv", "where": {"view": "AP"}}},
        "folds": {
            "identity": "i", "table": {"path": "table.csv", "where": {}}, "split_identity": "s", "shares": shares,
            "column": {"name": "fold", "map": {"1": "train", "2": "test"}},
        },
        "unread": {"identity": "i"},
    }  # fmt: skip
    for name, entry in datasets.items():
        entry["manifest"] = f"datasets/{name}/manifest.json"
        if "shares" in entry:
            entry |= {"split_manifest": f"splits/{name}/manifest.json"}
    sources = {name: SizeSource.model_validate(entry) for name, entry in datasets.items()}
    found = dataset_sizes(tmp_path, sources, tmp_path)
    how = "as the config has it"
    assert found["phantom"] == Size(all=90.0, train=45.0, validation=18.0, test=27.0, known=how)
    assert (found["table"].all, found["table"].test, found["table"].known) == (5, 5, "counted in its table")
    assert (found["folds"].train, found["folds"].validation, found["folds"].test) == (6, 0, 4)
    assert found["unread"].all is None
    write_manifest(tmp_path / "datasets/unread/manifest.json", "i", [], images=7)
    assert dataset_sizes(tmp_path, sources, None)["unread"].all == 7
    other = {"unread": sources["unread"].model_copy(update={"identity": "other"})}
    assert dataset_sizes(tmp_path, other, None)["unread"].all is None


def test_durations_read_well() -> None:
    assert [duration(s) for s in (0, 0.44, 59, 61, 7200)] == ["–", "0.4 s", "59.0 s", "1.0 min", "2.0 h"]


def measured(plan: Planner, folder: Path, names: list[str] | None = None) -> dict[str, Any]:
    job = plan.job("measure_speed")
    facts = {**job.slice, "kinds": {k: v for k, v in job.slice["kinds"].items() if names is None or k in names}}
    output = folder / "forecast" / "speed.json"
    measure_speed(new_job(dict(facts), {}, "", job.identity, folder, [output], 1))
    found = json.loads(output.read_text())
    assert found["identity"] == job.identity
    return dict(found)


@pytest.mark.slow
def test_speeds_of_the_tiny_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planner(monkeypatch, tiny(image__size=16, models__bad=tiny()["models"]["cnn"]))
    # What a study may ask for is checked while planning; an option that only the job refuses comes from elsewhere.
    kinds = plan.job("measure_speed").slice["kinds"]
    kinds["model bad, standard augmentation"]["model"]["network"]["options"]["no_such_option"] = 1
    found = measured(plan, tmp_path)
    for name, units in {"model cnn, standard augmentation": ("step", "image"), "generator ddpm": ("step",),
                        "sampling ddpm": ("pass",)}.items():  # fmt: skip
        for unit in units:
            assert found["kinds"][name][unit]["seconds"] > 0
            assert found["kinds"][name][unit]["cpu_seconds"] > 0
        assert found["kinds"][name]["memory_gb"] > 0
    assert found["kinds"]["generator ddpm"]["network_bytes"] > 10_000
    assert "no_such_option" in found["kinds"]["model bad, standard augmentation"]["error"]
    assert found["start_up"]["drawing"] > found["start_up"]["torch"] > found["start_up"]["tables"] > 0
    assert found["machine"]["device"] == "cpu"


@pytest.mark.slow
def test_speeds_of_gans_segmenters_and_control_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = {"block_out_channels": [8, 16], "layers_per_block": 1}
    shared = {"train_on": {"datasets": ["hospital_a"]}, "training": {"steps": 2, "batch_size": 2}}
    base = {"family": "diffusion", **shared, "condition_on": ["opacity"], "network": {"name": "unet_condition", **size}}
    changes: dict[str, Any] = {
        "image__size": 16,
        "generators__gan": {**GAN, "output": "image+mask", "structures": ["lungs"]},
        "generators__base": base,
        "generators__steered": {
            **base, "condition_on": ["opacity", "mask"], "structures": ["lungs"], "mask_by": "controlnet",
            "init_from": "base",
        },
        "arms": {"real": {"real": "hospital_a"}, "real_long": {"real": "hospital_a", "steps_factor": 2}},
        "analysis__primary": {"model": "cnn", "arm": "real_long", "test_set": "hospital_a"},
        "models__seg": {
            "task": "segmentation", "structures": ["lungs"], "steps": 4, "batch_size": 2, "validate_every": 2,
            "network": {"name": "unet", "channels": [8, 16]},
        },
    }  # fmt: skip
    plan = planner(monkeypatch, tiny(**changes))
    names = [
        "generator gan",
        "sampling gan",
        "generator steered",
        "sampling steered",
        "model seg, standard augmentation",
    ]
    found = measured(plan, tmp_path, names)["kinds"]
    assert {name: entry.get("error") for name, entry in found.items()} == dict.fromkeys(names)


def fake_forecast(folder: Path) -> dict[str, Any]:
    work = {"train_generator": [term("model m", "step", 3000)], "train_downstream": [term("model m", "step", 2500)]}
    groups = forecast_groups([group(rule, terms) for rule, terms in work.items()], SPEED, SIZES)
    groups += forecast_groups([group("compare_arms", [])], SPEED, SIZES)
    speed = SPEED.model_copy(update={"kinds": {"generator ddpm": SPEED.kinds["model m"]}})
    forecast = Forecast(study="phantom", runs=1, groups=groups, sizes=SIZES, speed=speed)
    facts = {"identity": "f" * 32, **forecast.model_dump(mode="json", by_alias=True)}
    write_json(folder / "forecast" / "forecast.json", facts)
    return facts


def test_the_report_sets_forecast_beside_fact(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    job = report_job(run)
    without = cost_section(gather(job))
    assert any("No forecast" in block.text for block in without.blocks if hasattr(block, "text"))
    fake_forecast(run)
    evidence = gather(replace(job, inputs=inputs_at(run, {**paths_of(job.inputs), "forecast/forecast.json": "f" * 32})))
    tables = {block.title: block for block in cost_section(evidence).blocks if hasattr(block, "headers")}
    rows = {row[0]: row for row in tables["Forecast and fact"].rows}
    assert list(rows["train_generator"][1:3]) == ["1", "1"]
    assert float(rows["train_generator"][3]) == pytest.approx((5 + 300) / 60, abs=0.05)
    assert float(rows["train_generator"][6]) == pytest.approx(310 / 60, abs=0.05)
    assert "start-up only" in tables["Forecast and fact"].note
    assert rows["compare_arms *"][5] == "–", "no ratio to what nobody forecast"
    assert "in all" in rows
    steps = {row[0]: row for row in tables["Seconds of a step"].rows}
    assert float(steps["generator ddpm"][2]) == pytest.approx(0.1)
    assert float(steps["generator ddpm"][3]) == pytest.approx(285.7 / 2000, abs=1e-3)


def test_stages_without_run_times_stay_in_the_table(tmp_path: Path) -> None:
    empty = pd.DataFrame(columns=["rule", "jobs", "hours", "cpu_hours", "longest_minutes", "memory_gb"])
    table = stage_minutes(ForecastFacts.model_validate(fake_forecast(tmp_path)), empty)
    assert list(table["recorded"]) == [0, 0, 0, 0]
    assert table["fact"].isna().sum() == 3


@pytest.mark.slow
@pytest.mark.workflow
def test_snakemake_plan_reads_the_data_measures_once_and_trains_nothing(tmp_path: Path) -> None:
    shop = new_workshop(tmp_path)
    first = shop.snakemake("--cores", "2", "plan", "--quiet", "rules")
    results = shop.folder / "results" / "tiny"
    read = {"datasets", "splits", "audit", "state"}  # before anything is measured
    assert {path.name for path in results.iterdir()} == {"forecast", "logs", "benchmarks", *read}
    assert "jobs, 5 of them done" in first  # three data sets, one of them divided, and the audit
    for word in ("train_generator", "draw_pool_shard drawn", "supplemented", "shared by the arms", "longest chain"):
        assert word in first
    stamp = (results / "forecast" / "speed.json").stat().st_mtime_ns
    second = shop.snakemake("--cores", "2", "plan", "--quiet", "rules")
    assert "Forecast of tiny" in second
    assert (results / "forecast" / "speed.json").stat().st_mtime_ns == stamp


@pytest.mark.slow
@pytest.mark.workflow
def test_a_built_study_is_as_it_was_counted(built: Workshop) -> None:
    """Steps, passes and bytes of the forecast are those that the finished jobs recorded."""
    results = built.folder / "results" / "tiny"
    groups = json.loads((results / "forecast" / "forecast.json").read_text())["groups"]
    found: Counter[str] = Counter()
    for path in results.glob("downstream/*/*/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        found[manifest["arm"]] += sum(run["steps"] for run in manifest["replicates"].values())
    assert {g["arm"]: g["steps"] for g in groups if g["rule"] == "train_downstream"} == dict(found)
    bench = {path.name: len(list(path.rglob("*.tsv"))) for path in (results / "benchmarks").iterdir()}
    counted: Counter[str] = Counter()
    for entry in groups:
        counted[entry["rule"]] += entry["jobs"]
    assert {rule: bench[rule] for rule in counted} == dict(counted)
    page = (results / "report.html").read_text()
    assert "Forecast and fact" in page
    assert "Seconds of a step" in page
    text = built.snakemake("--cores", "2", "plan", "--quiet", "rules")
    assert f"{sum(counted.values())} jobs, {sum(counted.values())} of them done" in text
