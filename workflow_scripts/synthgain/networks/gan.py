"""Generator and discriminator of the GAN family: residual networks without any normalisation.

The plan is that of R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN! A modern GAN baseline", config E):
inverted bottlenecks with grouped convolutions, Fixup-like initial weights, bilinear resampling, one network the mirror
of the other; at widths that fit small sets.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TypeVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from synthgain.entry import checked
from synthgain.networks.generator_options import Gan

SLOPE = 0.2  # of the leaky ReLU
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance through a leaky ReLU (He et al. 2015)
LATENT_DIMENSION = 64  # Huang et al. 2024, table of hyper-parameters


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class ResidualBlock(nn.Module):
    """x + branch(x): 1 × 1 up to `expansion` times the channels, grouped 3 × 3, 1 × 1 back.

    The branch starts at zero and its two first layers scaled by blocks^(-1/4), so that a network of `blocks` of them
    starts as well behaved as one (Zhang et al. 2019, "Fixup initialization", for branches of three layers).
    """

    def __init__(self, channels: int, expansion: int, group_size: int, blocks: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.widen = nn.Conv2d(channels, hidden, 1)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=max(1, hidden // group_size))
        self.narrow = nn.Conv2d(hidden, channels, 1, bias=False)
        for layer in (self.widen, self.mix):
            _scaled_normal(layer, GAIN * blocks**-0.25)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.leaky_relu(self.widen(x), SLOPE)
        return x + self.narrow(functional.leaky_relu(self.mix(hidden), SLOPE))


class GanNetwork(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Latent numbers and a condition vector in, image out. Saved and loaded as diffusers does.

    sample_size: H = W in px; channels: widths from the finest level to the coarsest; condition_dimension: length of
    the condition vector.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int,
        out_channels: int,
        channels: list[int],
        blocks_per_level: int,
        expansion: int,
        group_size: int,
        latent_dim: int,
        condition_dimension: int,
    ) -> None:
        super().__init__()
        widths, blocks = list(reversed(channels)), len(channels) * blocks_per_level
        start = sample_size >> (len(channels) - 1)
        self.basis = nn.Parameter(torch.randn(widths[0], start, start))
        self.amplitudes = _scaled_normal(nn.Linear(latent_dim + condition_dimension, widths[0]), 1.0)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, expansion, group_size, blocks) for _ in range(blocks_per_level)))
            for width in widths
        )
        self.narrowings = nn.ModuleList(_change_width(a, b) for a, b in itertools.pairwise(widths))
        self.to_image = _scaled_normal(nn.Conv2d(widths[-1], out_channels, 1), 1.0)

    def forward(self, z: Tensor, vector: Tensor) -> Tensor:
        """Return images (N, C, H, W), not bounded, from z (N, latent_dim) and vector (N, condition_dimension)."""
        amplitudes = self.amplitudes(torch.cat([z, vector], dim=1))
        x = self.levels[0](self.basis * amplitudes[:, :, None, None])
        for narrow, level in zip(self.narrowings, self.levels[1:], strict=True):
            x = level(functional.interpolate(narrow(x), scale_factor=2, mode="bilinear", align_corners=False))
        return self.to_image(x)


class GanDiscriminator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Image and condition vector in, one score out, by projection (Miyato and Koyama 2018, "cGANs with projection").

    No layer looks at more than one image of the batch, so the gradient of the summed scores is each image's own.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        channels: list[int],
        blocks_per_level: int,
        expansion: int,
        group_size: int,
    ) -> None:
        super().__init__()
        blocks, deepest = len(channels) * blocks_per_level, channels[-1]
        self.from_image = _scaled_normal(nn.Conv2d(in_channels, channels[0], 1), 1.0)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, expansion, group_size, blocks) for _ in range(blocks_per_level)))
            for width in channels
        )
        self.widenings = nn.ModuleList(_change_width(a, b) for a, b in itertools.pairwise(channels))
        start = sample_size >> (len(channels) - 1)
        self.gather = _scaled_normal(nn.Conv2d(deepest, deepest, start, groups=deepest, bias=False), 1.0)
        self.score = _scaled_normal(nn.Linear(deepest, 1), 1.0)

    def forward(self, images: Tensor, vector: Tensor) -> Tensor:
        """Return scores (N,), high for real, of images (N, C, H, W) under conditions `vector` (N, channels[-1])."""
        x = self.levels[0](self.from_image(images))
        for widen, level in zip(self.widenings, self.levels[1:], strict=True):
            x = level(widen(functional.avg_pool2d(x, 2)))  # at half the size, bilinear resampling is this mean
        features = self.gather(x).flatten(1)
        projection = (features * vector).sum(dim=1) / features.shape[1] ** 0.5
        return self.score(features)[:, 0] + projection


def build_generator(options: Mapping[str, object], size: int, channels: int, condition_dimension: int) -> GanNetwork:
    """Return a generator of (N, channels, size, size) with fresh weights.

    options (all optional): channels (widths, finest level first), blocks_per_level, expansion, group_size (channels
    that a grouped convolution mixes), latent_dim. Raises SynthGainError for an unknown option, a size that has no
    coarsest level of 4 to 15 px, or widths that do not fit it.
    """
    chosen = checked(Gan, options, "network")
    return GanNetwork(
        size,
        channels,
        **asdict(chosen.layout(size)),
        latent_dim=chosen.latent_dim or LATENT_DIMENSION,
        condition_dimension=condition_dimension,
    )


def build_discriminator(options: Mapping[str, object], size: int, channels: int) -> GanDiscriminator:
    """Return the discriminator of the same options; its condition vector is as long as its widest level."""
    return GanDiscriminator(size, channels, **asdict(checked(Gan, options, "network").layout(size)))


def _change_width(before: int, after: int) -> nn.Module:
    if before == after:
        return nn.Identity()
    return _scaled_normal(nn.Conv2d(before, after, 1, bias=False), 1.0)


def _scaled_normal(layer: Layer, gain: float) -> Layer:
    """Draw a layer's weights with standard deviation gain / √(numbers that enter an output), its bias zero."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
