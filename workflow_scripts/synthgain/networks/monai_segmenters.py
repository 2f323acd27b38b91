"""MONAI's segmenters in 2-D: UNet, SegResNet, FlexibleUNet and BasicUNetPlusPlus, narrow unless told otherwise."""

from collections.abc import Callable

import torch
from monai.networks.nets import BasicUNetPlusPlus as MonaiBasicUNetPlusPlus
from monai.networks.nets import FlexibleUNet as MonaiFlexibleUNet
from monai.networks.nets import SegResNet as MonaiSegResNet
from monai.networks.nets import UNet
from torch import nn

from synthgain.entry import checked
from synthgain.networks.options import DOWNSTREAM, BasicUNetPlusPlus, FlexibleUNet, SegResNet, UNetSegmenter
from synthgain.runtime.errors import SynthGainError


class FirstOutput(nn.Module):
    """A network that returns a list of outputs, as a network that returns the first of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: list[torch.Tensor] = self.network(images)
        return outputs[0]


def build(in_channels: int, outputs: int, image_size: int, name: str = "unet", **options: object) -> nn.Module:
    """Return an untrained segmenter: (N, C, H, W) float in [-1, 1] → (N, outputs, H, W) logits.

    name: a key of BUILDERS; options: those of its type in `networks.options`.
    Raises SynthGainError for another name, or an image size that the network cannot halve often enough.
    """
    if name not in BUILDERS:
        raise SynthGainError(f"network: unknown name {name!r}; known: {', '.join(BUILDERS)}")
    chosen = checked(DOWNSTREAM["segmentation"][name], options, "network")
    chosen.check_size(image_size)
    return BUILDERS[name](in_channels, outputs, chosen)


def features(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return (n, d) float32: the coarsest convolution output of `network` on x (n, C, H, W), averaged over pixels.

    The bottleneck is found, not named, so that every segmenter serves: of the outputs with the fewest pixels the last.
    """
    coarsest: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if not coarsest or output[0, 0].numel() <= coarsest[0][0, 0].numel():
            coarsest[:] = [output]

    hooks = [part.register_forward_hook(keep) for part in network.modules() if isinstance(part, nn.Conv2d)]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return coarsest[0].float().mean(dim=(2, 3))


def _unet(in_channels: int, outputs: int, chosen: UNetSegmenter) -> nn.Module:
    widths, dropout = chosen.channels, chosen.dropout
    strides = [2] * (len(widths) - 1)
    return UNet(2, in_channels, outputs, widths, strides, num_res_units=chosen.num_res_units, dropout=dropout)


def _segresnet(in_channels: int, outputs: int, chosen: SegResNet) -> nn.Module:
    down, up = tuple(chosen.blocks_down), tuple(chosen.blocks_up)
    width, dropout = chosen.init_filters, chosen.dropout_prob
    return MonaiSegResNet(2, width, in_channels, outputs, dropout, blocks_down=down, blocks_up=up)


def _flexible(in_channels: int, outputs: int, chosen: FlexibleUNet) -> nn.Module:
    decoder, dropout = tuple(chosen.decoder_channels), chosen.dropout
    try:
        return MonaiFlexibleUNet(
            in_channels, outputs, chosen.backbone, decoder_channels=decoder, dropout=dropout, is_pad=True
        )
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SynthGainError(
            f"network flexible_unet: backbone {chosen.backbone!r}, {list(decoder)}: {reason}"
        ) from error


def _plusplus(in_channels: int, outputs: int, chosen: BasicUNetPlusPlus) -> nn.Module:
    network = MonaiBasicUNetPlusPlus(2, in_channels, outputs, tuple(chosen.features), dropout=chosen.dropout)
    return FirstOutput(network)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "unet": _unet,
    "segresnet": _segresnet,
    "flexible_unet": _flexible,
    "basic_unet_plusplus": _plusplus,
}
