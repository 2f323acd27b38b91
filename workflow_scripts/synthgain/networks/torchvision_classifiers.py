"""ResNet and ConvNeXt classifiers of torchvision, with any number of input channels and outputs."""

import torch
from torch import nn
from torchvision import models

from synthgain.entry import checked
from synthgain.networks.options import TorchvisionClassifier

# px: where `auto` takes another stem, so that a map of a few pixels is left to the last layers at the usual cost.
_SMALL_IMAGE, _MEDIUM_IMAGE = 32, 64


def build(in_channels: int, outputs: int, image_size: int, **options: object) -> nn.Module:
    """Return an untrained torchvision classifier.

    options: those of `networks.options.TorchvisionClassifier`. The small stem is 3×3 with stride 1 and no pooling for
    ResNet, 2×2 with stride 2 for ConvNeXt: 16 and 4 times the operations per pixel. The medium one is as published but
    for a 3×3 kernel in ResNet, of which a small image has more use; it costs no more. Raises SynthGainError for another
    name.
    """
    chosen = checked(TorchvisionClassifier, options, "network")
    name = chosen.name
    stem: str = chosen.stem
    if stem == "auto":
        stem = "small" if image_size <= _SMALL_IMAGE else "medium" if image_size <= _MEDIUM_IMAGE else "imagenet"
    small = stem == "small"
    network: models.ResNet | models.ConvNeXt = getattr(models, name)(weights=None, num_classes=outputs)
    if isinstance(network, models.ResNet):
        kernel, stride = (7 if stem == "imagenet" else 3), (1 if small else 2)
        network.conv1 = nn.Conv2d(in_channels, 64, kernel, stride=stride, padding=kernel // 2, bias=False)
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
