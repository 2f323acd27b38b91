"""A segmentation network of one convolution, for tests: with the weights below it finds what is bright."""

import torch
from torch import nn


def build(in_channels: int, outputs: int, image_size: int) -> nn.Module:
    """Return (N, in_channels, H, W) in [−1, 1] -> (N, outputs, H, W) logits."""
    return nn.Conv2d(in_channels, outputs, 1)


def weights(in_channels: int, outputs: int) -> dict[str, torch.Tensor]:
    """Return weights whose logit is above 0 where the mean pixel is above the middle grey."""
    return {"weight": torch.ones(outputs, in_channels, 1, 1), "bias": torch.zeros(outputs)}
