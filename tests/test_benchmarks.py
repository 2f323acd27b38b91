"""Every benchmark runs, cut to a moment, and gives its row of the table; no time is judged here."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

# {benchmark: what is made smaller than even its small mode}; `memory` stands in test_memory.py
CUTS = {
    "sampling": {"STEPS": 2, "BATCH": 4},
    "latents": {"SIZE": 32, "BATCH": {"cpu": 1}},
    "accepted_quality": {"TRAINING": {"small": 2}, "CLASSIFIER": {"small": 2}, "IMAGES": {"small": 24}, "DDPM": 100},
    "pool_draws": {},
    "downstream_training": {"SMALL_STEPS": 2},
    "generator_training": {"SMALL_STEPS": 1},
    "waiting": {"SMALL_STEPS": 1},
    "tables": {"SMALL": 800},
}


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), str(BENCHMARKS.parent / "workflow_scripts"), *sys.path])
    monkeypatch.setenv("SYNTHGAIN_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def small_study(monkeypatch):
    """The default study with few patients."""
    study_jobs = importlib.import_module("study_jobs")
    whole = study_jobs.default_study
    return lambda size=None, **changes: whole(size, **{"datasets__hospital_a__patients": 60, **changes})


@pytest.mark.parametrize("name", CUTS)
def test_a_benchmark_gives_its_row(name, small_study, monkeypatch):
    benchmark = importlib.import_module(name)
    monkeypatch.setattr(benchmark, "default_study", small_study, raising=False)
    for constant, value in CUTS[name].items():
        assert hasattr(benchmark, constant)
        monkeypatch.setattr(benchmark, constant, value)
    measure = importlib.import_module("measure")
    row = benchmark.measure(measure.Options(small=True))
    found = json.loads(json.dumps(row.as_json()))
    assert found["name"] == name
    assert found["ours"]
    assert found["reach"]
    if found["ratio"] is not None:
        middle, low, high = found["ratio"]
        assert 0 < low <= middle <= high
    table = importlib.import_module("run").table_of(
        {"machine": {"cores": 2}, "small": True, "rows": [{**found, "seconds": 1.0}]}
    )
    assert table.count("\n| ") == 3  # heads, rule and the row
    assert found["what"] in table


def test_words_that_are_not_followed_do_not_pass():
    words = importlib.import_module("words")
    scores = np.random.default_rng(0).normal(size=400)
    ignored = words.share_moved(scores, np.random.default_rng(1).permutation(scores))
    assert 0.4 < ignored < 0.6
    assert not words.followed(ignored, law=0.97)
    assert words.share_moved(scores, scores + 1) == 1
    assert words.followed(0.96, law=1.0)
    assert words.followed(0.88, law=0.9)
    assert not words.followed(0.88, law=0.94)
    assert not words.followed(0.97, law=0.6)  # the judge is blind to it


def test_words_and_numbers_agree_only_where_both_keep_the_labels():
    words, random = importlib.import_module("words"), np.random.default_rng(0)
    truth, patients = random.integers(2, size=2000).astype(float), np.repeat(np.arange(1000), 2)
    kept = truth + random.normal(scale=0.7, size=2000)
    near = (truth, kept), (truth, kept + random.normal(scale=0.01, size=2000))
    value, low, high = words.auroc_difference([near], patients)
    assert low <= value <= high
    assert max(-low, high) <= words.AGREEMENT
    lost = (truth, kept), (truth, random.permutation(kept))
    value, low, high = words.auroc_difference([lost], patients)
    assert low > words.AGREEMENT
    both = words.auroc_difference([near, lost], patients)[0]
    assert abs(2 * both - value - words.auroc_difference([near], patients)[0]) < 1e-9, "the mean over labels"


def test_the_null_prompt_must_give_the_marginals():
    words = importlib.import_module("words")
    brightness = lambda images: torch.tensor(images.mean(axis=(1, 2, 3)) / 32 - 4)[:, None].float()  # noqa: E731
    judge = {"bright": words.Judge(("bright",), (), False)}
    films = (
        np.random.default_rng(0).integers(0, 255, (60, 1), dtype=np.uint8)[:, :, None, None].repeat(4, 1).repeat(4, 2)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words.Judge, "scores", lambda self, images: brightness(images).numpy())
        (same,) = words.null_rows(judge, films[:40], films)
        (other,) = words.null_rows(judge, np.full_like(films, 200), films)
    assert same["met"]
    assert not other["met"]


def test_a_pool_is_drawn_once_for_all_ratios(small_study, monkeypatch):
    pool_draws = importlib.import_module("pool_draws")
    monkeypatch.setattr(pool_draws, "default_study", small_study)
    row = pool_draws.measure(importlib.import_module("measure").Options())
    assert (row.ours, row.theirs, row.met) == ("10 N", "55 N", True)


def test_overhead_is_what_the_loops_leave_of_the_jobs(tmp_path):
    overhead = importlib.import_module("job_overhead")
    options = importlib.import_module("measure").Options(run=tmp_path)
    assert overhead.measure(options).met is None
    times = {"train_generator": 100, "draw_pool_shard": 20, "train_downstream": 30, "predict_downstream": 10}
    for rule, seconds in times.items():
        place = tmp_path / "benchmarks" / rule
        place.mkdir(parents=True)
        (place / "one.tsv").write_text(f"s\th:m:s\n{seconds}\t-\n")
        (tmp_path / "logs" / rule).mkdir(parents=True)
    (tmp_path / "generators/g/0").mkdir(parents=True)
    (tmp_path / "generators/g/0/training.csv").write_text("step,seconds\n10,40\n20,96\n")
    (tmp_path / "downstream/m/real/0/0").mkdir(parents=True)
    manifest = {"replicates": {"0": {"seconds": 12.5}, "1": {"seconds": 12.5}}}
    (tmp_path / "downstream/m/real/0/0/manifest.json").write_text(json.dumps(manifest))
    line = "2026-01-01 INFO [pool p replica 1 shard 1/1] 9/9 (100 %) {}done in 0:{:02d}\n"
    (tmp_path / "logs/draw_pool_shard/a.log").write_text(line.format("", 3) + line.format("", 15))  # drawn again
    (tmp_path / "logs/predict_downstream/a.log").write_text(line.format("loss 1, ", 1))
    row = overhead.measure(options)
    assert row.details["wall_s"] == 160
    assert row.details["inner_s"] == 96 + 25 + 15 + 1
    assert row.met is True  # 23 of 160 s


def test_the_study_by_hand_gives_every_ratio(small_study):
    by_hand, sweep = importlib.import_module("by_hand"), importlib.import_module("whole_sweep")
    study_jobs = importlib.import_module("study_jobs")
    size = {"patients": 40, "generator_steps": 1, "ratios": [100, 200], "replicates": 1, "steps": 2}
    with study_jobs.study_jobs(sweep.sweep_study(size)) as jobs:
        spec = sweep.written_spec(jobs, size, jobs.run / "png")
        found = by_hand.run_study(spec)
    assert list(found) == ["0", "100", "200"]
    assert all(len(part["auroc"]) == 1 for part in found.values())
    assert found["200"]["frechet"] > 0


def test_planning_counts_jobs_without_heavy_imports(tmp_path):
    planning = importlib.import_module("planning")
    (tmp_path / ".snakemake").mkdir()
    inside = planning.inside_snakefile(BENCHMARKS.parent / "config.yaml", tmp_path)
    arms = importlib.import_module("study_jobs").default_study()["arms"]
    cells = sum(len(arm.get("ratios", [0])) for arm in arms.values())
    assert inside["jobs"] > 2 * cells  # each is trained and predicts; data, generator, pools and report come besides
    assert inside["heavy"] == []
