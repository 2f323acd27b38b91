"""A mask as condition: as further input channels of the network, or through a control network next to it."""

from collections.abc import Sequence

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn import functional

from synthgain.device import memory_format
from synthgain.generators.prompting import Text
from synthgain.networks.unet import evaluate
from synthgain.runtime.errors import SynthGainError

CONCATENATION, CONTROLNET = "concatenation", "controlnet"
UNKNOWN = 0.0  # every pixel of a mask that is not given, or dropped for guidance: between outside (-1) and inside (1)


def checked_masks(masks: Tensor, count: int, structures: Sequence[str], size: int) -> Tensor:
    """Return condition masks (count, K, size, size) as float32, planes in the order of `structures`.

    Raises SynthGainError for another shape, or for values other than -1 (outside) and 1 (inside).
    """
    wanted = (count, len(structures), size, size)
    if tuple(masks.shape) != wanted:
        raise SynthGainError(
            f"condition masks are {tuple(masks.shape)}; the generator takes {wanted}, "
            f"one plane for each of {', '.join(structures)}"
        )
    if not (masks.abs() == 1).all():
        raise SynthGainError(
            f"condition masks hold {float(masks.min()):g} to {float(masks.max()):g}; give -1 outside and 1 inside"
        )
    return masks.to(torch.float32)


def evaluate_conditioned(
    network: ModelMixin,
    control: ModelMixin | None,
    images: Tensor,
    time: Tensor,
    vector: Tensor,
    masks: Tensor | None,
    text: Text | None = None,
) -> Tensor:
    """Return the network's output (N,C,H,W) for time (N,), vector (N,D) and masks (N,K,H,W) in {-1, UNKNOWN, 1}.

    Where the images are latents, masks are larger: areas are averaged, or the control network's layers reduce them.

    control: the control network that takes the masks, or None: they are concatenated to the images (N,C,H,W).
    text: what the network attends to, None for one that attends to nothing.
    """
    told = {} if text is None else {"encoder_hidden_states": text.tokens, "encoder_attention_mask": text.mask}
    if masks is None:
        return evaluate(network, images, time, vector, **told)
    if control is None:
        joined = torch.cat([images, _of_size(masks, images).to(images.dtype)], dim=1)
        return evaluate(network, joined.contiguous(memory_format=memory_format(images.device)), time, vector, **told)
    from synthgain.networks.unet_condition import evaluate_controlled  # loads diffusers' ControlNet: only where used

    return evaluate_controlled(network, control, images, time, vector, masks.to(images.dtype), **told)


def _of_size(masks: Tensor, images: Tensor) -> Tensor:
    """Return masks at the size of what they are concatenated to, the area of each pixel there averaged."""
    factor = masks.shape[-1] // images.shape[-1]
    return masks if factor == 1 else functional.avg_pool2d(masks, factor)
