"""Diffusion in an autoencoder's latents: the same family, loop, sampler and gates as in pixels."""

import json
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autoencoder_jobs import autoencoder_job
from devices import DEVICE
from generator_jobs import CONTROLLED_NETWORK, TINY_NETWORK, start_script, training_job, write_data
from job_inputs import paths_of
from studies import tiny
from test_generator_training import kill_after, weights_digest
from test_text_generators import NETWORK as TEXT_NETWORK
from test_text_generators import PROMPT

from synthgain.data.image_set import read_image_set
from synthgain.evaluation.membership import denoising_losses
from synthgain.generators.autoencoders.training import prepare_run as prepare_autoencoder
from synthgain.generators.diffusion.family import DiffusionGenerator
from synthgain.generators.diffusion.training import prepare_run
from synthgain.generators.loading import load_generator
from synthgain.generators.training import train_family
from synthgain.networks.autoencoder import LatentSpace
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import Sampler
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study
from synthgain.study.session import Session

ROOT = Path(__file__).parent.parent

LEVELS = {"kind": "edm", "p_mean": -0.4, "p_std": 1.0}


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A run folder with data, masks and a trained autoencoder, and the inputs of jobs on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        folder = tmp_path_factory.mktemp("latents")
        inputs = write_data(folder, patients=40, masks=True)
        job = autoencoder_job(folder, inputs, training={"steps": 300, "batch_size": 16, "ema_decay": 0.97})
        train_family(job, prepare_autoencoder)
    return folder, {**inputs, "autoencoders/vae/manifest.json": job.identity}


def latent_job(run: tuple[Path, dict[str, str]], name: str, **changes: Any) -> Job:
    return training_job(run[0], run[1], name=name, **{"autoencoder": "vae", "formulation": LEVELS, **changes})


@pytest.fixture(scope="module")
def trained(run: tuple[Path, dict[str, str]]) -> Path:
    """A generator that has learned which discs are bright."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        steps = {"steps": 250, "batch_size": 16, "dropout": 0.0, "learning_rate": 3e-3, "ema_decay": 0.95}
        job = latent_job(run, "ldm", training=steps, condition_on=["finding"])
        train_family(job)
    return job.outputs[0].parent


def drawn(folder: Path, table: pd.DataFrame, steps: int = 8, **given: Any) -> torch.Tensor:
    generator = load_generator(folder)
    sampler = Sampler(generator, Sampling(steps=steps, compile=False))
    return sampler.draw(np.arange(len(table)), lambda: generator.encode_conditions(table, **given))


def test_it_draws_images_of_its_conditions(trained: Path) -> None:
    rows = pd.DataFrame({"finding": [1.0] * 12 + [0.0] * 12})
    images = drawn(trained, rows)
    assert images.shape == (24, 1, 8, 8)
    bright, dark = images[:12].mean(), images[12:].mean()
    assert bright > dark + 0.08  # of the 0.17 between real ones


def test_what_the_manifest_says_and_what_lies_beside_it(trained: Path, run: tuple[Path, dict[str, str]]) -> None:
    facts = json.loads((trained / "manifest.json").read_text())
    assert facts["image_shape"] == [1, 8, 8]
    assert facts["autoencoder"] == "vae"
    assert facts["sigma_data"] == 1.0
    assert "autoencoder/config.json" in facts["files"]
    generator = load_generator(trained, facts["snapshots"][0])
    assert (generator.image_shape, generator.sample_shape) == ((1, 8, 8), (2, 4, 4))
    images = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    assert generator.encode(images).shape == (1, 2, 4, 4)
    torch.testing.assert_close(generator.decode(generator.encode(images)), generator.decode(generator.encode(images)))


def test_a_damaged_autoencoder_is_noticed(trained: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "ldm"
    shutil.copytree(trained, copy)
    weights = copy / "autoencoder" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SynthGainError, match="diffusion_pytorch_model"):
        load_generator(copy)


def test_killed_and_resumed_ends_in_the_same_bits(
    run: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (latent_job(run, name, training={"save_every": 2}) for name in ("whole", "killed"))
    # One seed for both: the name of a generator is part of its seeds.
    killed.slice["generator"] = whole.slice["generator"]
    train_family(whole)
    for steps in (3, 1, 4):
        kill_after(monkeypatch, steps, killed)
    train_family(killed)
    assert weights_digest(whole) == weights_digest(killed)


def test_the_posterior_is_drawn_anew_at_every_step(run: tuple[Path, dict[str, str]], monkeypatch: Any) -> None:
    from synthgain.generators.diffusion import training

    seen: list[torch.Tensor] = []
    made = prepare_run(latent_job(run, "redrawn"))
    made.start()
    monkeypatch.setattr(
        type(made.formulation), "loss", lambda self, net, clean, noise, level: _kept(seen, net, clean, level)
    )
    rows = torch.arange(8)
    for step in (0, 1, 1):
        made.step = step
        made.take_step(rows, rows)
    assert training.AUTOENCODER == "autoencoder"
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    assert made.latents is not None
    away = (seen[0] - made.latents.mean[:8]) / made.latents.sd[:8]
    assert 0.7 < float(away.std()) < 1.3


def _kept(seen: list[torch.Tensor], network: Any, clean: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    seen.append(clean.detach().clone())
    return network(clean, level).square().mean(dim=(1, 2, 3))


def test_the_example_of_the_docs_draws_with_plain_diffusers(trained: Path) -> None:
    """Twenty lines without a word of ours but the vector of the condition."""
    (example,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "text.md").read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) <= 20
    assert "synthgain" not in example
    table = pd.DataFrame({"finding": [1.0] * 8})
    given: dict[str, Any] = {"folder": trained, "vector": load_generator(trained).encode_conditions(table)["vector"]}
    torch.manual_seed(0)
    exec(example, given)
    ours = drawn(trained, table)
    assert given["images"].shape == ours.shape
    assert float(given["images"].mean()) == pytest.approx(float(ours.mean()), abs=0.2)


def test_a_process_that_is_killed_and_started_again_ends_in_the_same_bits(run: tuple[Path, dict[str, str]]) -> None:
    """SIGKILL, at whatever step it was: the next process goes on from the last state."""
    steps = {"steps": 400, "save_every": 5, "batch_size": 16}
    whole, killed = (latent_job(run, name, training=steps) for name in ("undisturbed", "shot"))
    killed.slice["generator"] = whole.slice["generator"]  # part of the seeds
    train_family(whole)
    process = start_script(killed)
    while not list(killed.state_folder().rglob("step-*.json")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not killed.outputs[0].exists()
    again = start_script(killed)
    said = again.communicate()[1]
    assert again.returncode == 0, said
    assert re.search(r"resumed at step [1-9]", said), said
    assert weights_digest(whole) == weights_digest(killed)


def test_masks_steer_latents_concatenated_or_by_a_control_network(
    run: tuple[Path, dict[str, str]], trained: Path
) -> None:
    masks = {"structures": ["disc"], "condition_on": ["finding"]}
    joined = latent_job(run, "joined", mask_by="concatenation", network=TINY_NETWORK, **masks)
    train_family(joined)
    base = latent_job(run, "base", network=CONTROLLED_NETWORK, condition_on=["finding"])
    train_family(base)
    inputs = {**run[1], "generators/base/0/manifest.json": base.identity}
    start = {"init_from": "generators/base/0/manifest.json", "mask_by": "controlnet", "network": CONTROLLED_NETWORK}
    control = latent_job((run[0], inputs), "control", **start, **masks)
    train_family(control)
    rows, given = pd.DataFrame({"finding": [1.0] * 2}), torch.ones(2, 1, 8, 8)
    given[1, :, :, 4:] = -1
    for job in (joined, control):
        images = drawn(job.outputs[0].parent, rows, steps=2, masks=given)
        assert images.shape == (2, 1, 8, 8)
        assert images.isfinite().all()
    loaded = load_generator(control.outputs[0].parent)
    assert len(loaded.control.config.conditioning_embedding_out_channels) == 2  # one stride of 2


def test_text_works_in_latents(run: tuple[Path, dict[str, str]]) -> None:
    network = {"module": "unet_text", "options": {**TEXT_NETWORK["options"], "attention_resolutions": [2]}}
    job = latent_job(run, "told", network=network, prompt=PROMPT, condition_on=[])
    train_family(job)
    table = pd.DataFrame({"prompt": ["A disc seen PA. bright."] * 2})
    assert drawn(job.outputs[0].parent, table, steps=2).isfinite().all()


def test_image_and_mask_go_through_one_autoencoder(tmp_path: Path) -> None:
    inputs = write_data(tmp_path, masks=True)
    pair = {"output": "image+mask", "structures": ["disc"]}
    both = autoencoder_job(tmp_path, inputs, **pair)
    train_family(both, prepare_autoencoder)
    inputs |= {"autoencoders/vae/manifest.json": both.identity}
    job = latent_job((tmp_path, inputs), "pairs", **pair)
    train_family(job)
    generator = load_generator(job.outputs[0].parent)
    assert (generator.image_shape, generator.image_channels, generator.sample_shape) == ((2, 8, 8), 1, (2, 4, 4))
    with pytest.raises(SynthGainError, match=r"generators\.wrong\.autoencoder: vae takes 2 channels, here are 1"):
        prepare_run(latent_job((tmp_path, inputs), "wrong"))


def test_membership_is_asked_in_latents(trained: Path, run: tuple[Path, dict[str, str]]) -> None:
    images = np.load(run[0] / "datasets" / "toy" / "images.npy")[:6]
    table = pd.DataFrame({"image_id": [f"i{n}" for n in range(6)], "finding": 0.0})
    generator = load_generator(trained)
    losses = denoising_losses(generator, images, table, (0.5,), 1, torch.device("cpu"), study=0)
    assert losses.shape == (6, 1)
    assert (losses > 0).all()


def test_large_images_are_decoded_in_tiles(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthgain.networks import autoencoder

    latents = load_generator(trained).latents
    whole = latents.decode(torch.zeros(1, 2, 16, 16))
    monkeypatch.setattr(autoencoder, "TILE", 16)
    tiled = LatentSpace(latents.network, latents.mean, latents.sd).decode(torch.zeros(1, 2, 16, 16))
    assert tiled.shape == whole.shape == (1, 1, 32, 32)
    assert tiled.isfinite().all()
    assert not torch.equal(tiled, whole)  # each tile has statistics of its own
    assert not latents.network.use_tiling  # what is encoded next is not cut


def test_noise_levels_of_latents_are_their_own_unless_given() -> None:
    given = {"family": "diffusion", "train_on": {"datasets": ["a"]}, "training": {"steps": 1}}
    assert DiffusionGenerator.model_validate(given).noise.p_mean == -1.2
    latent = DiffusionGenerator.model_validate({**given, "autoencoder": "vae"})
    assert (latent.noise.p_mean, latent.noise.p_std) == (-0.4, 1.0)
    chosen = DiffusionGenerator.model_validate({**given, "autoencoder": "vae", "formulation": {"p_mean": 0.0}})
    assert (chosen.noise.p_mean, chosen.noise.p_std) == (0.0, 1.0)


def test_the_inputs_are_named(run: tuple[Path, dict[str, str]]) -> None:
    job = latent_job(run, "named")
    assert paths_of(job.inputs) == run[1]
    assert job.inputs.autoencoders["vae"].folder() == run[0] / "autoencoders" / "vae"


LATENT_STUDY: dict[str, Any] = {
    "autoencoders__vae": {"train_on": {"datasets": ["hospital_a"]}, "training": {"steps": 4}},
    "generators__ddpm__autoencoder": "vae",
    "generators__ddpm__network": {"block_out_channels": [16, 32]},
    "pools__ceiling": {"known": "reconstructed", "autoencoder": "vae", "rows_of": "hospital_a"},
    "arms__ceiling": {"real": "hospital_a", "synthetic": "ceiling", "ratios": [100]},
}


def planned(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, str]:
    monkeypatch.chdir(ROOT)
    (plan,) = Session(tiny(**{**LATENT_STUDY, **changes}), ROOT, Path("results")).planners.values()
    plan.job("write_report")
    return {job.output: job.identity for job in plan.jobs()}


def test_another_gate_limit_only_reports_and_another_weight_trains_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned(monkeypatch)
    entry = LATENT_STUDY["autoencoders__vae"]
    limit = planned(monkeypatch, autoencoders__vae={**entry, "gates": {"psnr": 30.0}})
    assert {path for path in before if limit[path] != before[path]} == {"report.html"}
    weight = planned(monkeypatch, autoencoders__vae={**entry, "training": {"steps": 4, "kl_weight": 1e-5}})
    changed = {path.split("/")[0] for path in before if weight[path] != before[path]}
    assert {"autoencoders", "generators", "pools"} <= changed
    assert "memorisation/drawn/0/manifest.json" in before
    assert not [path for path in before if path.startswith("memorisation/ceiling")]  # copies by design


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"generators__ddpm__autoencoder": "vea"},
            r"generators\.ddpm\.autoencoder: there is no 'vea'; did you mean 'vae'",
        ),
        ({"pools__ceiling__autoencoder": "vea"}, r"pools\.ceiling\.autoencoder: there is no 'vea'; did you mean 'vae'"),
        (
            {"pools__ceiling__autoencoder": None},
            r"pools\.ceiling: autoencoder: goes with known: reconstructed|autoencoder",
        ),
        ({"image__size": 30}, r"autoencoders\.vae\.downsampling: 4 does not divide image\.size 30"),
        ({"generators__ddpm__output": "image+mask", "generators__ddpm__structures": ["lungs"]}, r"make them one"),
    ],
)
def test_what_does_not_fit_is_refused_while_planning(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        parse_study(tiny(**{**LATENT_STUDY, **changes}))


def test_reconstructed_images_are_close_and_not_equal(run: tuple[Path, dict[str, str]]) -> None:
    from synthgain.pools.known import reconstructed

    source = read_image_set(run[0] / "datasets" / "toy")
    rows = source.table.iloc[:6]
    job = latent_job(run, "unused")
    request = SimpleNamespace(
        rows_of=lambda: (source, rows), options={"autoencoder": "vae"}, inputs=job.inputs, threads=1,
        keys=SimpleNamespace(pool="ceiling", replica=1),
    )  # fmt: skip
    images, masks = reconstructed(request, rows, np.zeros(6, np.int64))  # type: ignore[arg-type]
    error = np.abs(images.astype(int) - source.images[:6]).mean()
    assert 0 < error < 25
    assert masks is not None
    assert (masks == source.masks[:6]).all()
