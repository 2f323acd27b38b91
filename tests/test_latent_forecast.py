"""The forecast of work in latents: counted as the networks are called, and measured by the code that computes."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autoencoder_jobs import autoencoder_job
from devices import DEVICE
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from generator_jobs import training_job, write_data
from job_inputs import new_job
from studies import tiny
from test_forecast import LATENT_STUDY, planner
from test_latent_generators import LEVELS

from measure_speed import measure_speed
from synthgain.data.image_set import read_image_set
from synthgain.generators.autoencoders.gates import MOST
from synthgain.generators.autoencoders.training import prepare_run
from synthgain.generators.loading import load_generator
from synthgain.generators.training import train_family
from synthgain.pools.known import reconstructed
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import Sampler
from synthgain.speed.documents import Size, Term
from synthgain.speed.forecast import amount_of
from synthgain.study.stages.forecast import work_groups
from synthgain.study.stages.generators import MOST_MEASURED

# Of the toy data: 20 patients of two images, a quarter of them each for validation and test.
TOY = Size(all=40, train=20, validation=10, test=10, known="read")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the images that any autoencoder encodes, and the latents that it decodes."""
    found: Counter[str] = Counter()
    for name in ("encode", "decode"):
        plain = getattr(AutoencoderKL, name)

        def counted(self: Any, x: torch.Tensor, *args: Any, plain: Any = plain, name: str = name, **more: Any) -> Any:
            found[name] += len(x)
            return plain(self, x, *args, **more)

        monkeypatch.setattr(AutoencoderKL, name, counted)
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    return found


def forecast(terms: list[Term], unit: str) -> float:
    """Return how many images or passes of the autoencoder these terms are, with the toy data's sizes."""
    return sum(
        amount_of(term, {"hospital_a": TOY})[0]
        for term in terms
        if term.kind == "autoencoder vae" and term.unit == unit
    )


def test_images_encoded_and_decoded_are_those_of_the_forecast(
    tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = {(group.rule, group.name): group.work for group in work_groups(planner(monkeypatch, tiny(**LATENT_STUDY)))}
    inputs = write_data(tmp_path)
    vae = autoencoder_job(tmp_path, inputs, training={"steps": 4, "batch_size": 8})
    train_family(vae, prepare_run)
    terms = groups["train_autoencoder", "vae"]
    trained = sum(term.amount * term.passes for term in terms if term.unit == "step")
    assert calls == {
        "encode": trained + forecast(terms, "image"),
        "decode": trained + forecast(terms, "pass"),
    }
    calls.clear()
    inputs |= {"autoencoders/vae/manifest.json": vae.identity}
    job = training_job(tmp_path, inputs, name="ddpm", autoencoder="vae", formulation=LEVELS)
    train_family(job)
    assert calls["encode"] == forecast(groups["train_generator", "ddpm"], "image") == TOY.train
    assert calls["decode"] == 0
    calls.clear()
    generator = load_generator(job.outputs[0].parent)
    table = read_image_set(tmp_path / "datasets" / "toy").table.iloc[:20]
    Sampler(generator, Sampling(steps=2, compile=False)).draw(np.arange(20), lambda: generator.encode_conditions(table))
    shards = groups["draw_pool_shard", "drawn"]  # two replicas
    assert calls["decode"] * 2 == forecast(shards, "pass") == 2 * 20
    assert forecast(shards, "image") == calls["encode"] == 0
    calls.clear()
    source = read_image_set(tmp_path / "datasets" / "toy")
    request = SimpleNamespace(
        rows_of=lambda: (source, table), options={"autoencoder": "vae"}, inputs=job.inputs, threads=1,
        keys=SimpleNamespace(pool="ceiling", replica=1),
    )  # fmt: skip
    reconstructed(request, table, np.zeros(20, np.int64))  # type: ignore[arg-type]
    ceiling = groups["draw_pool_shard", "ceiling"]
    assert (calls["encode"], calls["decode"]) == (forecast(ceiling, "image"), forecast(ceiling, "pass"))
    assert MOST_MEASURED == MOST


@pytest.mark.slow
def test_speeds_of_autoencoders_latents_and_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "prompts__all": {"template": "A film of a {sex} patient. {findings}."},
        "generators__ddpm__prompt": "all",
        "generators__ddpm__network": {"name": "unet_text", "block_out_channels": [8, 16], "layers_per_block": 1},
        "generators__ddpm__condition_on": [],
        "autoencoders__vae__network": {"block_out_channels": [8, 8, 16]},
    }
    plan = planner(monkeypatch, tiny(image__size=16, **LATENT_STUDY, **told))
    job = plan.job("measure_speed")
    names = ["autoencoder vae", "generator ddpm", "sampling ddpm"]
    facts = {**job.slice, "kinds": {name: job.slice["kinds"][name] for name in names}}
    output = tmp_path / "forecast" / "speed.json"
    measure_speed(new_job(facts, {}, "", job.identity, tmp_path, [output], 1))
    found = json.loads(output.read_text())["kinds"]
    assert {name: entry.get("error") for name, entry in found.items()} == dict.fromkeys(names)
    units = {"autoencoder vae": {"step", "image", "pass"}, "generator ddpm": {"step"}, "sampling ddpm": {"pass"}}
    for name, wanted in units.items():
        assert wanted <= set(found[name])
        assert all(found[name][unit]["cpu_seconds"] > 0 for unit in wanted)
    assert pd.isna(found["autoencoder vae"].get("error"))
