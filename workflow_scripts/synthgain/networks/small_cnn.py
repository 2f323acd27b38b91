"""A small convolutional classifier that trains in seconds on one CPU core.

Strided 3×3 convolutions down to a 4×4 map, group normalisation (no batch statistics, so real and
synthetic images of one batch do not touch each other), mean over the map, one linear layer.
"""

import torch
from torch import nn

from synthgain.entry import checked
from synthgain.networks.options import SmallCnn

_GROUPS = 4
_LAST_MAP = 4  # px: where halving stops


class SmallCNN(nn.Module):
    """(N, C, H, W) float in [-1, 1] → (N, outputs) logits."""

    def __init__(self, in_channels: int, outputs: int, image_size: int, width: int, max_width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_block(in_channels, width, 2)]
        size, channels = image_size // 2, width
        while size > _LAST_MAP:
            wider = min(2 * channels, max_width)
            layers += _block(channels, wider, 2)
            for _ in range(depth - 1):
                layers += _block(wider, wider, 1)
            size, channels = size // 2, wider
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels, outputs)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the (N, d) inputs of the last layer."""
        return self.body(images).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(images))
        return logits


def build(in_channels: int, outputs: int, image_size: int, **options: object) -> SmallCNN:
    """Return an untrained SmallCNN; options: those of `networks.options.SmallCnn`.

    Raises SynthGainError for options that it cannot be built with.
    """
    chosen = checked(SmallCnn, options, "network")
    return SmallCNN(in_channels, outputs, image_size, chosen.width, chosen.max_width, chosen.depth)


def features(network: SmallCNN, images: torch.Tensor) -> torch.Tensor:
    """Return the (N, d) penultimate features of (N, C, H, W) images in [-1, 1]."""
    return network.features(images)


def _block(channels: int, wider: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, wider, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.GroupNorm(_GROUPS, wider), nn.SiLU(inplace=True)]
