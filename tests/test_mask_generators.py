"""Diffusion generators with masks: drawn beside the image, drawn alone, or given as the condition."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from devices import DEVICE, ON_CPU
from generator_jobs import CONTROLLED_NETWORK, MASK_NAMES, disc_masks, training_job, write_data
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_generator_training import kill_after, weights_digest
from torch import Tensor

from synthgain.data.image_set import read_image_set
from synthgain.generators.diffusion import training as diffusion_training
from synthgain.generators.diffusion.mask_condition import checked_masks
from synthgain.generators.diffusion.training import prepare_run
from synthgain.generators.loading import load_generator
from synthgain.generators.training import train_family
from synthgain.generators.training_data import MaskPlanes, TrainingData, job_training_data, read_training_data
from synthgain.pools.sampling import sample
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.guarded import KEPT

DISC = {"structures": ["disc"]}
CONCATENATED = DISC | {"mask_by": "concatenation", "condition_on": ["finding"]}
BASE = "generators/base/0/manifest.json"
QUICK = {"steps": 120, "batch_size": 16, "dropout": 0.0, "learning_rate": 4e-3, "ema_decay": 0.95, "log_every": 40}


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def read(run: Path, planes: MaskPlanes, datasets: tuple[str, ...] = ("toy",)) -> TrainingData:
    folders = {name: (run / "datasets" / name, run / "splits" / name) for name in datasets}
    return read_training_data(folders, 1.0, 1.0, 0, planes)


# What a generator is shown


def test_planes_stand_behind_the_image_in_the_order_asked_for(tmp_path: Path) -> None:
    write_data(tmp_path, masks=True)
    source = read_image_set(tmp_path / "datasets" / "toy")
    assert source.masks is not None
    data = read(tmp_path, MaskPlanes("image+mask", ("upper", "disc")))
    rows = source.table["image_id"].isin(data.table["image_id"]).to_numpy()
    assert data.images.shape == (20, 3, 8, 8)
    assert data.images.dtype == torch.uint8
    assert (data.images[:, 0].numpy() == source.images[rows][..., 0]).all()
    assert (data.images[:, 1].numpy() == 255 * source.masks[rows][..., 1]).all()
    assert (data.images[:, 2].numpy() == 255 * source.masks[rows][..., 0]).all()
    assert data.masks is None
    alone = read(tmp_path, MaskPlanes("mask", ("upper", "disc")))
    assert (alone.images == data.images[:, 1:]).all()
    given_masks = read(tmp_path, MaskPlanes("image", ("upper", "disc")))
    assert given_masks.masks is not None
    assert (given_masks.images == data.images[:, :1]).all()
    assert (given_masks.masks == data.images[:, 1:]).all()


@pytest.mark.parametrize("planes", [MaskPlanes("image+mask", ("disc",)), MaskPlanes("image", ("disc",))])
def test_rows_without_the_mask_are_left_out_and_counted(tmp_path: Path, planes: MaskPlanes) -> None:
    write_data(tmp_path, masks=True, without_disc=(1, 4))
    data = read(tmp_path, planes)
    saw = data.saw()
    assert (saw["images"], saw["patients"], saw["left_out_without_mask"]) == (16, 8, 4)
    assert not data.table["patient_id"].isin(["toy-p01", "toy-p04"]).any()
    assert len(data.images) == len(data.labelled) == 16
    assert read(tmp_path, MaskPlanes("mask", ("upper",))).saw()["left_out_without_mask"] == 0
    assert read(tmp_path, MaskPlanes()).saw()["images"] == 20


@pytest.mark.parametrize(
    ("structures", "datasets", "message"),
    [
        (("lung",), ("toy",), "generators.g.structures: data set 'toy' has no structure 'lung'; known: disc, upper, n"),
        (("disc",), ("toy", "plain"), "data set 'plain' has no structure 'disc'; known: none, it has no masks"),
        (("disc", "never"), ("toy",), "none of the training images of toy has a mask of 'disc' and 'never'; name st"),
        (("empty",), ("hollow",), "the masks of 'empty' are empty in all of the training images of hollow: nothing"),
    ],
)
def test_structures_that_cannot_be_learned(
    tmp_path: Path, structures: tuple[str, ...], datasets: tuple[str, ...], message: str
) -> None:
    write_data(tmp_path, masks=True)
    write_data(tmp_path, "plain")
    if datasets == ("hollow",):
        write_hollow(tmp_path)
    with pytest.raises(SynthGainError, match=message):
        read(tmp_path, MaskPlanes("image+mask", structures, place="generators.g"), datasets)


def write_hollow(run: Path) -> None:
    """A data set whose masks are there, and all empty."""
    from synthgain.data.image_set import write_image_set

    inputs = write_data(run, "hollow", masks=True)
    folder = run / "datasets" / "hollow"
    found = read_image_set(folder)
    table = found.table.drop(columns=["sha256", *(f"has_mask_{name}" for name in MASK_NAMES)])
    nothing = np.zeros((len(found), 8, 8, 1), dtype=np.uint8)
    identity = inputs["datasets/hollow/manifest.json"]
    write_image_set(
        folder, np.array(found.images), table.assign(has_mask_empty=True), found.columns, identity, nothing, ["empty"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "picture"}, "generators.ddpm.output 'picture': known are image, image\\+mask, mask"),
        ({"output": "mask"}, "generators.ddpm.structures: missing"),
    ],
)
def test_impossible_slices(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        train_family(training_job(tmp_path, write_data(tmp_path, masks=True), **changes))


# Masks drawn beside the image, or alone


def test_pairs_interrupted_end_in_the_bits_of_the_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    for name in ("whole", "broken"):
        inputs = write_data(tmp_path / name, masks=True, without_disc=(3,))
        changes: dict[str, Any] = {"output": "image+mask", "structures": ["upper", "disc"]}
        jobs.append(training_job(tmp_path / name, inputs, training={"save_every": 2, "steps": 7}, **changes))
    train_family(jobs[0])
    for steps in (3, 2):
        kill_after(monkeypatch, steps, jobs[1])
    train_family(jobs[1])
    assert weights_digest(jobs[0]) == weights_digest(jobs[1])

    facts = json.loads(jobs[0].outputs[0].read_text())
    assert (facts["output"], facts["structures"], facts["image_channels"]) == ("image+mask", ["upper", "disc"], 1)
    assert (facts["image_shape"], facts["mask_by"]) == ([3, 8, 8], None)
    assert facts["saw"]["left_out_without_mask"] == 2
    data = job_training_data(jobs[0])
    assert facts["sigma_data"] == pytest.approx(float((data.images.double() / 127.5 - 1).std(correction=0)))
    generator = load_generator(jobs[0].outputs[0].parent)
    assert (generator.output, generator.structures) == ("image+mask", ("upper", "disc"))
    assert (generator.image_shape, generator.image_channels, generator.mask_by) == ((3, 8, 8), 1, None)
    assert "image" not in generator.null_condition(2)


def test_small_mask_diffusion_draws_discs(tmp_path: Path) -> None:
    """A generator of masks alone: its samples are binary, and about as large as the training masks."""
    inputs = write_data(tmp_path, patients=40, masks=True)
    job = training_job(tmp_path, inputs, output="mask", condition_on=[], training=QUICK, **DISC)
    train_family(job)
    generator = load_generator(job.outputs[0].parent)
    assert (generator.output, generator.image_shape, generator.image_channels) == ("mask", (1, 8, 8), 0)
    noise = torch.randn(32, *generator.image_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        drawn = sample(generator, generator.null_condition(32), noise, "dpmpp_2m", 12)
    assert (drawn.abs() > 0.5).float().mean() > 0.8  # noise of the same spread: 0.53
    areas, real = (drawn > 0).float().mean(dim=(1, 2, 3)), disc_masks(80, 8, seed=1)[..., 0].mean()
    assert areas.mean() == pytest.approx(real, rel=0.25)


# Masks as input channels


def test_image_follows_the_concatenated_mask(tmp_path: Path) -> None:
    job = training_job(tmp_path, write_data(tmp_path, patients=40, masks=True), training=QUICK, **CONCATENATED)
    train_family(job)
    generator = load_generator(job.outputs[0].parent)
    assert (generator.image_shape, generator.mask_by, generator.structures) == ((1, 8, 8), "concatenation", ("disc",))
    masks = torch.from_numpy(disc_masks(16, 8, seed=5)[..., :1].transpose(0, 3, 1, 2).astype(np.float32)) * 2 - 1
    table = pd.DataFrame({"finding": [1.0] * 16})
    noise = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        drawn = sample(generator, generator.encode_conditions(table, masks), noise, "dpmpp_2m", 8)
    inside = masks > 0
    agreement = ((drawn > -0.2) == inside).float().mean()
    assert agreement > 0.9
    assert drawn[inside].mean() > drawn[~inside].mean() + 0.8


@pytest.fixture(scope="module")
def concatenated(tmp_path_factory: pytest.TempPathFactory) -> Job:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        run = tmp_path_factory.mktemp("concatenated")
        job = training_job(run, write_data(run, masks=True), training={"steps": 4}, **CONCATENATED)
        train_family(job)
    return job


def test_conditions_carry_the_mask_and_null_is_zero(concatenated: Job) -> None:
    generator = load_generator(concatenated.outputs[0].parent)
    table, masks = pd.DataFrame({"finding": [1.0, 0.0]}), torch.ones(2, 1, 8, 8)
    masks[:, :, 4:] = -1
    condition = generator.encode_conditions(table, masks)
    assert condition["image"].dtype == torch.float32
    assert (condition["image"] == masks).all()
    for unknown in (generator.encode_conditions(table), generator.null_condition(2)):
        assert unknown["image"].shape == (2, 1, 8, 8)
        assert (unknown["image"] == 0).all()


def test_guidance_takes_the_mask_along(concatenated: Job) -> None:
    """One Euler step from sigma to 0 is the guided estimate itself: null + w (conditional - null), mask and all."""
    generator = load_generator(concatenated.outputs[0].parent)
    masks = torch.from_numpy(disc_masks(2, 8, seed=3)[..., :1].transpose(0, 3, 1, 2).astype(np.float32)) * 2 - 1
    condition = generator.encode_conditions(pd.DataFrame({"finding": [1.0, 0.0]}), masks)
    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    high = generator.sigma_max
    sigma = torch.full((2,), high)
    with torch.inference_mode():
        drawn = sample(generator, condition, noise, "euler", 1, guidance_scale=3.0)
        with_mask = generator.denoise(high * noise, sigma, condition)
        without = generator.denoise(high * noise, sigma, generator.null_condition(2))
        columns_only = generator.denoise(high * noise, sigma, condition | {"image": torch.zeros_like(masks)})
    torch.testing.assert_close(drawn, without + 3 * (with_mask - without), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(with_mask, columns_only)


def test_masks_given_wrongly(concatenated: Job, tmp_path: Path) -> None:
    generator = load_generator(concatenated.outputs[0].parent)
    table = pd.DataFrame({"finding": [1.0, 0.0]})
    with pytest.raises(SynthGainError, match=r"condition masks are \(2, 8, 8, 1\); the generator takes \(2, 1, 8, 8\)"):
        generator.encode_conditions(table, torch.ones(2, 8, 8, 1))
    with pytest.raises(SynthGainError, match="condition masks hold 0 to 1; give -1 outside and 1 inside"):
        generator.encode_conditions(table, torch.ones(2, 1, 8, 8).tril())
    job = training_job(tmp_path, write_data(tmp_path), training={"steps": 1}, condition_on=["finding"])
    train_family(job)
    with pytest.raises(SynthGainError, match="without `mask` in its condition_on"):
        load_generator(job.outputs[0].parent).encode_conditions(table, torch.ones(2, 1, 8, 8))


@given(st.integers(0, 2**16 - 1), st.integers(1, 3))
def test_any_binary_mask_passes_unchanged(bits: int, planes: int) -> None:
    mask = torch.tensor([(bits >> place) & 1 for place in range(16)], dtype=torch.float32).reshape(1, 1, 4, 4) * 2 - 1
    masks = mask.expand(2, planes, 4, 4)
    assert (checked_masks(masks, 2, ["a", "b", "c"][:planes], 4) == masks).all()


@pytest.mark.parametrize(("dropout", "label_fraction"), [(1.0, 1.0), (0.0, 0.0), (0.0, 1.0)])
def test_mask_is_dropped_with_the_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropout: float, label_fraction: float
) -> None:
    """Dropped for guidance, or not among the labelled: the network sees zeros there, not an empty mask (-1)."""
    inputs = write_data(tmp_path, masks=True)
    changes = CONCATENATED | {"train_on": {"datasets": ["toy"], "label_fraction": label_fraction}}
    run = prepare_run(training_job(tmp_path, inputs, training={"condition_dropout": dropout}, **changes))
    run.start()
    seen: list[tuple[Tensor, Tensor]] = []
    forward = run.forward

    def watching(scaled: Tensor, time: Tensor, values: Tensor, null: Tensor, masks: Tensor, *text: None) -> Tensor:
        seen.append((null, masks))
        return forward(scaled, time, values, null, masks, *text)

    monkeypatch.setattr(run, "forward", watching)
    run.take_step(torch.arange(8), torch.arange(8))
    (null, masks) = seen[0]
    known = dropout == 0 and label_fraction == 1
    assert null.all() != known
    assert (masks.abs() == (1.0 if known else 0.0)).all()


def test_image_generator_is_a_start_for_a_mask_conditioned_one(tmp_path: Path) -> None:
    inputs = write_data(tmp_path, masks=True)
    first = training_job(tmp_path, inputs, "base", condition_on=["finding"], training={"steps": 2})
    train_family(first)
    changes = CONCATENATED | {"init_from": "base", "training": {"steps": 1, "learning_rate": 1e-12}}
    job = training_job(tmp_path, {**inputs, BASE: first.identity}, "tuned", **changes)
    train_family(job)
    before, after = (weights_of(finished, "network") for finished in (first, job))
    other = [name for name in before if before[name].shape != after[name].shape]
    assert other == ["conv_in.weight"]
    for name in set(before) - set(other):
        torch.testing.assert_close(before[name], after[name], atol=1e-6, rtol=0)


# Masks through a control network


def weights_of(job: Job, part: str) -> dict[str, Tensor]:
    return load_file(job.outputs[0].parent / part / "diffusion_pytorch_model.safetensors")


def base_job(run: Path, inputs: dict[str, str], **changes: Any) -> Job:
    entries = {"network": CONTROLLED_NETWORK, "condition_on": ["finding"], "training": {"steps": 4}} | changes
    return training_job(run, inputs, "base", **entries)


def control_job(run: Path, inputs: dict[str, str], base: Job, name: str = "steered", **changes: Any) -> Job:
    entries = {"network": CONTROLLED_NETWORK, "init_from": "base", "training": {"steps": 6, "save_every": 2}}
    entries |= CONCATENATED | {"mask_by": "controlnet"} | changes
    return training_job(run, {**inputs, BASE: base.identity}, name, **entries)


@pytest.fixture(scope="module", params=["edm", "v_prediction"])
def steered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Job]:
    """A base generator, and one that steers it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        run = tmp_path_factory.mktemp("steered")
        inputs, formulation = write_data(run, masks=True), {"kind": request.param}
        base = base_job(run, inputs, formulation=formulation)
        train_family(base)
        job = control_job(run, inputs, base, formulation=formulation)
        train_family(job)
    return base, job


def test_training_changes_the_control_network_alone(steered: tuple[Job, Job]) -> None:
    base, job = steered
    for part in ("network", "condition_encoder"):
        before, after = weights_of(base, part), weights_of(job, part)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    control = weights_of(job, "control_network")
    assert any((value != 0).any() for name, value in control.items() if name.startswith("controlnet_"))
    facts = json.loads(job.outputs[0].read_text())
    assert (facts["mask_by"], facts["structures"], facts["image_shape"]) == ("controlnet", ["disc"], [1, 8, 8])
    assert facts["trained_parameters"] == sum(value.numel() for value in control.values())
    assert "control_network/diffusion_pytorch_model.safetensors" in facts["files"]
    assert facts["sigma_data"] == json.loads(base.outputs[0].read_text())["sigma_data"]


@ON_CPU
def test_untrained_control_network_draws_what_the_base_draws(steered: tuple[Job, Job]) -> None:
    base, job = steered
    run, plain = prepare_run(job), load_generator(base.outputs[0].parent)
    generator = load_generator(job.outputs[0].parent)
    trained, generator.control = generator.control, run.module.control.eval()
    table, masks = pd.DataFrame({"finding": [1.0, 0.0]}), torch.ones(2, 1, 8, 8)
    noise, sigma = torch.randn(2, 1, 8, 8), torch.full((2,), 2.0)
    condition = generator.encode_conditions(table, masks)
    with torch.inference_mode():
        expected = plain.denoise(2 * noise, sigma, plain.encode_conditions(table))
        torch.testing.assert_close(generator.denoise(2 * noise, sigma, condition), expected, atol=0, rtol=0)
        generator.control = trained
        assert not torch.equal(generator.denoise(2 * noise, sigma, condition), expected)


def test_plain_diffusers_runs_network_and_control(steered: tuple[Job, Job]) -> None:
    import diffusers

    folder = steered[1].outputs[0].parent
    generator = load_generator(folder)
    masks = torch.ones(2, 1, 8, 8)
    condition = generator.encode_conditions(pd.DataFrame({"finding": [1.0, 0.0]}), masks)
    noise = torch.randn(2, *generator.image_shape, generator=torch.Generator().manual_seed(0))

    network = diffusers.UNet2DConditionModel.from_pretrained(folder / "network").eval()
    control = diffusers.ControlNetModel.from_pretrained(folder / "control_network").eval()
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    scheduler = getattr(diffusers, config["_class_name"]).from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(5)
    images, vector = noise * scheduler.init_noise_sigma, condition["vector"]
    with torch.no_grad():
        for step in scheduler.timesteps:
            scaled = scheduler.scale_model_input(images, step)
            down, middle = control(scaled, step, None, masks, class_labels=vector, return_dict=False)
            output = network(
                scaled,
                step,
                None,
                class_labels=vector,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
            if step == scheduler.timesteps[2]:
                seen = (scheduler.sigmas[2], images, output)
            images = scheduler.step(output, step, images).prev_sample
    assert torch.isfinite(images).all()

    sigma, images, output = seen  # one evaluation through both interfaces is the same estimate of the clean image
    if config["_class_name"].startswith("EDM"):
        theirs, noisy = scheduler.precondition_outputs(images, output, sigma), images
    else:
        alpha = (1 + sigma**2).rsqrt()
        theirs, noisy = alpha * images - sigma * alpha * output, images / alpha
    with torch.no_grad():
        ours = generator.denoise(noisy.float(), torch.full((2,), float(sigma)), condition)
    torch.testing.assert_close(ours, theirs.float(), atol=2e-3, rtol=2e-3)


def test_control_interrupted_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = write_data(tmp_path, masks=True)
    base = base_job(tmp_path, inputs)
    train_family(base)
    whole = control_job(tmp_path, inputs, base)
    train_family(whole)
    expected = weights_digest(whole)
    whole.outputs[0].unlink()
    (whole.state_folder() / KEPT).unlink()  # else it is taken over, not trained again
    kill_after(monkeypatch, 3, whole)
    train_family(whole)
    assert weights_digest(whole) == expected


@pytest.mark.parametrize(
    ("base_changes", "changes", "message"),
    [
        (
            {"network": {"module": "unet", "options": {"block_out_channels": [8, 16]}}},
            {},
            "takes no control; give that generator network unet_condition",
        ),
        (DISC | {"output": "image+mask"}, {}, "draws masks; a control network steers one that draws images"),
        (DISC | {"mask_by": "concatenation"}, {}, "takes masks itself"),
        ({"condition_on": []}, {}, "condition_on: its columns are finding, those of the frozen .* none; give the same"),
        ({}, {"network": CONTROLLED_NETWORK | {"options": {"block_out_channels": [8, 8]}}}, "network: options or im"),
        ({}, {"formulation": {"kind": "v_prediction"}}, "formulation.kind 'v_prediction': the frozen network of .*edm"),
    ],
)
def test_bases_that_cannot_be_steered(tmp_path: Path, base_changes: dict, changes: dict, message: str) -> None:
    inputs = write_data(tmp_path, masks=True)
    base = base_job(tmp_path, inputs, **base_changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusion_training, "train_step", lambda *_: torch.zeros(2))
        train_family(base)
    with pytest.raises(SynthGainError, match=message):
        train_family(control_job(tmp_path, inputs, base, **changes))
