"""Options of the generators' networks, and the sizes that follow from them. No torch here."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from synthgain.networks.options import Count, Counts, Dropout, Network
from synthgain.runtime.errors import SynthGainError

# {largest image size in px: channels per level, resnet layers per level}. Chosen by measurement on two CPU cores
# (docs/performance.md): most of the cost is in the two upper levels, most of the parameters in the lower ones.
UNET_SIZES: dict[int, tuple[list[int], int]] = {
    32: ([16, 32, 64, 64], 1),
    64: ([16, 32, 64, 96], 1),
    128: ([32, 64, 128, 192, 192], 2),
    256: ([64, 64, 128, 256, 256], 2),
}
# {largest image size in px: channels of the finest level, most channels of a level, residual blocks per level}; up to
# 64 px what two CPU cores can train, as the U-Net's defaults. Widths double from level to level.
GAN_SIZES: dict[int, tuple[int, int, int]] = {
    32: (16, 96, 1),
    64: (16, 128, 1),
    128: (32, 256, 2),
    256: (32, 384, 2),
}
LEAST_START, LARGEST_START = 4, 15  # px, side of a GAN's coarsest level


@dataclass(frozen=True)
class Sizes:
    """What any U-Net of the family is built with: `inner_size` px is what it sees of an image cut into patches."""

    patch: int
    inner_size: int
    widths: tuple[int, ...]
    layers: int
    groups: int
    dropout: float


class DiffusionNetwork(Network):
    """What the U-Nets of pixel diffusion share; null: the default for the image's size."""

    patch_size: Count | None = Field(None, description="2: 2 × 2 pixels are seen as channels at half the size; cheap.")
    block_out_channels: Counts | None = Field(None, description="Widths, finest level first; default: by image size.")
    layers_per_block: Count | None = Field(None, description="Residual layers per level; default: by image size.")
    dropout: Dropout | None = Field(None, description="Dropout; default: none.")
    norm_groups: Count | None = Field(None, description="Groups of the normalisation; default: 8, or fewer.")

    def sizes(self, image_size: int) -> Sizes:
        """Return the sizes asked for, with defaults by image size; SynthGainError where they do not fit it."""
        default = next((sizes for largest, sizes in UNET_SIZES.items() if image_size <= largest), UNET_SIZES[256])
        widths, patch = tuple(self.block_out_channels or default[0]), self.patch_size or 1
        divisor = patch * 2 ** (len(widths) - 1)
        if image_size % divisor:
            raise SynthGainError(f"image.size {image_size}: {len(widths)} U-Net levels need a multiple of {divisor}")
        groups = self.norm_groups or min(8, min(widths))
        if any(width % groups for width in widths):
            raise SynthGainError(f"network block_out_channels {list(widths)}: each must be a multiple of {groups}")
        layers = self.layers_per_block or default[1]
        return Sizes(patch, image_size // patch, widths, layers, groups, float(self.dropout or 0.0))

    def check_size(self, size: int) -> None:
        self.sizes(size)


class UNet(DiffusionNetwork):
    """U-Net of pixel diffusion (diffusers' UNet2DModel)."""

    module = "unet"
    name: Literal["unet"] = "unet"
    attention_resolutions: list[Count] | None = Field(
        None, description="Sides in px of the levels that attend; default: 8. The middle always does."
    )
    head_channels: Count | None = Field(None, description="Channels of an attention head; default: 32.")


class UNetCondition(DiffusionNetwork):
    """U-Net that a ControlNet can steer (diffusers' UNet2DConditionModel without text)."""

    module = "unet_condition"
    name: Literal["unet_condition"] = "unet_condition"


@dataclass(frozen=True)
class Layout:
    """What both networks of a GAN are built with."""

    channels: list[int]
    blocks_per_level: int
    expansion: int
    group_size: int


class Gan(Network):
    """Generator and discriminator of a GAN; null: the default for the image's size."""

    module = "gan"
    name: Literal["gan"] = "gan"
    channels: Counts | None = Field(None, description="Widths, finest level first, down to 4 to 15 px.")
    blocks_per_level: Count | None = Field(None, description="Residual blocks per level.")
    expansion: Count | None = Field(None, description="Width inside a block over its width outside; default: 2.")
    group_size: Count | None = Field(None, description="Channels that a grouped convolution mixes; default: 16.")
    latent_dim: Count | None = Field(None, description="Numbers that an image is drawn from; default: 64.")

    def layout(self, size: int) -> Layout:
        """Return what is asked for, with defaults by image size; SynthGainError where it does not fit it."""
        levels = levels_of(size)
        finest, most, blocks = next((s for largest, s in GAN_SIZES.items() if size <= largest), GAN_SIZES[256])
        widths = self.channels or [min(finest << level, most) for level in range(levels)]
        if len(widths) != levels:
            raise SynthGainError(
                f"network channels {widths}: an image of {size} px needs {levels} widths, finest first"
            )
        expansion, group_size = self.expansion or 2, self.group_size or 16
        if any(width * expansion % min(group_size, width * expansion) for width in widths):
            raise SynthGainError(
                f"network channels {widths}: each, times {expansion}, must be a multiple of {group_size}"
            )
        return Layout(widths, self.blocks_per_level or blocks, expansion, group_size)

    def check_size(self, size: int) -> None:
        self.layout(size)


def levels_of(size: int) -> int:
    """Number of a GAN's resolutions from `size` down to the coarsest. Raises SynthGainError where there is none."""
    level = 0
    while size % 2 == 0 and size // 2 >= LEAST_START:
        size, level = size // 2, level + 1
    if not LEAST_START <= size <= LARGEST_START:
        raise SynthGainError(
            f"image.size {size << level}: a gan needs {LEAST_START} to {LARGEST_START} px times a power of two, "
            "such as 32, 48, 64, 96, 128, 224 or 256"
        )
    return level + 1
