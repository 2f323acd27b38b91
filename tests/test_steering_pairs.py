"""A generator of image and mask pairs steered by two segmenters, in the jobs that a study runs."""

import numpy as np
import pandas as pd
import pytest
import torch
from generator_jobs import TINY_NETWORK, training_job, write_data

from synthgain.generators.diffusion.generator import load
from synthgain.generators.steering_options import SteeredRound, Steering
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import Sampler
from synthgain.report.sections.steering import score_gain
from synthgain.runtime.files import read_manifest
from synthgain.steering.rounds import prepare_steered_run
from synthgain.steering.segmenter_scores import SegmenterProxy, scorer
from train_generator import train_generator

REWARD = {"scores": "segmenter", "rounds": 2, "samples": 48, "proxy_steps": 30}
TRAINING = {"steps": 8, "learning_rate": 1e-3, "dropout": 0.0}
SIDE = 16


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A run with a generator of pairs, its job, and a function that returns the job of one that starts from it."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("pairs")
    inputs = write_data(run, patients=64, size=SIDE, masks=True)
    same = {
        "output": "image+mask",
        "structures": ["disc", "upper"],
        "condition_on": ["finding"],
        "network": TINY_NETWORK,
        "image": {"size": SIDE, "channels": 1},
    }
    base = training_job(run, inputs, "base", **same, training=TRAINING | {"steps": 60, "learning_rate": 4e-3})
    train_generator(base)

    def steered(name, **reward):
        given = inputs | {"generators/base/0/manifest.json": base.identity}
        training = TRAINING | {"snapshots": [4]}
        return training_job(run, given, name, **same, init_from="base", training=training, reward=REWARD | reward)

    return run, base, steered


def test_segmenters_steer_a_generator_of_pairs_round_by_round(pairs):
    _, _, steered = pairs
    told = {}
    for name, shuffled in (("tuned", False), ("permuted", True)):
        job = steered(name, shuffled=shuffled)
        train_generator(job)
        folder = job.outputs[0].parent
        found = read_manifest(job.outputs[0])
        assert found["snapshots"] == [4, 8]
        assert {path.name for path in (folder / "snapshots").iterdir()} == {"4", "8"}
        rounds = found["steering"]["rounds"]
        assert [row["step"] for row in rounds] == [0, 4, 8]
        assert all(0 < row["score"] < 1 and 0 < row["real_score"] <= 1 for row in rounds)
        assert rounds[0]["real_score"] > rounds[0]["score"]  # the real masks fit, those of a generator of 60 steps less
        assert [1 < row["effective"] <= 48 for row in rounds[:2]] == [True, True]
        columns = set(SteeredRound.model_fields) | {"recalled"}
        assert set(pd.read_csv(folder / "steering.csv").columns) == columns
        told[name] = Steering.model_validate(found["steering"])
    assert told["tuned"].rounds[0].score != told["permuted"].rounds[0].score  # each has segmenters of its own
    assert all(np.isfinite(score_gain(one)).all() for one in told.values())


def test_what_is_steered_draws_pairs(pairs):
    _, _, steered = pairs
    job = steered("drawn", rounds=1, samples=16)
    train_generator(job)
    generator = load(job.outputs[0].parent)
    assert (generator.output, generator.structures, generator.image_channels) == ("image+mask", ("disc", "upper"), 1)
    with torch.inference_mode():
        table = pd.DataFrame({"finding": [0.0, 1.0]})
        drawn = Sampler(generator, Sampling(compile=False)).draw(
            np.arange(2, dtype=np.int64), lambda: generator.encode_conditions(table)
        )
    assert drawn.shape == (2, 3, SIDE, SIDE)


def test_each_segmenter_scores_the_pairs_of_patients_that_it_did_not_see(pairs, monkeypatch):
    _, _, steered = pairs
    made = prepare_steered_run(steered("seen"))
    fitted, seen = scorer(made), []
    score = SegmenterProxy.score

    def watched(self, images, table):
        seen.append((self.network, images.shape[1], set(table["patient_id"])))
        return score(self, images, table)

    monkeypatch.setattr(SegmenterProxy, "score", watched)
    found = fitted.score(made.data.images, made.real_table)
    assert found.shape == (len(made.data.images),)
    assert np.isfinite(found).all()
    for network, planes, patients in seen:
        own = [half for half, judge in enumerate(fitted.judges) if judge.network is network]
        assert planes == 3  # image and both masks
        assert set(fitted.half_of[sorted(patients)]) == {1 - own[0]}
    assert len(seen) == 2
