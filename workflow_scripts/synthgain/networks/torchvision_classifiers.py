"""ResNet and ConvNeXt classifiers of torchvision, with any number of input channels and outputs."""

import torch
from torch import nn
from torchvision import models

from synthgain.entry import checked
from synthgain.networks.options import TorchvisionClassifier

_SMALL_IMAGE = 64  # px: up to here ResNet's 7×7 stride-2 stem and pooling would leave almost no map


def build(in_channels: int, outputs: int, image_size: int, **options: object) -> nn.Module:
    """Return an untrained torchvision classifier.

    options: those of `networks.options.TorchvisionClassifier`. The stem for small images is 3×3 with stride 1 and no
    pooling for ResNet, 2×2 with stride 2 for ConvNeXt. Raises SynthGainError for another name.
    """
    chosen = checked(TorchvisionClassifier, options, "network")
    name, stem = chosen.name, chosen.stem
    small = stem == "small" or (stem == "auto" and image_size <= _SMALL_IMAGE)
    network: models.ResNet | models.ConvNeXt = getattr(models, name)(weights=None, num_classes=outputs)
    if isinstance(network, models.ResNet):
        published = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        network.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False) if small else published
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        if small:
            network.maxpool = nn.Identity()
        return network
    width, patch = network.features[0][0].out_channels, 2 if small else 4
    network.features[0][0] = nn.Conv2d(in_channels, width, patch, stride=patch)
    nn.init.trunc_normal_(network.features[0][0].weight, std=0.02)
    nn.init.zeros_(network.features[0][0].bias)
    return network


def features(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the (N, d) penultimate features of (N, C, H, W) images in [-1, 1]."""
    if isinstance(network, models.ResNet):
        whole = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)(images)
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            whole = layer(whole)
        pooled: torch.Tensor = network.avgpool(whole).flatten(1)
        return pooled
    assert isinstance(network, models.ConvNeXt)
    normalised: torch.Tensor = network.classifier[:-1](network.avgpool(network.features(images)))
    return normalised
