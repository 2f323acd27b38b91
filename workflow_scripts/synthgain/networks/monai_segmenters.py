"""MONAI's segmenters in 2-D: UNet, SegResNet, FlexibleUNet and BasicUNetPlusPlus, narrow unless told otherwise."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.nets import BasicUNetPlusPlus, FlexibleUNet, SegResNet, UNet
from torch import nn

from synthgain.runtime.errors import SynthGainError

_FLEXIBLE_DECODER = (128, 64, 32, 16, 8)  # half of MONAI's, whose decoder outweighs a small encoder
_PLUSPLUS_FEATURES = (16, 16, 32, 64, 128, 16)  # half of MONAI's


class FirstOutput(nn.Module):
    """A network that returns a list of outputs, as a network that returns the first of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: list[torch.Tensor] = self.network(images)
        return outputs[0]


def build(in_channels: int, outputs: int, image_size: int, name: str = "unet", **options: Any) -> nn.Module:
    """Return an untrained segmenter: (N, C, H, W) float in [-1, 1] → (N, outputs, H, W) logits.

    name: a key of BUILDERS; options, with what each takes:
    unet: channels (one number per level), num_res_units, dropout;
    segresnet: init_filters (a multiple of 8), blocks_down, blocks_up, dropout_prob;
    flexible_unet: backbone (resnet10 …, efficientnet-b0 …; never pretrained, `pretrained` of the model is for that),
    decoder_channels, dropout; basic_unet_plusplus: features (six numbers), dropout.
    Raises SynthGainError for another name, or an image size that the network cannot halve often enough.
    """
    if name not in BUILDERS:
        raise SynthGainError(f"network: unknown name {name!r}; known: {', '.join(BUILDERS)}")
    network, step = BUILDERS[name](in_channels, outputs, **options)
    if image_size % step:
        raise SynthGainError(
            f"network {name}: image size (or window) {image_size} px is no multiple of {step}; change it, or take a "
            "network with fewer levels"
        )
    return network


def features(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return (n, d) float32: the coarsest convolution output of `network` on x (n, C, H, W), averaged over pixels.

    The bottleneck is found, not named, so that every segmenter serves: of the outputs with the fewest pixels the last.
    """
    coarsest: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if not coarsest or output[0, 0].numel() <= coarsest[0][0, 0].numel():
            coarsest[:] = [output]

    hooks = [part.register_forward_hook(keep) for part in network.modules() if isinstance(part, nn.Conv2d)]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return coarsest[0].float().mean(dim=(2, 3))


def _unet(
    in_channels: int,
    outputs: int,
    channels: Sequence[int] = (16, 32, 64, 128),
    num_res_units: int = 2,
    dropout: float = 0.0,
) -> tuple[nn.Module, int]:
    halvings = len(channels) - 1
    strides = [2] * halvings
    network = UNet(2, in_channels, outputs, channels, strides, num_res_units=num_res_units, dropout=dropout)
    return network, 2**halvings


def _segresnet(
    in_channels: int,
    outputs: int,
    init_filters: int = 8,
    blocks_down: Sequence[int] = (1, 2, 2, 4),
    blocks_up: Sequence[int] = (1, 1, 1),
    dropout_prob: float | None = None,
) -> tuple[nn.Module, int]:
    network = SegResNet(
        2, init_filters, in_channels, outputs, dropout_prob, blocks_down=tuple(blocks_down), blocks_up=tuple(blocks_up)
    )
    return network, 2 ** (len(blocks_down) - 1)


def _flexible(
    in_channels: int,
    outputs: int,
    backbone: str = "resnet10",
    decoder_channels: Sequence[int] = _FLEXIBLE_DECODER,
    dropout: float = 0.0,
) -> tuple[nn.Module, int]:
    try:
        network = FlexibleUNet(
            in_channels, outputs, backbone, decoder_channels=tuple(decoder_channels), dropout=dropout, is_pad=True
        )
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SynthGainError(
            f"network flexible_unet: backbone {backbone!r}, {list(decoder_channels)}: {reason}"
        ) from error
    return network, 2 ** len(decoder_channels)


def _plusplus(
    in_channels: int, outputs: int, features: Sequence[int] = _PLUSPLUS_FEATURES, dropout: float = 0.0
) -> tuple[nn.Module, int]:
    halvings = 4  # fixed in MONAI's class
    return FirstOutput(BasicUNetPlusPlus(2, in_channels, outputs, tuple(features), dropout=dropout)), 2**halvings


BUILDERS: dict[str, Callable[..., tuple[nn.Module, int]]] = {
    "unet": _unet,
    "segresnet": _segresnet,
    "flexible_unet": _flexible,
    "basic_unet_plusplus": _plusplus,
}
