"""U-Net that a control network can steer: diffusers' UNet2DConditionModel without text, and its ControlNetModel.

Zhang et al. 2023, "Adding conditional control to text-to-image diffusion models". diffusers' ControlNet fits this
class only, not UNet2DModel. Both are purely convolutional here: their attention blocks need text.
"""

from collections.abc import Mapping

from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from synthgain.entry import checked
from synthgain.networks.generator_options import UNetCondition
from synthgain.networks.unet import evaluate, patch_size, to_patches

CONTROL_CHANNELS = 16  # of the layer that embeds the mask; diffusers' first width. One width: no downsampling


def build(
    options: Mapping[str, object], image_size: int, channels: int, condition_channels: int = 0
) -> UNet2DConditionModel:
    """Return a UNet2DConditionModel whose `class_labels` is a vector; `encoder_hidden_states` is None.

    Shapes, options (without attention) and errors as those of `synthgain.networks.unet.build`.
    """
    sizes = checked(UNetCondition, options, "network").sizes(image_size)
    return UNet2DConditionModel(
        sample_size=sizes.inner_size,
        in_channels=(channels + condition_channels) * sizes.patch**2,
        out_channels=channels * sizes.patch**2,
        block_out_channels=sizes.widths,
        layers_per_block=sizes.layers,
        down_block_types=("DownBlock2D",) * len(sizes.widths),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D",) * len(sizes.widths),
        norm_num_groups=sizes.groups,
        dropout=sizes.dropout,
        class_embed_type="identity",
    )


def build_control(
    network: ModelMixin, sample_size: int, condition_channels: int, mask_size: int | None = None
) -> ControlNetModel:
    """Return a control network for masks of `condition_channels` planes: a copy of a UNet2DConditionModel's encoder.

    sample_size: side of what the network denoises; mask_size: of the masks, which is larger where that is a latent;
    the layers that embed them have strides then. Its outputs start at zero, so that at first it changes nothing.
    """
    patch = sample_size // int(network.config.sample_size)
    halvings = ((mask_size or sample_size) // sample_size).bit_length() - 1
    return ControlNetModel.from_unet(
        network,
        conditioning_embedding_out_channels=tuple(CONTROL_CHANNELS << level for level in range(halvings + 1)),
        conditioning_channels=condition_channels * patch**2,
    )


def evaluate_controlled(
    network: ModelMixin,
    control: ModelMixin,
    images: Tensor,
    time: Tensor,
    vector: Tensor,
    masks: Tensor,
    **text: Tensor,
) -> Tensor:
    """Return the output (N,C,H,W) of the network, steered by what the control network makes of `masks` (N,K,H,W).

    text: `encoder_hidden_states` and their `encoder_attention_mask`, where the network attends to a text. diffusers'
    control network takes no such mask: empty places are zeros to it.
    """
    patch = patch_size(network, images)
    down, middle = control(
        to_patches(images, patch),
        time,
        encoder_hidden_states=text.get("encoder_hidden_states"),
        controlnet_cond=to_patches(masks, patch),
        class_labels=vector,
        return_dict=False,
    )
    return evaluate(
        network,
        images,
        time,
        vector,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        **text,
    )
