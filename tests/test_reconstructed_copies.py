"""Copies that went through an autoencoder: far from their originals in pixels, and found among the reconstructions."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from autoencoder_jobs import autoencoder_job
from devices import DEVICE
from evaluation_run import IDENTITY, SIZE, make_job, memorisation_slice, pictures, write_pool, write_real
from PIL import Image
from studies import tiny
from test_latent_generators import LATENT_STUDY

from check_memorisation import check_memorisation
from evaluate_snapshots import Search
from synthgain.evaluation.inputs import read_real
from synthgain.evaluation.memorisation import ALPHA, LEVEL, PIXELS, RECONSTRUCTIONS
from synthgain.generators.autoencoders.training import prepare_run
from synthgain.generators.training import train_family
from synthgain.networks.autoencoder import load_latents
from synthgain.study.session import Session
from synthgain.study.stages.measured import searched_pools

ROOT = Path(__file__).parent.parent
POOL, PLANTED = 300, 12
VAE = "autoencoders/vae/manifest.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pools of a generator in the latents of a blurry autoencoder: one of new images, one with twelve copies."""
    folder = tmp_path_factory.mktemp("run")
    images, table = pictures(300, seed=21)
    rows = write_real(folder, images, table)
    inputs = dict.fromkeys(["datasets/a/manifest.json", "splits/a/manifest.json"], IDENTITY)
    blurry = {"block_out_channels": [8, 16, 16, 16], "layers_per_block": 1}
    job = autoencoder_job(
        folder,
        inputs,
        training={"steps": 150, "batch_size": 16, "ema_decay": 0.95},
        train_on={"datasets": ["a"]},
        image={"size": SIZE, "channels": 1},
        downsampling=8,
        latent_channels=1,
        network=blurry,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        train_family(replace(job, identity=IDENTITY), prepare_run)
    space = load_latents(folder / "autoencoders" / "vae" / "autoencoder")
    training = images[table["image_id"].isin(rows["image_id"])]
    fresh = space.reconstruct(pictures(POOL, seed=22)[0])
    copied = rows.iloc[np.arange(POOL) % len(rows)].reset_index(drop=True)
    write_pool(folder, fresh, copied, "new")
    copies = space.reconstruct(training[:PLANTED])
    write_pool(folder, np.concatenate([copies, fresh[PLANTED:]]), copied, "planted")
    return folder


def check(run: Path, pool: str, through: bool) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Return gate, rates and scores, with the search among reconstructions or without it."""
    output = f"memorisation/{pool}-{through}/0/manifest.json"
    entry = memorisation_slice(pool, **({"autoencoder": {"name": "vae", "structures": []}} if through else {}))
    check_memorisation(make_job(run, output, entry, pool, *([VAE] if through else [])))
    folder = (run / output).parent
    gate = json.loads((folder / "gate.json").read_text())
    return gate, pd.read_csv(folder / "memorisation.csv"), pd.read_parquet(folder / "scores.parquet")


def test_a_copy_that_went_through_the_autoencoder_is_caught_and_pixels_alone_miss_it(run: Path) -> None:
    alone, _, scores = check(run, "planted", through=False)
    assert alone["copies"] == 0
    assert (scores["distance_ratio_pixels"][:PLANTED] > ALPHA).all()  # the original is as far as another film
    gate, rates, scores = check(run, "planted", through=True)
    assert gate["state"] == "copies found"
    assert gate["copies"] == PLANTED
    assert not scores["copy_pixels"].any()
    assert scores["copy_reconstructions"].tolist() == [True] * PLANTED + [False] * (POOL - PLANTED)
    assert scores["flagged"][:PLANTED].all()
    assert set(rates["space"]) == {"pixels", "reconstructions"}
    assert gate["sentence"].startswith("Memorisation warning: 12 of 300 synthetic images are near-exact copies")
    with Image.open(run / "memorisation" / "planted-True" / "0" / "candidates.png") as picture:
        assert picture.width > 0


def test_blur_alone_is_no_copying(run: Path) -> None:
    """New images of a blurry autoencoder are nearer to all films: held-out films are held against them as blurred."""
    alone, _, _ = check(run, "new", through=False)
    assert alone["exceeded"]  # what a search without the autoencoder would say of them
    gate, rates, scores = check(run, "new", through=True)
    assert not gate["exceeded"]
    assert not scores["copy_reconstructions"].any()
    assert (rates.loc[rates["rule"] != "nearest is parent", "p_adjusted"] > LEVEL).all()


def test_snapshots_are_searched_alike(run: Path) -> None:
    real = read_real(make_job(run, "snapshots/ldm/0/manifest.json", {}), ["a"])
    parts = {part: real.subset(real.rows_of(part)) for part in ("train", "validation", "test")}
    space = load_latents(run / "autoencoders" / "vae" / "autoencoder")
    through = {part: replace(images, arrays=[space.reconstruct(images.pixels())]) for part, images in parts.items()}
    rows, copies = parts["train"].table.iloc[:PLANTED], through["train"].pixels(np.arange(PLANTED))
    patients = rows["patient_id"].to_numpy(dtype=str)
    for name, train, found in ((PIXELS, parts["train"], 0), (RECONSTRUCTIONS, through["train"], PLANTED)):
        rates, (drawn, held_out) = Search(through | {"train": train}, rows).rates_and_copies(copies, patients, name)
        assert drawn.flags.sum() == found
        assert not held_out.flags.any()
        assert {rate.space for rate in rates} == {name}


def test_the_plan_searches_pools_of_latents_alone_and_never_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (plan,) = Session(tiny(**LATENT_STUDY), ROOT, Path("results")).planners.values()
    assert searched_pools(plan) == ["drawn"]
    job = plan.job("check_memorisation", pool="drawn", index=0)
    assert job.slice["autoencoder"] == {"name": "vae", "structures": []}
    assert "autoencoders/vae/manifest.json" in job.inputs
    (plain,) = Session(tiny(), ROOT, Path("results")).planners.values()
    assert "autoencoder" not in plain.job("check_memorisation", pool="drawn", index=0).slice
