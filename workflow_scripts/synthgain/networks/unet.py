"""Pixel-space U-Net of the diffusion family: diffusers' UNet2DModel with sizes that fit a study's budget."""

from collections.abc import Mapping

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor
from torch.nn import functional

from synthgain.device import memory_format
from synthgain.entry import checked
from synthgain.networks.generator_options import UNet

ATTENTION_RESOLUTION = 8  # px; attention costs resolution⁴, and the middle block always attends
HEAD_CHANNELS = 32


def build(options: Mapping[str, object], image_size: int, channels: int, condition_channels: int = 0) -> UNet2DModel:
    """Return a UNet2DModel whose `class_labels` is a vector.

    It takes (N, channels + condition_channels, image_size, image_size) and gives (N, channels, …): the condition's
    planes (masks) are concatenated to the noisy image. options (all optional): patch_size (1; with 2 the network
    sees 2 × 2 pixels as four channels at half the size, which costs far less: call it through `evaluate`),
    block_out_channels, layers_per_block, attention_resolutions (list of px), head_channels, dropout, norm_groups.
    The condition vector has 4 × block_out_channels[0] numbers.
    Raises SynthGainError for an unknown option or a size that the levels do not divide.
    """
    chosen = checked(UNet, options, "network")
    sizes, attended = chosen.sizes(image_size), chosen.attention_resolutions
    attends = [sizes.inner_size >> level in (attended if attended is not None else [ATTENTION_RESOLUTION])
               for level in range(len(sizes.widths))]  # fmt: skip
    return UNet2DModel(
        sample_size=sizes.inner_size,
        in_channels=(channels + condition_channels) * sizes.patch**2,
        out_channels=channels * sizes.patch**2,
        block_out_channels=sizes.widths,
        layers_per_block=sizes.layers,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        attention_head_dim=min(chosen.head_channels or HEAD_CHANNELS, *sizes.widths),
        norm_num_groups=sizes.groups,
        dropout=sizes.dropout,
        class_embed_type="identity",
    )


def evaluate(network: ModelMixin, images: Tensor, time: Tensor, vector: Tensor, **extra: object) -> Tensor:
    """Return the network's output (N,C,H,W) for time (N,) and vector (N,D), through its patches if any.

    images: (N, C + condition channels, H, W); extra: further arguments of the network.
    """
    patch = patch_size(network, images)
    if "encoder_hid_dim" in network.config:
        extra.setdefault("encoder_hidden_states", None)  # a UNet2DConditionModel insists on being told of its text
    output: Tensor = network(to_patches(images, patch), time, class_labels=vector, **extra).sample
    return output if patch == 1 else functional.pixel_shuffle(output, patch)


def patch_size(network: ModelMixin, images: Tensor) -> int:
    """Return the side in px of the patches that the network sees as channels (1: none)."""
    return int(images.shape[-1] // network.config.sample_size)


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Return (N, C·patch², H/patch, W/patch) of (N,C,H,W)."""
    if patch == 1:
        return images
    return functional.pixel_unshuffle(images, patch).contiguous(memory_format=memory_format(images.device))


def condition_dimension(network: ModelMixin) -> int:
    """Length of the vector that `class_labels` takes: that of the network's time embedding."""
    return int(network.time_embedding.linear_2.out_features)


def prepare_memory_format(network: torch.nn.Module) -> torch.nn.Module:
    """Lay a network's weights out as is fastest where they are."""
    return network.to(memory_format=memory_format(next(network.parameters()).device))
