"""Pixel-space U-Net of the diffusion family: diffusers' UNet2DModel with sizes that fit a study's budget."""

from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor
from torch.nn import functional

from synthgain.errors import SynthGainError

# {largest image size in px: channels per level, resnet layers per level}. Chosen by measurement on two CPU cores
# (docs/performance.md): most of the cost is in the two upper levels, most of the parameters in the lower ones.
DEFAULT_SIZES: dict[int, tuple[tuple[int, ...], int]] = {
    32: ((16, 32, 64, 64), 1),
    64: ((16, 32, 64, 96), 1),
    128: ((32, 64, 128, 192, 192), 2),
    256: ((64, 64, 128, 256, 256), 2),
}
ATTENTION_RESOLUTION = 8  # px; attention costs resolution⁴, and the middle block always attends
HEAD_CHANNELS = 32
_OPTIONS = (
    "patch_size",
    "block_out_channels",
    "layers_per_block",
    "attention_resolutions",
    "head_channels",
    "dropout",
    "norm_groups",
)


def build(options: dict[str, Any], image_size: int, channels: int) -> UNet2DModel:
    """Return a UNet2DModel for (N, channels, image_size, image_size) whose `class_labels` is a vector.

    options (all optional): patch_size (1; with 2 the network sees 2 × 2 pixels as four channels at half the
    size, which costs far less: call it through `evaluate`), block_out_channels, layers_per_block,
    attention_resolutions (list of px), head_channels, dropout, norm_groups. The condition vector has
    4 × block_out_channels[0] numbers.
    Raises SynthGainError for an unknown option or a size that the levels do not divide.
    """
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise SynthGainError(f"network options: unknown key {unknown[0]!r}; known: {', '.join(_OPTIONS)}")
    default_channels, default_layers = _default_sizes(image_size)
    widths = tuple(int(width) for width in options.get("block_out_channels") or default_channels)
    patch = int(options.get("patch_size") or 1)
    divisor = patch * 2 ** (len(widths) - 1)
    if image_size % divisor:
        raise SynthGainError(f"image.size {image_size}: {len(widths)} U-Net levels need a multiple of {divisor}")
    inner_size = image_size // patch
    groups = int(options.get("norm_groups") or min(8, min(widths)))
    if any(width % groups for width in widths):
        raise SynthGainError(f"network block_out_channels {list(widths)}: each must be a multiple of {groups}")
    attended = options.get("attention_resolutions")
    attends = [inner_size >> level in (attended if attended is not None else [ATTENTION_RESOLUTION])
               for level in range(len(widths))]  # fmt: skip
    return UNet2DModel(
        sample_size=inner_size,
        in_channels=channels * patch**2,
        out_channels=channels * patch**2,
        block_out_channels=widths,
        layers_per_block=int(options.get("layers_per_block") or default_layers),
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        attention_head_dim=min(int(options.get("head_channels") or HEAD_CHANNELS), *widths),
        norm_num_groups=groups,
        dropout=float(options.get("dropout") or 0.0),
        class_embed_type="identity",
    )


def evaluate(network: Any, images: Tensor, time: Tensor, vector: Tensor) -> Tensor:
    """Return the network's output (N,C,H,W) for time (N,) and vector (N,D), through its patches if any."""
    patch = images.shape[-1] // network.config.sample_size
    if patch == 1:
        output: Tensor = network(images, time, class_labels=vector).sample
        return output
    inner = functional.pixel_unshuffle(images, patch).contiguous(memory_format=torch.channels_last)
    return functional.pixel_shuffle(network(inner, time, class_labels=vector).sample, patch)


def condition_dimension(network: Any) -> int:
    """Length of the vector that `class_labels` takes: that of the network's time embedding."""
    return int(network.time_embedding.linear_2.out_features)


def prepare_memory_format(network: torch.nn.Module) -> torch.nn.Module:
    """Lay weights out channels-last: what oneDNN and cuDNN convolve fastest."""
    return network.to(memory_format=torch.channels_last)


def _default_sizes(image_size: int) -> tuple[tuple[int, ...], int]:
    for largest, sizes in DEFAULT_SIZES.items():
        if image_size <= largest:
            return sizes
    return DEFAULT_SIZES[max(DEFAULT_SIZES)]
