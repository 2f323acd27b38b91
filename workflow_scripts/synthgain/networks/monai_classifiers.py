"""DenseNet121 of MONAI."""

import torch
from monai.networks.nets import DenseNet121
from torch import nn

from synthgain.entry import checked
from synthgain.networks.options import DenseNet


def build(in_channels: int, outputs: int, image_size: int, **options: object) -> nn.Module:
    """Return an untrained DenseNet121: (N, C, H, W) float in [-1, 1] → (N, outputs) logits. Any image size."""
    dropout = checked(DenseNet, options, "network").dropout_prob
    return DenseNet121(
        spatial_dims=2, in_channels=in_channels, out_channels=outputs, dropout_prob=dropout, pretrained=False
    )


def features(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the (N, 1024) penultimate features of (N, C, H, W) images in [-1, 1]."""
    assert isinstance(network, DenseNet121)
    pooled: torch.Tensor = network.class_layers[:-1](network.features(images))
    return pooled
