"""A steered generator in a study: what is planned for it, and what is refused in one line."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from pool_sources import DATA_INPUTS, call, job_line, make_source, shard_slice, training_of
from simulated_run import Code
from studies import tiny

from draw_pool_shard import draw_pool_shard
from merge_pool_replica import merge_pool_replica
from synthgain.data.replicas import read_replicas
from synthgain.generators.steering_options import Reward
from synthgain.report.facts import GeneratorFacts
from synthgain.report.sections.steering import steering_blocks
from synthgain.report.sections.study import pretraining_blocks
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest, write_table
from synthgain.runtime.inputs import inputs_of
from synthgain.steering import reader_scores
from synthgain.steering.reader_scores import correlation_bound, fit_heads, rated_images, scorer
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
OTHER_NETWORK = {"models__cnn__network": "resnet18"}  # than that of the proxies
STEERED = OTHER_NETWORK | {
    "datasets__hospital_a__patients": 600,  # enough to be rated
    "generators__longer": MORE,
    "generators__tuned": MORE | {"reward": REWARD},
    "generators__permuted": MORE | {"reward": REWARD | {"shuffled": True}},
    "pools__sure": {"of": "drawn", "filter": {"scores": "label_consistency", "column": "agreement", "quantile": 0.5}},
    "pools__steered": {"from": "tuned", "rows_of": "hospital_a"},
}


def test_steering_and_its_neighbours_are_not_called_pretraining_without_a_twin() -> None:
    blocks = pretraining_blocks(parse_study(tiny(**STEERED)))
    assert [type(block).__name__ for block in blocks] == ["Table"]


def test_generators_in_latents_are_steered_too() -> None:
    vae = {"train_on": {"datasets": ["hospital_a"]}, "training": {"steps": 4}}
    names = ("longer", "tuned", "permuted")
    latent = {f"generators__{name}": STEERED[f"generators__{name}"] | {"autoencoder": "vae"} for name in names}
    base = tiny()["generators"]["ddpm"] | {"autoencoder": "vae"}
    study = parse_study(tiny(**STEERED | latent | {"autoencoders__vae": vae, "generators__ddpm": base}))
    assert study.generators["tuned"].steered_by is not None


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
        (
            {"models__cnn__network": "small_cnn"},
            r"generators.tuned.reward: its proxies.*are of one network \(small_cnn\)",
        ),
        ({"generators__tuned__reward__scores": "segmenter"}, r"target: not for scores: segmenter"),
        (
            {"generators__tuned__reward": {"scores": "segmenter", "samples": 64}},
            r"reward.scores: segmenter scores pairs; give output: image\+mask",
        ),
        ({"generators__tuned__reward__labels": "true_opacity"}, r"reward.labels: data set 'hospital_a' has no column"),
        ({"generators__tuned__reward__rounds": 9}, r"reward.rounds: 9 rounds of 4 steps"),
        ({"generators__tuned__reward__target": "age"}, r"reward.target: 'age' of data set 'hospital_a' is a number"),
        ({"generators__tuned__reward__labels": "age"}, r"reward.labels: 'age' of data set 'hospital_a' is a number"),
        ({"generators__tuned__reward__labels": "opacity"}, r"reward.labels: is the target itself; leave it out"),
        (
            {"generators__tuned__reward__anchor": 10, "generators__tuned__training__batch_size": 4},
            r"reward.anchor: 10 leaves no own sample in a batch of 4; lower it",
        ),
        (
            {"generators__tuned__reward__anchor": 0.1, "generators__tuned__training__batch_size": 4},
            r"reward.anchor: 0.1 is less than half a real image in a batch of 4",
        ),
    ],
    ids=range(21),
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
        (
            by_readers(items={"real": {"hospital_a": 100}, "pools": {"others": 100}})
            | {
                "generators__other": {k: v for k, v in MORE.items() if k != "init_from"},
                "pools__others": {"from": "other", "rows_of": "hospital_a"},
            },
            r"reward.name: 'panel' rates no images of 'ddpm', whose samples it would score",
        ),
    ],
    ids=range(6),
)
def test_readers_who_cannot_steer_are_refused_while_planning(changes, said):
    with pytest.raises(SynthGainError, match=said):
        planner(**changes)


def test_a_rehearsal_steers_in_one_short_round():
    study = parse_study(tiny(**STEERED, rehearsal=True))
    reward = study.generators["tuned"].steered_by
    assert (reward.rounds, reward.samples) == (1, 64)


def test_a_rehearsal_of_a_generator_that_readers_steer_trains_it_unsteered():
    study = parse_study(tiny(**STEERED | by_readers(), rehearsal=True))
    assert study.generators["tuned"].steered_by is None


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
    assert trained == {"ddpm", "longer", "tuned", "permuted", "maximised", "maximised_permuted"}


def test_the_report_shows_the_rounds_the_alarms_and_one_network_that_steers_and_judges():
    study = parse_study(tiny(**STEERED | {"models__small": tiny()["models"]["cnn"]}))
    row = {"step": 0, "score": 0.6, "real_score": 0.8, "spread": 1.1, "real_spread": 1.0, "recall": 0.8, "copies": 0.01}
    told = {"rounds": [row, row | {"step": 4, "score": None}], "stopped_at": 2, "alarms": ["score above real: 0.9"]}
    facts = {
        "tuned / 0": GeneratorFacts(identity="a", steering=told),
        "ddpm / 0": GeneratorFacts(identity="b"),
    }
    table, *texts = steering_blocks(study, facts)
    assert [row[1] for row in table.rows] == ["0", "4"]
    words = " ".join(text.text for text in texts)
    assert "tuned / 0: score above real" in words
    assert "steered to step 2" in words
    assert "the model small that judges" in words
    assert "the model cnn" not in words
    assert steering_blocks(study, {"ddpm / 0": GeneratorFacts(identity="b")}) == []


def test_rated_images_are_those_of_training_patients_whose_pixels_were_rated(tmp_path):
    source = make_source(tmp_path)
    part = shard_slice(0, 1, module="known", options={"kind": "jittered_copier"})
    output = "pools/drawn/0/replica-1/shard-0/manifest.json"
    call(draw_pool_shard, job_line(tmp_path, output, part, DATA_INPUTS, "drawn-0"))
    merged = {"pool": "drawn", "index": 0, "replica": 1, "shards": 1}
    line = job_line(tmp_path, "pools/drawn/0/replica-1/manifest.json", merged, {output: "drawn-0"}, "replica-1")
    call(merge_pool_replica, line)
    pool = read_replicas([(tmp_path / "pools/drawn/0/replica-1/manifest.json", None)])
    training = training_of(source)
    rows = pd.concat([training.head(3), source.table[~source.table["image_id"].isin(training["image_id"])].head(2)])
    own = pool.table.head(4)
    scores = pd.concat([rows, own.assign(patient_id=own["parent_patient_id"])])[["image_id", "patient_id", "sha256"]]
    scores = scores.assign(quality=np.linspace(0, 1, len(scores))).reset_index(drop=True)
    scores.loc[8, "sha256"] = "0" * 64  # drawn anew since
    write_table(tmp_path / "readers/panel/ratings/scores.parquet", scores, "scores")
    write_manifest(tmp_path / "readers/panel/ratings/manifest.json", "scores", ["scores.parquet"], source="readers")
    paths = {"readers/panel/ratings/manifest.json": "scores", "pools/drawn/0/replica-1/manifest.json": "replica-1"}
    job = SimpleNamespace(
        inputs=inputs_of(
            {
                "inputs": paths,
                "named": {
                    "ratings": [[["panel"], "readers/panel/ratings/manifest.json"]],
                    "rated": [[["drawn", 0, 1], "pools/drawn/0/replica-1/manifest.json"]],
                },
            },
            tmp_path,
        )
    )
    pixels = source.images[np.flatnonzero(source.table["image_id"].isin(training["image_id"]))]
    data = SimpleNamespace(table=training, images=torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    reward = Reward(scores="readers", name="panel", column="quality")
    images, found = rated_images(SimpleNamespace(reward=reward, job=job, data=data, image_channels=1), "quality")
    assert list(found["image_id"]) == [*training["image_id"].head(3), *own["image_id"].head(3)]
    assert np.array_equal(images[:3].numpy(), data.images[:3].numpy())
    assert np.array_equal(images[3:].numpy(), pool.pixels.gather(np.arange(3)).transpose(0, 3, 1, 2))


def test_a_changed_reward_trains_the_steered_generator_alone_again():
    names = ("ddpm", "longer", "tuned", "permuted")

    def identities(**changes):
        plan = planner(**changes)
        return {name: plan.job("train_generator", generator=name, index=0).identity for name in names}

    before = identities()
    # The shuffled neighbour must change with it, or it is none.
    other = {"generators__tuned__reward__anchor": 0.5, "generators__permuted__reward__anchor": 0.5}
    after = identities(**other)
    assert [name for name in names if before[name] != after[name]] == ["tuned", "permuted"]
    plain = {name: job for name, job in before.items() if name in ("ddpm", "longer")}
    unsteered = {"generators__tuned": ..., "generators__permuted": ..., "pools__steered": ...}
    plan = planner(**unsteered)
    assert {name: plan.job("train_generator", generator=name, index=0).identity for name in plain} == plain
