"""A steered generator in a study: what is planned for it, and what is refused in one line."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from simulated_run import Code
from studies import tiny

from synthgain.generators.steering_options import Reward
from synthgain.runtime.errors import SynthGainError
from synthgain.steering import reader_scores
from synthgain.steering.reader_scores import correlation_bound, fit_heads, scorer
from synthgain.steering.scores import halves_of
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.stages.table import STAGES
from synthgain.study.yaml_files import read_yaml

ROOT = Path(__file__).parent.parent
REWARD = {"scores": "proxy", "target": "opacity", "samples": 64}
MORE = {
    "family": "diffusion",
    "train_on": {"datasets": ["hospital_a"]},
    "condition_on": ["opacity", "sex", "age"],
    "network": {"block_out_channels": [16, 32], "layers_per_block": 1},
    "training": {"steps": 4, "batch_size": 8},
    "init_from": "ddpm",
}
PANEL = {
    "items": {"real": {"hospital_a": 100}, "pools": {"drawn": 100}},
    "questions": ["quality"],
    "ratings": "sent",
}
STEERED = {
    "generators__longer": MORE,
    "generators__tuned": MORE | {"reward": REWARD},
    "generators__permuted": MORE | {"reward": REWARD | {"shuffled": True}},
    "pools__sure": {"of": "drawn", "filter": {"scores": "label_consistency", "column": "agreement", "quantile": 0.5}},
    "pools__steered": {"from": "tuned", "rows_of": "hospital_a"},
}


def planner(**changes) -> Planner:
    wanted = {key: value for key, value in (STEERED | changes).items() if value is not ...}
    study = parse_study(tiny(**wanted))
    return Planner(study, "tiny", 0, Code(), Path("results"), None, STAGES)


def test_a_steered_generator_keeps_the_end_of_every_round_and_costs_its_own_samples():
    plan = planner()
    job = plan.job("train_generator", generator="tuned", index=0)
    assert job.slice["reward"]["target"] == "opacity"
    assert job.slice["training"]["snapshots"] == [1, 2, 4]
    (steps,) = STAGES["train_generator"].work(plan, generator="longer", index=0)
    found = STAGES["train_generator"].work(plan, generator="tuned", index=0)
    assert found[0].amount == steps.amount == 4
    assert (found[1].kind, found[1].amount) == ("sampling tuned", 3 * 64 * 18)
    assert "reward" not in plan.job("train_generator", generator="longer", index=0).slice


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generators__longer": ...}, r"generators.tuned.reward: the unsteered neighbour is missing: add a generator"),
        ({"generators__longer__training__steps": 8}, r"the unsteered neighbour is missing.*training.steps: 4"),
        ({"generators__permuted": ...}, r"the shuffled neighbour is missing.*reward.shuffled: true"),
        ({"generators__permuted__reward__objective": "maximise"}, r"the shuffled neighbour is missing"),
        ({"pools__sure": ...}, r"the filtered neighbour is missing: add a pool with filter of one that 'ddpm' draws"),
        ({"generators__tuned__init_from": None}, r"generators.tuned.*reward: needs init_from"),
        ({"generators__tuned__reward__target": "view"}, r"reward.target: 'view' is not in condition_on"),
        ({"generators__tuned__reward__target": None}, r"target: missing; scores: proxy needs it"),
        ({"generators__tuned__reward__column": "quality"}, r"column: not for scores: proxy"),
        ({"generators__tuned__reward__objective": "maximize"}, r"objective"),
        ({"generators__tuned__reward__round": 3}, r"unknown key 'round'; did you mean 'rounds'"),
        ({"generators__tuned__reward__rounds": 9}, r"reward.rounds: 9 rounds of 4 steps"),
    ],
    ids=range(12),
)
def test_steering_that_shows_nothing_or_cannot_be_is_refused_while_planning(changes, said):
    with pytest.raises(SynthGainError, match=said):
        planner(**changes)


def by_readers(change=None, **panel):
    reward = {"scores": "readers", "name": "panel", "column": "quality", "samples": 64} | (change or {})
    return {
        "generators__tuned": MORE | {"reward": reward},
        "generators__permuted": MORE | {"reward": reward | {"shuffled": True}},
        "readers": {"panel": PANEL | panel},
    }


def test_readers_steer_by_their_ratings_and_the_images_that_they_saw():
    job = planner(**by_readers()).job("train_generator", generator="tuned", index=0)
    assert job.named["ratings"] == [(("panel",), "readers/panel/ratings/manifest.json")]
    assert [key for key, _ in job.named["rated"]] == [("drawn", 0, 1), ("drawn", 0, 2)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            by_readers(items={"real": {"hospital_a": 50}, "pools": {"drawn": 100}}),
            r"the panel rates 150 images.*filter",
        ),
        (by_readers({"name": "panels"}), r"generators.tuned.reward.name: there is no 'panels'; did you mean 'panel'"),
        (by_readers({"column": "realism"}), r"reward.column: the panel is not asked 'realism'"),
        (by_readers(ratings=None), r"reward.name: its panel has no `ratings`"),
        (
            by_readers(items={"real": {"hospital_a": 100}, "pools": {"steered": 100}}),
            r"readers.panel.items.pools: 'steered' is of 'tuned', which this panel steers",
        ),
    ],
    ids=range(5),
)
def test_readers_who_cannot_steer_are_refused_while_planning(changes, said):
    with pytest.raises(SynthGainError, match=said):
        planner(**changes)


def test_a_rehearsal_steers_in_one_short_round():
    study = parse_study(tiny(**STEERED, rehearsal=True))
    reward = study.generators["tuned"].steered_by
    assert (reward.rounds, reward.samples) == (1, 64)


class Means:
    """An extractor of toy features: the mean grey of each quarter."""

    def extract(self, images):
        half = images.shape[1] // 2
        parts = [images[:, :half, :half], images[:, :half, half:], images[:, half:, :half], images[:, half:, half:]]
        return np.stack([part.mean(axis=(1, 2, 3)) for part in parts], axis=1).astype(np.float32)


def rated(count, slope, seed=0):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 255, (count, 1, 8, 8), dtype=np.uint8))
    quality = Means().extract(images.numpy().transpose(0, 2, 3, 1))[:, 0]
    ratings = slope * (quality - quality.mean()) / quality.std() + rng.normal(size=count)
    return images, pd.DataFrame({"patient_id": [f"p{n}" for n in range(count)], "quality": ratings})


def test_heads_learn_ratings_across_patients_and_their_bound_says_when_there_is_nothing_to_learn():
    bounds = []
    for slope in (1.5, 0.0):
        images, table = rated(240, slope)
        half_of = halves_of(table["patient_id"], {"study": 0})
        fitted = fit_heads(Means(), images, table["patient_id"], table["quality"].to_numpy(), half_of)
        bounds.append(correlation_bound(fitted.score(images, table), table["quality"].to_numpy()))
    assert bounds[0][0] > 0.7
    assert bounds[0][1] > 0.6
    assert bounds[1][1] < 0


@pytest.mark.parametrize(
    ("count", "slope", "said"),
    [
        (150, 1.5, r"readers 'panel' rated 150 images of training patients; below 200 ratings filter a pool"),
        (240, 0.0, r"what readers 'panel' said of 'quality' cannot be predicted \(correlation .* out of fold"),
    ],
)
def test_ratings_that_cannot_steer_end_with_one_line(monkeypatch, count, slope, said):
    images, table = rated(count, slope)
    reward = Reward(scores="readers", name="panel", column="quality")
    run = SimpleNamespace(reward=reward, data=SimpleNamespace(table=table), seed_keys={"study": 0}, device="cpu")
    monkeypatch.setattr(reader_scores, "rated_images", lambda run, column: (images, table))
    monkeypatch.setattr(reader_scores, "load", lambda *names: SimpleNamespace(build=lambda *options: Means()))
    with pytest.raises(SynthGainError, match=said):
        scorer(run)


def test_the_phantom_study_of_steering_is_planned():
    study = parse_study(read_yaml(ROOT / "studies/phantom_steering.yaml"))
    plan = Planner(study, "phantom_steering", 0, Code(), Path("results"), None, STAGES)
    plan.job("write_report")
    trained = {job.slice["generator"] for job in plan.jobs() if job.rule == "train_generator"}
    assert trained == {"ddpm", "longer", "tuned", "permuted"}
