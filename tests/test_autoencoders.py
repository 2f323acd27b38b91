"""Autoencoders: trained in the one loop, resumed to the same bits, measured, read from folders."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autoencoder_jobs import autoencoder_job
from devices import DEVICE
from generator_jobs import write_data
from job_inputs import paths_of
from studies import tiny
from test_generator_training import weights_digest

from synthgain.data.image_set import read_image_set, write_image_set
from synthgain.generators.autoencoders import gates
from synthgain.generators.autoencoders.folder import read_autoencoder
from synthgain.generators.autoencoders.options import Autoencoder, AutoencoderTraining, Gates, Measured
from synthgain.generators.autoencoders.training import AutoencoderRun, prepare_run
from synthgain.generators.training import train_family
from synthgain.networks.autoencoder import LatentSpace, load_latents
from synthgain.report.blocks import Table, Text
from synthgain.report.evidence import ModelEvidence
from synthgain.report.sections.autoencoders import gate_rows, sentence, waterfall
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table, write_manifest, write_table
from synthgain.study.load import parse_study
from synthgain.study.session import Session

ROOT = Path(__file__).parent.parent

LONG = {"steps": 300, "batch_size": 16, "ema_decay": 0.97}


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def trained_with(run: Path, size: int = 8, **training: Any) -> Path:
    data, image = write_data(run, patients=40, size=size), {"size": size, "channels": 1}
    job = autoencoder_job(run, data, image=image, training=LONG | training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        train_family(job, prepare_run)
    return job.outputs[0].parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_with(tmp_path_factory.mktemp("vae"))


def measured(folder: Path) -> Measured:
    return Measured.model_validate(json.loads((folder / "manifest.json").read_text())["measured"])


def failed(found: Measured) -> list[str]:
    return [str(row["what"]) for row in gate_rows(found, Gates()) if row["passed"] != "yes"]


def test_an_autoencoder_is_trained_and_measured_on_held_out_patients(trained: Path) -> None:
    facts = json.loads((trained / "manifest.json").read_text())
    assert facts["measured"]["images"] == 40  # 10 validation and 10 test patients, two images each
    assert facts["saw"]["patients"] == 20
    assert facts["measured"]["psnr"] > 20
    assert min(facts["measured"]["signal"]) > 0.9
    space = load_latents(trained / "autoencoder")
    assert space.shape(8) == (2, 4, 4)
    assert space.mean.flatten().tolist() == pytest.approx(facts["latents_mean"])


def test_diffusers_opens_it_and_knows_its_scale(trained: Path) -> None:
    from diffusers import AutoencoderKL

    network = AutoencoderKL.from_pretrained(trained / "autoencoder", use_safetensors=True)
    assert len(network.config.latents_std) == network.config.latent_channels == 2
    assert not any("attentions.0" in name for name, _ in network.named_modules())


def killed_after(steps: int, job: Job) -> None:
    """Train and be killed after `steps` more steps."""

    def prepare(job: Job) -> AutoencoderRun:
        run, left = prepare_run(job), iter(range(steps))
        take_step = run.take_step

        def step(rows: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return take_step(rows, own)

        run.take_step = step  # type: ignore[method-assign]
        return run

    with pytest.raises(KeyboardInterrupt):
        train_family(job, prepare)


def test_killed_and_resumed_ends_in_the_same_bits(tmp_path: Path) -> None:
    digests = []
    for number, stops in enumerate(([], [3, 1, 4])):
        run = tmp_path / str(number)
        job = autoencoder_job(run, write_data(run), training={"save_every": 2})
        for stop in stops:
            killed_after(stop, job)
        train_family(job, prepare_run)
        digests.append(weights_digest(job))
    assert digests[0] == digests[1]


def test_a_kl_weight_a_hundred_times_too_high_kills_channels_and_they_are_named(tmp_path: Path) -> None:
    """At 16 px and more: the divergence is summed over the latent, the error a mean over pixels (docs/text.md)."""
    recipe = AutoencoderTraining(steps=1).kl_weight
    alive, found = (
        measured(trained_with(tmp_path / str(times), size=16, kl_weight=times * recipe)) for times in (1, 100)
    )
    assert not dead_channels(alive)
    dead = dead_channels(found)
    assert dead
    assert "dead channel" in [row["passed"] for row in gate_rows(found, Gates())]
    assert dead[0] in sentence("vae", found, list(gate_rows(found, Gates())))


def dead_channels(found: Measured) -> list[str]:
    return [what for what in failed(found) if what.startswith("signal share of latent channel")]


def test_a_scale_forgotten_at_decode_is_seen(trained: Path) -> None:
    space = load_latents(trained / "autoencoder")
    images = torch.from_numpy(read_images(trained)).permute(0, 3, 1, 2)

    class Forgetful(LatentSpace):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return self.network.decode(latents).sample

    good, bad = (gates.measure(kind(space.network, space.mean, space.sd), images) for kind in (LatentSpace, Forgetful))
    assert good.scaling < 0.01
    assert bad.psnr < good.psnr - 3
    assert "change by standardising and scaling back, grey levels" in set(failed(bad)) - set(failed(good))


def read_images(trained: Path) -> Any:
    return np.load(trained.parents[1] / "datasets" / "toy" / "images.npy")


@pytest.mark.parametrize(("how", "axis"), [("mirrored", 2), ("upside down", 1)])
def test_flipped_training_images_are_seen(tmp_path: Path, how: str, axis: int) -> None:
    """An autoencoder does best what it saw: held-out images that are flipped first come back better."""
    found = {}
    for name in ("upright", how):
        run = tmp_path / name
        inputs = write_data(run, patients=40)
        folder = run / "datasets" / "toy"
        images, facts = read_image_set(folder), json.loads((folder / "manifest.json").read_text())
        side = 1 - np.arange(8) / 12  # darker to the right and below, as a heart is on one side
        pixels = (images.images * side[:, None, None] * side[:, None]).astype(np.uint8)
        trained = images.table["patient_id"].str[-2:].astype(int) < 20
        if name == how:
            pixels[trained] = np.flip(pixels[trained], axis)
        columns, identity = images.columns, facts["identity"]
        shutil.rmtree(folder)
        write_image_set(folder, pixels, images.table.drop(columns="sha256"), columns, identity)
        job = autoencoder_job(run, inputs, training=LONG | {"steps": 120})
        train_family(job, prepare_run)
        found[name] = measured(job.outputs[0].parent)
    assert f"gain if images are {how} first, dB" in failed(found[how])
    assert max(found[how].flips, key=lambda name: found[how].flips[name]) == how
    assert not [what for what in failed(found["upright"]) if what.startswith("gain if")]
    assert "flipped" in [row["passed"] for row in gate_rows(found[how], Gates())]


def test_numbers_of_the_gates() -> None:
    image = torch.randint(0, 256, (2, 1, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    assert gates.image_psnr(image, image + 10).mean().item() == pytest.approx(
        10 * torch.log10(torch.tensor(255**2 / 100)).item(), abs=1e-4
    )
    assert gates.ssim(image, image) == pytest.approx(1.0, abs=1e-5)
    assert gates.high_frequency_power(image, image) == pytest.approx(1.0)
    smooth = torch.nn.functional.avg_pool2d(image, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert gates.high_frequency_power(image, smooth) < 0.5


def split_of(run: Path, parts: dict[str, str]) -> None:
    """Move images of the toy data set to other parts."""
    path = run / "splits" / "toy" / "split.parquet"
    table = read_table(path)
    table["part"] = table["image_id"].map(parts).fillna(table["part"])
    identity = json.loads((path.parent / "manifest.json").read_text())["identity"]
    write_table(path, table, identity)
    write_manifest(path.parent / "manifest.json", identity, ["split.parquet"])


def test_a_patient_on_both_sides_is_refused(tmp_path: Path) -> None:
    inputs = write_data(tmp_path)
    split_of(tmp_path, {"toy-000": "test"})  # the patient's other image stays in training
    with pytest.raises(
        SynthGainError, match=r"autoencoders\.vae: patient toy-p00 is in the training part and held out"
    ):
        train_family(autoencoder_job(tmp_path, inputs, training={"steps": 1}), prepare_run)


def test_another_seed_of_noise_at_each_step_and_none_twice(tmp_path: Path) -> None:
    run = prepare_run(autoencoder_job(tmp_path, write_data(tmp_path)))
    first = run._noise()
    assert torch.equal(first, run._noise())
    run.step = 1
    assert not torch.equal(first, run._noise())


def folder_job(tmp_path: Path, trained: Path, **changes: Any) -> Job:
    shutil.copytree(trained / "autoencoder", tmp_path / "weights")
    return autoencoder_job(tmp_path, write_data(tmp_path, patients=40), folder="weights", **changes)


def test_an_autoencoder_from_a_folder_is_measured_alike(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path))
    job = folder_job(tmp_path, trained)
    read_autoencoder(job)
    assert measured(job.outputs[0].parent).psnr == pytest.approx(measured(trained).psnr, abs=1e-3)
    assert json.loads((job.outputs[0].parent / "manifest.json").read_text())["parameters"] > 0


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        ("config.json", {}, r"autoencoders\.vae\.folder: .* has no config\.json"),
        (
            "diffusion_pytorch_model.safetensors",
            {},
            r"no diffusion_pytorch_model\.safetensors in .*; old\.bin is a pickle",
        ),
        (None, {"sha256": "0" * 64}, r"autoencoders\.vae\.sha256: .* has SHA-256 [0-9a-f]{64}, not the 0{64}"),
        (None, {"latent_channels": 3}, r"autoencoders\.vae: latent_channels 3 of the config, but .* has 2"),
        (None, {"downsampling": 4}, r"autoencoders\.vae: downsampling 4 of the config, but .* has 2"),
    ],
)
def test_bad_folders_in_one_line(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, spoil: str | None, changes: Any, message: str
) -> None:
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path))
    job = folder_job(tmp_path, trained, **changes)
    (tmp_path / "weights" / "old.bin").write_bytes(b"\x80\x04")
    if spoil is not None:
        (tmp_path / "weights" / spoil).unlink()
    with pytest.raises(SynthGainError, match=message):
        read_autoencoder(job)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.json", "{", r"config\.json is not readable as JSON"),
        ("config.json", "[]", r"config\.json holds no facts of a model, but a list"),
        ("config.json", '{"_class_name": "VQModel"}', r"config\.json is of 'VQModel', wanted 'AutoencoderKL'"),
        ("diffusion_pytorch_model.safetensors", "torn", r"weights cannot be read as an autoencoder \(.+\)"),
    ],
)
def test_damaged_folders_in_one_line(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    monkeypatch.setenv("SYNTHGAIN_DATA", str(tmp_path))
    job = folder_job(tmp_path, trained)
    (tmp_path / "weights" / name).write_text(text)
    with pytest.raises(SynthGainError, match=said) as caught:
        read_autoencoder(job)
    assert "\n" not in str(caught.value)


def test_a_folder_that_does_not_fit_is_refused_while_planning(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a study in colour, of other latents, of another checksum, of a pickle, of no folder at all."""
    monkeypatch.chdir(ROOT)
    shutil.copytree(trained / "autoencoder", tmp_path / "vae")
    (tmp_path / "pickle").mkdir()
    (tmp_path / "pickle" / "config.json").write_text("{}")
    (tmp_path / "pickle" / "diffusion_pytorch_model.bin").write_bytes(b"x")

    def planned(image: int = 1, **entry: Any) -> None:
        study = tiny(
            image={"size": 32, "channels": image},
            autoencoders__vae={"folder": "vae", "downsampling": 2, "latent_channels": 2, **entry},
            generators__ddpm__autoencoder="vae",
            generators__ddpm__network={"block_out_channels": [16, 32]},
            data_root=str(tmp_path),
        )
        (plan,) = Session(study, ROOT, Path("results")).planners.values()
        plan.job("write_report")

    planned()
    with pytest.raises(SynthGainError, match=r"autoencoders\.vae: channels 3 of image and masks, but .* has 1"):
        planned(image=3)
    with pytest.raises(SynthGainError, match=r"autoencoders\.vae: latent_channels 8 of the config, but .* has 2"):
        planned(latent_channels=8)
    with pytest.raises(SynthGainError, match=r"autoencoders\.vae\.sha256: vae/diffusion_.* not the 0{64}"):
        planned(sha256="0" * 64)
    with pytest.raises(SynthGainError, match=r"autoencoders\.vae\.folder: no such folder: .*/elsewhere"):
        planned(folder="elsewhere")
    with pytest.raises(SynthGainError, match=r"diffusion_pytorch_model\.bin is a pickle, which is never opened"):
        planned(folder="pickle")


def test_bad_entries_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"give train_on .* or folder"):
        Autoencoder.model_validate({})
    with pytest.raises(ValueError, match="training goes with train_on"):
        Autoencoder.model_validate({"train_on": {"datasets": ["a"]}})
    with pytest.raises(ValueError, match=r"structures go with output: image\+mask"):
        Autoencoder.model_validate({"folder": "x", "structures": ["lung"]})


def test_the_inputs_of_a_job_are_named(tmp_path: Path) -> None:
    inputs = write_data(tmp_path)
    assert paths_of(autoencoder_job(tmp_path, inputs).inputs) == inputs


def test_the_waterfall_goes_from_the_ceiling_to_the_generator() -> None:
    clinic = {"real": "hospital_a", "ratios": [100]}
    vae = {"train_on": {"datasets": ["hospital_a"]}, "training": {"steps": 4}}
    study = parse_study(
        tiny(
            autoencoders__vae=vae,
            pools__ceiling={"known": "reconstructed", "autoencoder": "vae", "rows_of": "hospital_a"},
            arms__ceiling={**clinic, "synthetic": "ceiling"},
        )
    )
    names = {"ratio": 100, "baseline": "real", "metric": "auroc", "dataset": "hospital_a", "label": "macro"}
    numbers = {"baseline_mean": 0.9, "mean": 0.85, "difference": -0.05, "low": -0.08, "high": -0.02}
    table = pd.DataFrame([{"arm": arm, **names, **numbers} for arm in ("supplemented", "repeated", "ceiling")])
    head = table[table["arm"] == "supplemented"].assign(baseline="repeated")  # a head-to-head, not a step
    table = pd.concat([table, head], ignore_index=True)
    blocks = waterfall(study, ModelEvidence("cnn", tables={"comparisons": table}))
    shown = blocks[-1]
    assert isinstance(shown, Table)
    assert [row[0] for row in shown.rows] == ["real images", "autoencoder ceiling", "generator"]
    assert any(isinstance(block, Text) and "ceiling itself is below real" in block.text for block in blocks)
    assert waterfall(parse_study(tiny()), ModelEvidence("cnn", tables={"comparisons": table})) == []
