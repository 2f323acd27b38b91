"""A toy network: the small classifier, four channels wide."""

from torch import nn

from synthgain.networks import small_cnn


def build(in_channels: int, outputs: int, image_size: int) -> nn.Module:
    return small_cnn.build(in_channels, outputs, image_size, width=4)
