"""U-Net that attends to text: diffusers' UNet2DConditionModel with cross-attention, whose class label is a vector."""

from typing import Any

from diffusers import UNet2DConditionModel

from synthgain.entry import checked
from synthgain.networks.text_options import TEXT_WIDTH, UNetText

ATTENTION_RESOLUTIONS = (8, 16)  # px; cross-attention is cheap beside self-attention, but both come in one block
HEADS = 4


def build(options: dict[str, Any], image_size: int, channels: int, condition_channels: int = 0) -> UNet2DConditionModel:
    """Return a UNet2DConditionModel that takes a vector as `class_labels` and tokens (N, T, TEXT_WIDTH).

    Shapes and errors as those of `synthgain.networks.unet.build`.
    """
    chosen = checked(UNetText, options, "network")
    sizes = chosen.sizes(image_size)
    attended = chosen.attention_resolutions or ATTENTION_RESOLUTIONS
    attends = [sizes.inner_size >> level in attended for level in range(len(sizes.widths))]
    heads = tuple(_heads(width, chosen.heads or HEADS) for width in sizes.widths)
    return UNet2DConditionModel(
        sample_size=sizes.inner_size,
        in_channels=(channels + condition_channels) * sizes.patch**2,
        out_channels=channels * sizes.patch**2,
        block_out_channels=sizes.widths,
        layers_per_block=sizes.layers,
        down_block_types=tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        attention_head_dim=heads,  # diffusers' name for the number of heads (huggingface/diffusers#2011)
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=sizes.groups,
        dropout=sizes.dropout,
        class_embed_type="identity",
    )


def _heads(width: int, wanted: int) -> int:
    return next(heads for heads in range(min(wanted, width), 0, -1) if width % heads == 0)
