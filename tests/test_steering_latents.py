"""A generator in an autoencoder's latents is steered as one of pixels is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from autoencoder_jobs import autoencoder_job
from generator_jobs import TINY_NETWORK, training_job, write_data

from synthgain.generators.autoencoders.training import prepare_run as prepare_autoencoder
from synthgain.generators.diffusion.generator import load
from synthgain.generators.training import train_family
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import Sampler
from synthgain.runtime.files import read_manifest
from synthgain.steering.rounds import prepare_steered_run
from train_generator import train_generator

LEVELS = {"kind": "edm", "p_mean": -0.4, "p_std": 1.0}
SIDE = 8


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory):
    """The job of a steered generator in latents: two rounds, from a generator that knows its finding."""
    torch.set_num_threads(1)
    run: Path = tmp_path_factory.mktemp("steered_latents")
    inputs = write_data(run, patients=64, size=SIDE)
    vae = autoencoder_job(run, inputs, training={"steps": 200, "batch_size": 16, "ema_decay": 0.97})
    train_family(vae, prepare_autoencoder)
    same = {
        "autoencoder": "vae",
        "formulation": LEVELS,
        "condition_on": ["finding"],
        "network": TINY_NETWORK,
        "image": {"size": SIDE, "channels": 1},
    }
    inputs |= {"autoencoders/vae/manifest.json": vae.identity}
    training = {"steps": 40, "batch_size": 16, "learning_rate": 3e-3, "dropout": 0.0}
    base = training_job(run, inputs, "base", **same, training=training)
    train_generator(base)
    reward = {"scores": "proxy", "target": "finding", "rounds": 2, "samples": 48, "proxy_steps": 30, "stop": False}
    given = inputs | {"generators/base/0/manifest.json": base.identity}
    more = training | {"steps": 8, "snapshots": [4]}
    return training_job(run, given, "tuned", **same, init_from="base", training=more, reward=reward)


def test_it_runs_its_rounds_and_draws_in_latents(steered) -> None:
    train_generator(steered)
    folder, found = steered.outputs[0].parent, read_manifest(steered.outputs[0])
    assert found["snapshots"] == [4, 8]
    assert [row["step"] for row in found["steering"]["rounds"]] == [0, 4, 8]
    assert all(0 < row["score"] < 1 for row in found["steering"]["rounds"])
    generator = load(folder)
    assert generator.latents is not None
    table = pd.DataFrame({"finding": [0.0, 1.0]})
    with torch.inference_mode():
        drawn = Sampler(generator, Sampling(compile=False)).draw(
            np.arange(2, dtype=np.int64), lambda: generator.encode_conditions(table)
        )
    assert drawn.shape == (2, 1, SIDE, SIDE)


def test_samples_train_it_as_latents_and_are_held_against_what_comes_back_from_these(steered) -> None:
    run = prepare_steered_run(steered)
    assert run.latents is not None
    pixels = run.data.images.permute(0, 2, 3, 1).numpy()
    back = torch.from_numpy(run.latents.space.reconstruct(pixels)).permute(0, 3, 1, 2)
    assert torch.equal(run.reference, back)
    assert not torch.equal(run.reference, run.data.images)
    run.start()
    real, samples = len(run.data), run.reward.samples
    assert run.placed.images.shape == (real + samples, *run.latents.mean.shape[1:])
    assert run.placed.spread is not None
    assert (run.placed.spread[real:] > 0).all()
