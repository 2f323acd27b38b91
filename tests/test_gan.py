"""The GAN family: networks, augmentation, losses, and training under the rules of every family."""

import csv
import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from devices import DEVICE, ON_CPU
from generator_jobs import COLUMNS, disc_images, training_job, write_data
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from synthgain.data.image_set import write_image_set
from synthgain.generators import training
from synthgain.generators.gan import training as gan_training
from synthgain.generators.gan.differentiable_augmentation import NUMBERS, augment
from synthgain.generators.gan.options import GanTraining
from synthgain.generators.gan.schedules import beta2_at, gamma_at, learning_rate_at
from synthgain.generators.gan.training import Draws, discriminator_loss, prepare_run
from synthgain.generators.loading import denoises, load_generator
from synthgain.generators.run import training_options
from synthgain.generators.training import train_family
from synthgain.networks.gan import GanDiscriminator, GanNetwork, build_discriminator, build_generator
from synthgain.networks.generator_options import levels_of
from synthgain.runtime.checkpoints import Checkpoints, tensor_digest
from synthgain.runtime.command import Job, Terminated
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table

TINY = {"module": "gan", "options": {"channels": [8, 8], "group_size": 8, "latent_dim": 4}}


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def gan_job(run: Path, inputs: dict[str, str], **changes: Any) -> Job:
    """Return a job of a few fast GAN steps on discs of 8 px."""
    entry = {"module": "gan", "network": TINY, "structures": [], "mask_by": None} | changes
    entry["training"] = {"dropout": 0.0} | changes.get("training", {})
    return training_job(run, inputs, "gan", **entry)


def weights_digest(job: Job) -> str:
    folder = job.outputs[0].parent
    tensors = {}
    for path in sorted(folder.rglob("*.safetensors")):
        tensors |= {f"{path.relative_to(folder)}/{name}": value for name, value in load_file(path).items()}
    return tensor_digest(tensors)


def write_masked_data(run: Path) -> dict[str, str]:
    """Write the toy discs with their masks."""
    inputs = write_data(run)
    folder = run / "datasets" / "toy"
    images = np.load(folder / "images.npy")
    table = read_table(folder / "table.parquet").drop(columns="sha256").assign(has_mask_disc=True)
    masks = (images > 60).astype(np.uint8)
    identity = inputs["datasets/toy/manifest.json"]
    write_image_set(folder, images, table, COLUMNS, identity, masks, ["disc"])
    return inputs


# ---------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(("size", "channels", "levels"), [(8, 1, 2), (28, 3, 3), (32, 4, 4)])
def test_networks_fit_and_are_saved_and_loaded(tmp_path: Path, size: int, channels: int, levels: int) -> None:
    options = {"channels": [8] * levels, "group_size": 8, "latent_dim": 5}
    generator, critic = build_generator(options, size, channels, 6), build_discriminator(options, size, channels)
    z, vector = torch.randn(2, 5), torch.randn(2, 6)
    images = generator(z, vector)
    assert images.shape == (2, channels, size, size)
    assert critic(images, torch.randn(2, 8)).shape == (2,)
    for kind, network in ((GanNetwork, generator), (GanDiscriminator, critic)):
        network.save_pretrained(tmp_path / kind.__name__, safe_serialization=True)
        loaded = kind.from_pretrained(tmp_path / kind.__name__, use_safetensors=True, local_files_only=True)
        assert tensor_digest(loaded.state_dict()) == tensor_digest(network.state_dict())


def test_generator_and_score_depend_on_noise_and_condition() -> None:
    torch.manual_seed(0)
    generator, critic = build_generator(TINY["options"], 8, 1, 6), build_discriminator(TINY["options"], 8, 1)
    z, vector, other = torch.randn(1, 4), torch.randn(1, 6), torch.randn(1, 6)
    image = generator(z, vector)
    assert (generator(z, other) - image).abs().max() > 1e-3
    assert (generator(-z, vector) - image).abs().max() > 1e-3
    assert 0.1 < float(generator(torch.randn(64, 4), torch.randn(64, 6)).detach().std()) < 10
    score = critic(image, torch.zeros(1, 8))
    assert (critic(image, torch.ones(1, 8)) - score).abs() > 1e-3


def test_a_score_is_that_of_its_own_image_alone() -> None:
    """What makes one gradient of the summed scores the gradients of each: no layer mixes the batch."""
    torch.manual_seed(0)
    critic = build_discriminator(TINY["options"], 8, 1)
    for parameter in critic.parameters():
        nn.init.normal_(parameter, std=0.3)
    images, vector = torch.randn(3, 1, 8, 8, requires_grad=True), torch.randn(3, 8)
    critic(images, vector)[1].backward()
    assert images.grad is not None
    assert images.grad[1].abs().sum() > 0
    assert images.grad[[0, 2]].abs().sum() == 0


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({"widths": [8]}, 8, "unknown key 'widths'"),
        ({}, 34, "image.size 34: a gan needs 4 to 15 px times a power of two"),
        ({"channels": [8]}, 8, "an image of 8 px needs 2 widths, finest first"),
        ({"channels": [8, 12]}, 8, "each, times 2, must be a multiple of 16"),
    ],
)
def test_networks_that_cannot_be_built(options: dict, size: int, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        build_generator(options, size, 1, 6)
    with pytest.raises(SynthGainError, match=message):
        build_discriminator(options, size, 1)


def test_levels_go_down_to_a_few_pixels() -> None:
    assert [levels_of(size) for size in (8, 28, 32, 48, 64, 96, 128, 224, 256)] == [2, 3, 4, 4, 5, 5, 6, 6, 7]


# ------------------------------------------------------------------------------------------------ augmentation


def numbers_of(rows: int, **chosen: float) -> Tensor:
    """Augmentation numbers that do nothing but what is `chosen`, by place in the row."""
    numbers = torch.full((rows, NUMBERS), 0.5)
    numbers[:, :5] = 1.0
    for place, value in chosen.items():
        numbers[:, int(place[1:])] = value
    return numbers


@given(st.integers(0, 10**6), st.sampled_from([8, 9, 16]))
@settings(max_examples=20)
def test_masks_move_with_the_image_and_keep_their_values(seed: int, size: int) -> None:
    random = torch.Generator().manual_seed(seed)
    image = torch.rand(3, 1, size, size, generator=random) * 2 - 1
    mask = (image > 0).float() * 2 - 1
    numbers = torch.rand(3, NUMBERS, generator=random)
    seen = augment(torch.cat([image, mask], dim=1), numbers, 1, 0.6)
    assert set(seen[:, 1].unique().tolist()) <= {-1.0, 0.0, 1.0}
    # The same geometry applied to the mask as if it were all there is, its photometric gates closed.
    numbers[:, :3] = 1.0
    torch.testing.assert_close(augment(mask, numbers, 1, 0.6)[:, 0], seen[:, 1])


def test_translation_shifts_and_cutout_clears() -> None:
    images = torch.arange(1.0, 65.0).reshape(1, 1, 8, 8)
    moved = augment(images, numbers_of(1, n3=0.0, n8=0.999, n9=0.0), 1, 0.5)  # one pixel down, one to the left
    assert torch.equal(moved[0, 0, 1:, :-1], images[0, 0, :-1, 1:])
    assert moved[0, 0, 0].abs().sum() == moved[0, 0, :, -1].abs().sum() == 0
    cleared = augment(images, numbers_of(1, n4=0.0), 1, 0.5)[0, 0]
    assert cleared[3:6, 3:6].abs().sum() == 0
    assert torch.equal(cleared[:2], images[0, 0, :2])


def test_brightness_contrast_and_saturation() -> None:
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    bright = augment(images, numbers_of(2, n0=0.0, n5=0.75), 3, 0.5)
    torch.testing.assert_close(bright, images + 0.25)
    flat = augment(images, numbers_of(2, n2=0.0, n7=0.0), 3, 0.5)
    torch.testing.assert_close(flat.std(dim=(1, 2, 3)), 0.5 * images.std(dim=(1, 2, 3)))
    grey = augment(images, numbers_of(2, n1=0.0, n6=0.0), 3, 0.5)
    torch.testing.assert_close(grey, images.mean(dim=1, keepdim=True).expand_as(images))


def test_probability_of_zero_changes_nothing_and_gradients_pass_twice() -> None:
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    numbers = torch.rand(2, NUMBERS, dtype=torch.float64)
    torch.testing.assert_close(augment(images, numbers, 1, 0.0), images)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, numbers, 1, 1.0).pow(3), (images,))


# ------------------------------------------------------------------------------------------- losses, schedules


class LinearCritic(nn.Module):
    """Scores weight · image: its gradient is the weight, whatever the image."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((64,), weight))

    def forward(self, images: Tensor, values: Tensor, null: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight


@ON_CPU
def test_relativistic_loss_and_penalties_of_a_known_critic(tmp_path: Path) -> None:
    run = prepare_run(gan_job(tmp_path, write_data(tmp_path), training={"augmentation_probability": 0.0}))
    real = torch.ones(3, 1, 8, 8)
    values, null = torch.zeros(3, 3), torch.ones(3, 3, dtype=torch.bool)
    latent, numbers = torch.zeros(3, 4), torch.rand(2, 3, NUMBERS)
    draws = Draws((latent, latent), (numbers, numbers), torch.ones(3))
    run.generator.network.to_image.weight.data.zero_()  # generated images are all 0
    for weight in (0.0, 0.01):
        run.discriminator = LinearCritic(weight)  # type: ignore[assignment]
        loss, r1, r2 = discriminator_loss(run, real, values, null, draws)
        assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-64 * weight)))
        assert float(r1.detach()) == pytest.approx(64 * weight**2)
        assert float(r2.detach()) == pytest.approx(64 * weight**2)
        generated = gan_training.generator_loss(run, real, values, null, draws)
        assert float(generated.detach()) == pytest.approx(math.log1p(math.exp(64 * weight)))


def test_schedules_begin_and_end_where_they_should() -> None:
    options = GanTraining(steps=100, warmup_steps=0, learning_rate=1.0, beta2=0.99)
    assert [learning_rate_at(options, step) for step in (0, 50, 99)] == pytest.approx([1.0, 0.25, 0.25])
    assert [beta2_at(options, step) for step in (0, 25, 99)] == pytest.approx([0.9, 0.945, 0.99])
    assert [gamma_at(options, step, 64) for step in (0, 99)] == pytest.approx([2.0, 0.2])
    assert gamma_at(options, 0, 32) == pytest.approx(0.5)
    assert gamma_at(GanTraining(steps=9, r1_gamma=3.0), 0, 256) == 3.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"steps": 1, "gamma": 1}, "unknown key 'gamma'"),
        ({"steps": 1, "r1_gamma": -1.0}, "training.r1_gamma: .* greater than 0"),
        ({"steps": 1, "beta2": 1.0}, "training.beta2: .* less than 1"),
        ({"steps": 1, "augmentation_probability": 1.5}, "augmentation_probability: .* less than or equal to 1"),
        ({"steps": 1, "compile": True}, "cannot be compiled; set it to false"),
    ],
)
def test_bad_training_options(tmp_path: Path, config: dict, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        training_options(GanTraining, gan_job(tmp_path, {}, training=config))


# ---------------------------------------------------------------------------------------------------- training


def test_killed_and_stopped_it_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gan_job(tmp_path / "whole", write_data(tmp_path / "whole"))
    train_family(whole)
    job = gan_job(tmp_path, write_data(tmp_path), training={"save_every": 2})
    original = gan_training.train_step

    def killed(run: Any, *rest: Any) -> Tensor:
        if run.step == 5:
            raise KeyboardInterrupt
        return original(run, *rest)

    def stopped(run: Any, *rest: Any) -> Tensor:
        assert run.step >= 4  # resumed
        if run.step == 8:
            signal.raise_signal(signal.SIGTERM)
        return original(run, *rest)

    monkeypatch.setattr(gan_training, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_family(job)
    monkeypatch.setattr(gan_training, "train_step", stopped)
    with pytest.raises(Terminated, match="state saved at step 9 of 12"):
        train_family(job)
    monkeypatch.setattr(gan_training, "train_step", original)
    train_family(job)
    assert weights_digest(job) == weights_digest(whole)
    facts = json.loads(job.outputs[0].read_text())
    assert facts["environments"] == json.loads(whole.outputs[0].read_text())["environments"]


@ON_CPU
def test_manifest_log_and_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Metered:
        source = "RAPL package-0"

        def __init__(self, gpus: list[torch.device]) -> None: ...

        def since_last(self) -> float:
            return 2.5

    monkeypatch.setattr(training, "EnergyMeter", Metered)
    job = gan_job(tmp_path, write_data(tmp_path), training={"steps": 6, "snapshots": [2]})
    train_family(job)
    facts, folder = json.loads(job.outputs[0].read_text()), job.outputs[0].parent
    assert facts["module"] == "gan"
    assert facts["image_shape"] == [1, 8, 8]
    assert (facts["output"], facts["structures"], facts["image_channels"]) == ("image", [], 1)
    assert (facts["steps"], facts["snapshots"], facts["final"], facts["images_seen"]) == (6, [2, 6], 6, 48)
    assert (facts["saw"]["images"], facts["saw"]["patients"]) == (20, 10)
    assert [column["name"] for column in facts["condition_columns"]] == ["finding", "view", "age"]
    assert (facts["energy_joules"], facts["energy_source"]) == (15.0, "RAPL package-0")
    weights = [load_file(path) for path in folder.glob("*/diffusion_pytorch_model.safetensors")]
    assert facts["parameters"] == sum(value.numel() for part in weights for value in part.values())
    with (folder / "training.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["step"]) for row in rows] == [3, 6]
    losses = ["loss", "discriminator_loss", "r1", "r2"]
    assert list(rows[0]) == ["step", *losses, "learning_rate", "images_per_second", "seconds"]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        "condition_encoder", "network", "snapshots",
    ]  # fmt: skip


@ON_CPU
def test_not_finite_loss_stops_and_keeps_the_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = gan_job(tmp_path, write_data(tmp_path), training={"save_every": 2})
    original = gan_training.train_step

    def exploding(run: Any, real: Tensor, *rest: Any) -> Tensor:
        return original(run, real * (float("nan") if run.step == 5 else 1.0), *rest)

    monkeypatch.setattr(gan_training, "train_step", exploding)
    with pytest.raises(SynthGainError, match=r"not finite at step 6 .*lower training.learning_rate"):
        train_family(job)
    found = Checkpoints(job.state_folder(), job.identity).load_latest()
    assert found is not None
    assert found[0] == 4
    assert all(torch.isfinite(value).all() for value in found[1]["generator"].values())


def test_image_and_mask_are_drawn_together(tmp_path: Path) -> None:
    job = gan_job(tmp_path, write_masked_data(tmp_path), output="image+mask", structures=["disc"])
    assert prepare_run(job).image_channels == 1  # photometric augmentation leaves the mask alone
    train_family(job)
    generator = load_generator(job.outputs[0].parent)
    assert not denoises(generator)
    assert generator.image_shape == (2, 8, 8)
    assert (generator.output, generator.structures, generator.image_channels) == ("image+mask", ("disc",), 1)
    images = generator.generate(torch.randn(5, generator.latent_dim), generator.null_condition(5))
    assert images.shape == (5, 2, 8, 8)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1


def test_learns_images_and_their_condition(tmp_path: Path) -> None:
    """Mean image near the real one, samples that differ, and discs of a finding brighter: not so at the first step."""
    job = gan_job(
        tmp_path,
        write_data(tmp_path, patients=40),
        condition_on=["finding"],
        network={"module": TINY["module"], "options": {"channels": [16, 16], "group_size": 8, "latent_dim": 16}},
        training={
            "steps": 150,
            "batch_size": 16,
            "log_every": 50,
            "snapshots": [1],
            "ema_decay": 0.95,
            "warmup_steps": 0,
            "condition_dropout": 0.0,
            "r1_gamma": 0.2,
        },
    )
    train_family(job)
    findings = np.repeat([1.0, 0.0], 32).astype(np.float32)
    real = torch.from_numpy(disc_images(findings, 8, seed=5).transpose(0, 3, 1, 2) / 127.5 - 1).float()
    distances, contrasts, spreads = [], [], []
    for snapshot in (1, 150):
        generator = load_generator(job.outputs[0].parent, snapshot)
        condition = generator.encode_conditions(pd.DataFrame({"finding": findings}))
        z = torch.randn(64, generator.latent_dim, generator=torch.Generator().manual_seed(0))
        drawn = generator.generate(z, condition)
        distances.append(float((drawn.mean(0) - real.mean(0)).square().mean().sqrt()))
        contrasts.append(float(drawn[:32, 0, 3:5, 3:5].mean() - drawn[32:, 0, 3:5, 3:5].mean()))
        spreads.append(float(drawn[:32].std(0).mean()))
    assert distances[1] < 0.4 * distances[0]
    assert contrasts[1] > 0.4 > abs(contrasts[0])  # the real contrast is 0.86
    assert spreads[1] > 0.4 * float(real[:32].std(0).mean())  # no collapse to one image


def test_what_cannot_be_loaded_or_conditioned_on(tmp_path: Path) -> None:
    job = gan_job(tmp_path, write_data(tmp_path), training={"steps": 2, "snapshots": [1]})
    train_family(job)
    folder = job.outputs[0].parent
    with pytest.raises(SynthGainError, match="no snapshot 7; kept are 1, 2"):
        load_generator(folder, 7)
    generator = load_generator(folder, 1)
    table = read_table(tmp_path / "datasets" / "toy" / "table.parquet").iloc[:2]
    with pytest.raises(SynthGainError, match="a gan: it draws image and mask together"):
        generator.encode_conditions(table, np.zeros((2, 8, 8, 1), np.uint8))
    weights = folder / "network" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"0000")
    with pytest.raises(SynthGainError, match="bytes differ from the manifest's checksum"):
        load_generator(folder)
