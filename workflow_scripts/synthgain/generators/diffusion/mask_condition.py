"""A mask as condition: as further input channels of the network, or through a control network next to it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synthgain.device import memory_format
from synthgain.networks.unet import evaluate
from synthgain.runtime.errors import SynthGainError

CONCATENATION, CONTROLNET = "concatenation", "controlnet"
METHODS = (CONCATENATION, CONTROLNET)
UNKNOWN = 0.0  # every pixel of a mask that is not given, or dropped for guidance: between outside (-1) and inside (1)


def checked_method(entry: Mapping[str, Any]) -> str | None:
    """Return a slice's `mask_by`; SynthGainError for an unknown one, or a control network with nothing to steer."""
    method, place = entry.get("mask_by"), f"generators.{entry['generator']}"
    if method is not None and method not in METHODS:
        raise SynthGainError(f"{place}.mask_by {method!r}: known are {', '.join(METHODS)}")
    if method == CONTROLNET and not entry.get("init_from"):
        raise SynthGainError(f"{place}.init_from: missing; mask_by: controlnet steers a trained generator, name it")
    return str(method) if method else None


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
    network: Any, control: Any, images: Tensor, time: Tensor, vector: Tensor, masks: Tensor | None
) -> Tensor:
    """Return the network's output (N,C,H,W) for time (N,), vector (N,D) and masks (N,K,H,W) in {-1, UNKNOWN, 1}.

    control: the control network that takes the masks, or None: they are concatenated to the images (N,C,H,W).
    """
    if masks is None:
        return evaluate(network, images, time, vector)
    if control is None:
        joined = torch.cat([images, masks.to(images.dtype)], dim=1)
        return evaluate(network, joined.contiguous(memory_format=memory_format(images.device)), time, vector)
    from synthgain.networks.unet_condition import evaluate_controlled  # loads diffusers' ControlNet: only where used

    return evaluate_controlled(network, control, images, time, vector, masks.to(images.dtype))
