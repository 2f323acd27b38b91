"""Identities of the formulations, the U-Net's options, and sampling from a saved folder with plain diffusers."""

import json
import math
from pathlib import Path

import pytest
import torch
from generator_jobs import TINY_NETWORK, training_job, write_data
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.device import chosen_device
from synthgain.generators.diffusion.formulations import Edm, VPrediction, saved_formulation
from synthgain.generators.diffusion.mask_condition import evaluate_conditioned
from synthgain.generators.loading import load_generator
from synthgain.networks import unet, unet_condition
from synthgain.runtime.errors import SynthGainError

sigmas = st.floats(0.002, 80.0)
sigma_datas = st.floats(0.05, 1.5)


@given(sigmas, sigma_datas)
def test_edm_scalings_give_unit_variance(sigma: float, sigma_data: float) -> None:
    """Karras et al. 2022, B.6: input and target have unit variance, and c_out is as small as can be."""
    c_skip, c_out, c_in, c_noise = (
        float(value) for value in Edm(sigma_data).scalings(torch.tensor([sigma], dtype=torch.float64))
    )
    assert c_in**2 * (sigma_data**2 + sigma**2) == pytest.approx(1)
    target_variance = ((1 - c_skip) ** 2 * sigma_data**2 + c_skip**2 * sigma**2) / c_out**2
    assert target_variance == pytest.approx(1)
    assert c_noise == pytest.approx(math.log(sigma) / 4)


@given(sigmas, sigma_datas)
@settings(max_examples=30, deadline=None)
def test_edm_oracle_recovers_the_image(sigma: float, sigma_data: float) -> None:
    edm = Edm(sigma_data)
    clean, noise = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.randn(2, 1, 4, 4, dtype=torch.float64)
    level = torch.full((2,), sigma, dtype=torch.float64)
    noisy = clean + sigma * noise
    c_skip, c_out, _, _ = edm.scalings(level)
    recovered = edm.denoise(lambda scaled, time: (clean - c_skip * noisy) / c_out, noisy, level)
    torch.testing.assert_close(recovered, clean, atol=1e-4, rtol=1e-4)


def test_edm_loss_is_the_weighted_denoising_error() -> None:
    edm = Edm(0.4, p_mean=-0.5, p_std=0.8)
    torch.manual_seed(0)
    clean, noise, level = torch.randn(6, 1, 4, 4), torch.randn(6, 1, 4, 4), torch.rand(6)
    weights = torch.randn(1, 1, 4, 4)
    network = lambda scaled, time: scaled * weights + time[:, None, None, None]  # noqa: E731
    sigma = (-0.5 + 0.8 * torch.special.ndtri(level)).exp()
    noisy = clean + sigma[:, None, None, None] * noise
    error = (edm.denoise(network, noisy, sigma) - clean).square().mean(dim=(1, 2, 3))
    weight = (sigma**2 + 0.4**2) / (sigma * 0.4) ** 2  # Karras et al. 2022, Table 1
    torch.testing.assert_close(edm.loss(network, clean, noise, level), weight * error, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("zero", [True, False])
def test_v_prediction_sigma_and_step_map_both_ways(schedule: str, zero: bool) -> None:
    formulation = VPrediction(0.5, schedule=schedule, zero_terminal_snr=zero)
    sigmas = formulation.sigmas()
    assert (sigmas.diff() > 0).all()
    assert torch.isfinite(sigmas).all()
    torch.testing.assert_close(formulation.time(sigmas.float()), torch.arange(1000.0), atol=0.05, rtol=1e-4)
    alpha = formulation.alpha[:-1]
    torch.testing.assert_close((1 + sigmas[:-1] ** 2).rsqrt(), alpha)
    assert (float(formulation.alpha[-1]) == 0) == zero


@given(st.integers(0, 998))
@settings(max_examples=30, deadline=None)
def test_v_prediction_oracle_recovers_the_image(step: int) -> None:
    formulation = VPrediction(0.5)
    sigma = formulation.sigmas()[step].float().repeat(2)
    clean, noise = torch.rand(2, 1, 4, 4) * 2 - 1, torch.randn(2, 1, 4, 4)
    alpha, spread = float(formulation.alpha[step]), float(formulation.spread[step])
    seen = []

    def oracle(scaled: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        seen.append((scaled, time))
        return alpha * noise - spread * clean

    recovered = formulation.denoise(oracle, clean + sigma[:, None, None, None] * noise, sigma)
    torch.testing.assert_close(recovered, clean, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(seen[0][0], alpha * clean + spread * noise, atol=1e-3, rtol=1e-3)
    assert float(seen[0][1][0]) == pytest.approx(step, abs=0.05)


def test_v_prediction_at_zero_snr_the_network_alone_gives_the_image() -> None:
    formulation = VPrediction(0.5)
    clean = torch.rand(1, 1, 4, 4)
    sigma = torch.tensor([formulation.sigma_max])
    recovered = formulation.denoise(
        lambda scaled, time: -clean, sigma[:, None, None, None] * torch.randn(1, 1, 4, 4), sigma
    )
    torch.testing.assert_close(recovered, clean, atol=2e-3, rtol=1e-2)


@given(st.floats(0.001, 0.999), st.sampled_from([None, 5.0]))
@settings(max_examples=30, deadline=None)
def test_v_prediction_loss_weight(level: float, gamma: float | None) -> None:
    """A network wrong by one everywhere costs exactly the Min-SNR weight (Hang et al. 2023, v-prediction)."""
    formulation = VPrediction(0.5, min_snr_gamma=gamma)
    step = min(int(torch.tensor(level).mul(1000)), 999)
    alpha, spread = float(formulation.alpha[step]), float(formulation.spread[step])
    clean, noise = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4)
    loss = formulation.loss(
        lambda scaled, time: alpha * noise - spread * clean + 1, clean, noise, torch.tensor([level])
    )
    snr = (alpha / spread) ** 2
    assert float(loss) == pytest.approx(1.0 if gamma is None else min(snr, gamma) / (snr + 1), rel=1e-3, abs=1e-6)


def test_formulation_from_its_config_and_unknown_keys() -> None:
    weighted = VPrediction(0.3, zero_terminal_snr=False, min_snr_gamma=5.0)
    for made in (Edm(0.3), VPrediction(0.3, train_steps=50), weighted):
        assert saved_formulation(json.loads(json.dumps(made.config()))).config() == made.config()
    both = {"kind": "edm", "p_mean": -0.8, "train_steps": 1000, "schedule": "cosine"}
    assert saved_formulation({**both, "sigma_data": 0.4}) == Edm(0.4, p_mean=-0.8)
    for bad, message in [
        ({"kind": "flow"}, "formulation.kind: unknown 'flow'; known: edm, v_prediction"),
        ({"kind": "edm", "p_maen": 1}, "unknown key 'p_maen'"),
        (
            {"kind": "v_prediction", "schedule": "sigmoid"},
            "schedule: unknown 'sigmoid'; known: cosine, linear",
        ),
        ({"kind": "v_prediction", "min_snr_gamma": 5.0}, "min_snr_gamma 5: with zero_terminal_snr the last step"),
    ]:
        with pytest.raises(SynthGainError, match=message):
            saved_formulation({**bad, "sigma_data": 0.5})


def test_default_networks_fit_their_budget() -> None:
    parameters = sum(weights.numel() for weights in unet.build({}, 32, 1).parameters())
    assert 0.5e6 < parameters < 2e6
    network = unet.build({}, 64, 3)
    vector = torch.zeros(1, unet.condition_dimension(network))
    assert network(torch.zeros(1, 3, 64, 64), torch.zeros(1), class_labels=vector).sample.shape == (1, 3, 64, 64)


def test_patches_see_every_pixel_once() -> None:
    network = unet.build({"patch_size": 2, "block_out_channels": [8, 16]}, 16, 1).eval()
    assert (network.config.sample_size, network.config.in_channels) == (8, 4)
    vector = torch.zeros(2, unet.condition_dimension(network))
    images = torch.randn(2, 1, 16, 16, requires_grad=True)
    output = unet.evaluate(network, images, torch.zeros(2), vector)
    assert output.shape == images.shape
    output.square().sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).all()


@pytest.mark.parametrize("patch", [1, 2])
def test_condition_channels_go_in_and_do_not_come_out(patch: int) -> None:
    network = unet.build({"patch_size": patch, "block_out_channels": [8, 16]}, 16, 3, condition_channels=2).eval()
    vector = torch.zeros(2, unet.condition_dimension(network))
    images, masks = torch.randn(2, 3, 16, 16), torch.ones(2, 2, 16, 16, requires_grad=True)
    output = evaluate_conditioned(network, None, images, torch.zeros(2), vector, masks)
    assert output.shape == images.shape
    output.square().sum().backward()
    assert masks.grad is not None
    assert (masks.grad != 0).all()


@pytest.mark.parametrize("patch", [1, 2])
def test_new_control_network_changes_nothing_until_it_learns(patch: int) -> None:
    network = unet_condition.build({"patch_size": patch, "block_out_channels": [8, 16]}, 16, 3).eval()
    control = unet_condition.build_control(network, 16, condition_channels=2).eval()
    vector = torch.randn(2, unet.condition_dimension(network))
    images, masks = torch.randn(2, 3, 16, 16), torch.ones(2, 2, 16, 16)
    alone = evaluate_conditioned(network, None, images, torch.zeros(2), vector, None)
    steered = evaluate_conditioned(network, control, images, torch.zeros(2), vector, masks)
    torch.testing.assert_close(steered, alone, atol=0, rtol=0)
    with torch.no_grad():
        for weights in control.parameters():
            weights.add_(0.1)
    assert not torch.allclose(evaluate_conditioned(network, control, images, torch.zeros(2), vector, masks), alone)


def test_network_for_control_has_no_attention_to_ask_for() -> None:
    with pytest.raises(SynthGainError, match="unknown key 'attention_resolutions'; known: block_out_channels, "):
        unet_condition.build({"attention_resolutions": [8]}, 32, 1)


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({"chanels": [8]}, 32, "unknown key 'chanels'"),
        ({"block_out_channels": [8, 8, 8, 8]}, 28, "need a multiple of 8"),
        ({"block_out_channels": [8, 12]}, 32, "multiple of 8"),
    ],
)
def test_bad_network_options(options: dict, size: int, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        unet.build(options, size, 1)


def test_device_asked_for_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("SYNTHGAIN_DEVICE", "cuda")
    monkeypatch.delenv("SYNTHGAIN_ALLOW_CPU", raising=False)
    with pytest.raises(SynthGainError, match="sees no GPU"):
        chosen_device()
    monkeypatch.setenv("SYNTHGAIN_ALLOW_CPU", "1")
    assert chosen_device().type == "cpu"
    monkeypatch.setenv("SYNTHGAIN_DEVICE", "tpu")
    with pytest.raises(SynthGainError, match="SYNTHGAIN_DEVICE='tpu'"):
        chosen_device()


@pytest.fixture(scope="module", params=["edm", "v_prediction"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from synthgain.generators.training import train_family

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", "cpu")
        run = tmp_path_factory.mktemp("run")
        job = training_job(
            run, write_data(run), formulation={"kind": request.param}, training={"steps": 4}, network=TINY_NETWORK
        )
        train_family(job)
    return job.outputs[0].parent


def test_plain_diffusers_samples_as_we_do(trained: Path) -> None:
    """Anyone can sample from the folder: diffusers' own classes plus the vector that our encoder gives."""
    import diffusers

    generator = load_generator(trained)
    condition = generator.null_condition(2)
    noise = torch.randn(2, *generator.image_shape, generator=torch.Generator().manual_seed(0))

    network = diffusers.UNet2DModel.from_pretrained(trained / "network").eval()
    config = json.loads((trained / "scheduler" / "scheduler_config.json").read_text())
    scheduler = getattr(diffusers, config["_class_name"]).from_pretrained(trained / "scheduler")
    scheduler.set_timesteps(5)
    images = noise * scheduler.init_noise_sigma
    with torch.no_grad():
        for step in scheduler.timesteps:
            scaled = scheduler.scale_model_input(images, step)
            output = network(scaled, step, class_labels=condition["vector"]).sample
            images = scheduler.step(output, step, images).prev_sample
    assert torch.isfinite(images).all()

    # One evaluation of the network through both interfaces is the same estimate of the clean image.
    sigma = torch.full((2,), float(scheduler.sigmas[2]))
    edm = config["_class_name"].startswith("EDM")
    noisy = 0.3 * noise + sigma[:, None, None, None] * noise
    with torch.no_grad():
        ours = generator.denoise(noisy, sigma, condition)
        moment = scheduler.timesteps[2]
        if edm:
            output = network(scheduler.precondition_inputs(noisy, sigma[0]), moment, class_labels=condition["vector"])
            theirs = scheduler.precondition_outputs(noisy, output.sample, sigma[0])
        else:
            alpha = (1 + sigma[0] ** 2).rsqrt()
            output = network(alpha * noisy, moment, class_labels=condition["vector"])
            theirs = alpha * alpha * noisy - sigma[0] * alpha * output.sample
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_loading_checks_snapshot_and_bytes(trained: Path) -> None:
    manifest = json.loads((trained / "manifest.json").read_text())
    assert load_generator(trained, manifest["snapshots"][0]).image_shape == (1, 8, 8)
    with pytest.raises(SynthGainError, match="no snapshot 99; kept are 1, 2, 4"):
        load_generator(trained, 99)
    weights = trained / "snapshots" / "1" / "network" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(SynthGainError, match="checksum"):
        load_generator(trained, 1)
    weights.write_bytes(whole)
