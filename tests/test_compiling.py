"""Whether a pool's network is compiled follows from the whole replica's work, never from a shard or a clock."""

import logging
import math
import shutil

import numpy as np
import pytest
import torch
from pixel_samples import PixelSamples

from synthgain.networks.unet import build, condition_dimension, evaluate
from synthgain.pools import compiling
from synthgain.pools.compiling import flops_of_pass, pays, with_compile_decided
from synthgain.pools.options import Inpainting, Sampling
from synthgain.pools.sampling import Sampler

SAMPLING = {"solver": "dpmpp_2m", "steps": 12, "batch_size": 64}


class Network(PixelSamples):
    """A real network behind the generator's interface."""

    kind, device, image_shape = "diffusion", torch.device("cpu"), (1, 8, 8)
    sigma_min, sigma_max = 0.002, 80.0

    def __init__(self) -> None:
        # One level: compiling each further one takes half a minute of a processor.
        options = {"block_out_channels": [8], "layers_per_block": 1, "attention_resolutions": []}
        self.network = build(options, 8, 1)

    def null_condition(self, n):
        return torch.zeros(n, condition_dimension(self.network))

    def denoise(self, x, sigma, condition):
        return evaluate(self.network, x, sigma, condition)


@pytest.fixture(scope="module")
def network():
    return Network()


def test_work_is_that_of_all_evaluations(network, tmp_path, monkeypatch):
    one = flops_of_pass(network)
    assert one > 2 * 8 * 8 * 3 * 3 * 1 * 8  # the first convolution alone: 8 filters of 3 × 3 at each of 8 × 8 places
    options = Sampling(**SAMPLING)
    monkeypatch.setattr(compiling, "WORTHWHILE_FLOPS", {"cpu": 100 * 12 * one})
    repaint = Inpainting(structure="disc", resamples=3, jump_length=4)  # 4 + 8 · 3 = 28 steps down
    for changes, inpainting, factor in (
        ({}, None, 1), ({"steps": 24}, None, 2), ({"solver": "heun"}, None, 23 / 12),
        ({"guidance_scale": 1.5}, None, 2), ({}, repaint, 28 / 12),
    ):  # fmt: skip
        rows = math.ceil(100 / factor)
        given = options.model_copy(update=changes)
        assert pays(given, network, rows, inpainting)
        assert not pays(given, network, rows - 1, inpainting)


def test_only_a_replica_with_enough_work_is_compiled(network, tmp_path, monkeypatch):
    monkeypatch.setenv(compiling.CACHE_VARIABLE, "elsewhere")
    options = Sampling(**SAMPLING)
    enough = int(compiling.WORTHWHILE_FLOPS["cpu"] / (12 * flops_of_pass(network))) + 1
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert with_compile_decided(options, network, enough, tmp_path).compile is True
    assert with_compile_decided(options, network, 100, tmp_path).compile is False
    for told in (True, False):  # what the config says stands
        assert (
            with_compile_decided(options.model_copy(update={"compile": told}), network, enough, tmp_path).compile
            is told
        )


def test_without_a_compiler_it_runs_uncompiled_and_says_so(network, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(compiling, "WORTHWHILE_FLOPS", {"cpu": 1.0})
    monkeypatch.setattr(logging.getLogger("synthgain"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="synthgain"):
        assert with_compile_decided(Sampling(**SAMPLING), network, 1000, tmp_path).compile is False
    assert "no no-such-compiler here" in caplog.text


@pytest.mark.parametrize(
    ("told", "looked_for"), [("ccache g++", "ccache"), ("", "g++"), (" ", "g++"), ("clang++", "clang++")]
)
def test_the_compiler_that_the_environment_names_is_looked_for(monkeypatch, told, looked_for):
    asked = []
    monkeypatch.setenv("CXX", told)
    monkeypatch.setattr("shutil.which", lambda name: asked.append(name) or f"/usr/bin/{name}")
    assert compiling.has_compiler(torch.device("cpu"))
    assert asked == [looked_for]


def test_compiled_code_is_kept_in_the_jobs_own_folder(network, tmp_path, monkeypatch):
    monkeypatch.delenv(compiling.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(compiling.os, "environ", dict(compiling.os.environ))
    with_compile_decided(Sampling(**{**SAMPLING, "compile": True}), network, 1, tmp_path)
    assert compiling.os.environ[compiling.CACHE_VARIABLE] == str(tmp_path / "compiled")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++, which is not here")
def test_compiled_images_are_the_same_in_any_job_and_close_to_uncompiled_ones(tmp_path, monkeypatch):
    monkeypatch.setenv(compiling.CACHE_VARIABLE, str(tmp_path))
    seeds, drawn = np.arange(4), {}
    for told in (False, True, True):
        torch.manual_seed(0)  # the same weights in each
        generator = Network()
        sampler = Sampler(generator, Sampling(**{**SAMPLING, "steps": 3, "batch_size": 4, "compile": told}))
        images = sampler.draw(seeds, lambda: generator.null_condition(4)).numpy()  # noqa: B023
        assert images.shape == (4, 1, 8, 8)
        assert generator.network.config.sample_size == 8
        if told in drawn:
            assert np.array_equal(images, drawn[told]), "two shards of one pool"
        drawn[told] = images
    assert np.abs(drawn[True] - drawn[False]).max() < 1e-3
