"""Solvers against exact solutions: a Gaussian's denoiser is known, and so is its probability-flow ODE."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from synthgain.entry import checked
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import SOLVERS, guided_denoiser, karras_sigmas, sample
from synthgain.runtime.errors import SynthGainError

MEAN, DEVIATION = 0.3, 0.5


class Gaussian:
    """Exact denoiser of pixels that are independent N(mean, DEVIATION²); the condition is the mean."""

    sigma_min, sigma_max = 1e-3, 20.0

    def __init__(self) -> None:
        self.calls = 0

    def denoise(self, x, sigma, condition):
        self.calls += 1
        level = sigma.to(x.dtype).view(-1, 1, 1, 1) ** 2
        return (DEVIATION**2 * x + level * condition.view(-1, 1, 1, 1)) / (DEVIATION**2 + level)

    def null_condition(self, n):
        return torch.zeros(n, dtype=torch.float64)


class Mixture(Gaussian):
    """Exact denoiser of pixels that are −1 or 1 with some width: curved trajectories."""

    def denoise(self, x, sigma, condition):
        self.calls += 1
        level = sigma.to(x.dtype).view(-1, 1, 1, 1) ** 2
        width = 0.2**2
        pull = torch.tanh(x / (width + level))
        return (width * x + level * pull) / (width + level)


class Above(Mixture):
    """From a higher level on."""

    sigma_min = 0.01


def noise(n=8):
    return torch.randn((n, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def conditions(n=8):
    return torch.full((n,), MEAN, dtype=torch.float64)


def exact_gaussian(unit):
    high = Gaussian.sigma_max
    return MEAN + (unit * high - MEAN) * DEVIATION / math.sqrt(DEVIATION**2 + high**2)


def error_of(generator, solver, steps, truth):
    return float((sample(generator, conditions(), noise(), solver, steps) - truth).abs().mean())


# Order p: doubling the steps divides the error by about 2^p.
@pytest.mark.parametrize(("solver", "least"), [("euler", 1.7), ("heun", 3.3), ("dpmpp_2m", 3.3), ("unipc", 3.3)])
def test_convergence_order_on_a_gaussian(solver, least):
    truth = exact_gaussian(noise())
    errors = [error_of(Gaussian(), solver, steps, truth) for steps in (32, 64, 128)]
    assert errors[0] / errors[1] > least
    assert errors[1] / errors[2] > least
    assert errors[2] < 0.02


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_all_solvers_agree_on_a_mixture(solver):
    truth = sample(Mixture(), conditions(), noise(), "heun", 2000)
    assert error_of(Mixture(), solver, 400, truth) < (0.02 if solver == "euler" else 1e-3)


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m", "unipc"])
def test_second_order_beats_euler_at_equal_evaluations(solver):
    truth = sample(Mixture(), conditions(), noise(), "heun", 2000)
    steps = 12 if solver == "heun" else 24
    assert error_of(Mixture(), solver, steps, truth) < error_of(Mixture(), "euler", 24, truth)


def test_dpmpp_2m_equals_diffusers():
    from diffusers import EDMDPMSolverMultistepScheduler

    scheduler = EDMDPMSolverMultistepScheduler(
        sigma_min=0.01, sigma_max=20.0, sigma_data=DEVIATION, solver_order=2, prediction_type="epsilon"
    )
    scheduler.set_timesteps(12)
    generator, x = Above(), noise() * 20.0
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        level = sigma.double().expand(len(x))
        denoised = generator.denoise(x, level, None)
        # The scheduler applies EDM's preconditioning itself: hand it the F that gives this denoised image.
        skip = DEVIATION**2 / (sigma**2 + DEVIATION**2)
        out = sigma * DEVIATION / (sigma**2 + DEVIATION**2) ** 0.5
        x = scheduler.step((denoised - skip * x) / out, timestep, x).prev_sample
    ours = sample(generator, None, noise(), "dpmpp_2m", 12)
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-5)


def test_unipc_equals_diffusers():
    from diffusers import UniPCMultistepScheduler

    sigmas = karras_sigmas(12, 0.01, 20.0)
    scheduler = UniPCMultistepScheduler(
        prediction_type="sample", solver_order=2, solver_type="bh2", lower_order_final=False, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(12)
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
    generator, scale = Above(), [1 / math.sqrt(1 + sigma**2) for sigma in sigmas]
    x = noise() * sigmas[0] * scale[0]  # the scheduler works in variance-preserving form: x / sqrt(1 + sigma²)
    for step, timestep in enumerate(scheduler.timesteps):
        level = torch.full((len(x),), sigmas[step], dtype=torch.float64)
        denoised = generator.denoise(x / scale[step], level, None)
        if step == len(sigmas) - 2:
            break
        x = scheduler.step(denoised, timestep, x).prev_sample
    ours = sample(generator, None, noise(), "unipc", 12)
    torch.testing.assert_close(ours, denoised, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("solver", "evaluations"), [("euler", 10), ("heun", 19), ("dpmpp_2m", 10), ("unipc", 10)])
def test_network_evaluations(solver, evaluations):
    generator = Gaussian()
    sample(generator, conditions(), noise(), solver, 10)
    assert generator.calls == evaluations


def test_noise_levels_are_those_of_edm():
    sigmas = karras_sigmas(18, 0.002, 80.0)
    assert sigmas[0] == 80.0
    assert sigmas[-2:] == [0.002, 0.0]
    assert sigmas[1] == pytest.approx((80 ** (1 / 7) + (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 17) ** 7)
    assert karras_sigmas(1, 0.002, 80.0) == [80.0, 0.0]
    assert all(one > two for one, two in pairwise(sigmas))


def test_guidance_moves_along_the_difference_and_only_inside_its_interval():
    generator = Gaussian()
    x = noise()
    level = partial(torch.full, (8,), dtype=torch.float32)
    guided = guided_denoiser(generator, conditions(), 8, 2.0, [0.5, 2.0])
    conditional = generator.denoise(x, level(fill_value=1.0), conditions())
    null = generator.denoise(x, level(fill_value=1.0), generator.null_condition(8))
    torch.testing.assert_close(guided(x, 1.0), null + 2.0 * (conditional - null))
    generator.calls = 0
    torch.testing.assert_close(guided(x, 3.0), generator.denoise(x, level(fill_value=3.0), conditions()))
    assert generator.calls == 2  # outside: no null pass


def test_scale_one_does_no_second_pass_and_changes_nothing():
    generator = Gaussian()
    plain = sample(generator, conditions(), noise(), "euler", 5)
    calls = generator.calls
    assert torch.equal(sample(generator, conditions(), noise(), "euler", 5, guidance_scale=1.0), plain)
    assert generator.calls == 2 * calls


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"solver": "magic"}, "magic"),
        ({"steps": 0}, "steps"),
        ({"batchsize": 3}, "did you mean 'batch_size'"),
        ({"batch_size": 0}, "batch_size"),
        ({"precision": "x"}, "'x'"),
        ({"compile": "maybe"}, r"compile: unknown 'maybe'"),
        ({"guidance_interval": [2.0, 1.0]}, "guidance_interval"),
    ],
)
def test_impossible_options_are_refused_in_one_line(options, word):
    with pytest.raises(SynthGainError, match=word) as caught:
        checked(Sampling, options, "sampling")
    assert "\n" not in str(caught.value)
