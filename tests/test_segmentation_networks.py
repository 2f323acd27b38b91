"""Segmenters: shapes, gradients, options, sizes."""

import pytest
import torch

from synthgain.downstream.prediction import build_network
from synthgain.networks.monai_segmenters import BUILDERS, build
from synthgain.networks.options import NetworkChoice
from synthgain.runtime.errors import SynthGainError

SMALL = {
    "unet": {"channels": [8, 16, 16], "num_res_units": 1},
    "segresnet": {"blocks_down": [1, 1], "blocks_up": [1]},
    "flexible_unet": {"decoder_channels": [16, 8, 8, 8, 8]},
    "basic_unet_plusplus": {"features": [8, 8, 8, 8, 8, 8]},
}


@pytest.mark.parametrize("name", list(BUILDERS))
def test_logits_have_the_images_size_and_every_weight_learns(name: str) -> None:
    torch.manual_seed(0)
    network = build(3, 2, 32, name, **SMALL[name])
    logits = network(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert logits.shape == (2, 2, 32, 32)
    logits.square().mean().backward()
    without = [key for key, weight in network.named_parameters() if weight.grad is None]
    # UNet++ has three heads more, for deep supervision, that its first output does not use
    assert all("final_conv_0" in key for key in without)


def test_sizes_and_options_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(SynthGainError, match="50 px is no multiple of 8"):
        build(1, 1, 50, "unet")
    with pytest.raises(SynthGainError, match="unknown name 'vnet'"):
        build(1, 1, 32, "vnet")
    with pytest.raises(SynthGainError, match="backbone: unknown 'vgg'") as caught:
        build(1, 1, 32, "flexible_unet", backbone="vgg")
    assert "\n" not in str(caught.value)
    entry = {"module": "monai_segmenters", "options": {"name": "unet", "width": 3}}
    with pytest.raises(SynthGainError, match="model seg: network: unknown key 'width'"):
        build_network(NetworkChoice.model_validate(entry), 1, 1, 32, "model seg")
