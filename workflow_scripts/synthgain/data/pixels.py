"""The one scaling of pixels: grey levels 0 … 255 on disk, -1 … 1 in every network."""

import numpy as np
import torch
from torch import Tensor

MID_GREY = 127.5
GPU_MEMORY_SHARE = 0.5  # of the free GPU memory that the images of a job may take


def to_signed(levels: Tensor) -> Tensor:
    """Return grey levels 0 … 255 in [-1, 1]: uint8 as float32, floats in their own type; shape and layout stay."""
    if levels.is_floating_point():
        return levels / MID_GREY - 1.0
    return levels.to(torch.float32).div_(MID_GREY).sub_(1.0)


def to_batch(images: Tensor) -> Tensor:
    """Return images (B, H, W, C) uint8 as networks take them: (B, C, H, W) float32 in [-1, 1]."""
    return to_signed(images.permute(0, 3, 1, 2))


def mask_batch(masks: np.ndarray) -> Tensor:
    """Return masks (B, H, W, K) uint8 in {0, 1} as networks take them: (B, K, H, W) float32 in {-1, 1}, contiguous."""
    return torch.from_numpy(np.ascontiguousarray(masks.transpose(0, 3, 1, 2), dtype=np.float32) * 2 - 1)


def to_uint8(images: Tensor) -> np.ndarray:
    """Return images (N, C, H, W) in [-1, 1] as (N, H, W, C) uint8, rounded to nearest and clipped."""
    levels = (images.float() * MID_GREY + MID_GREY).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def fits(device: torch.device, bytes_needed: int) -> bool:
    """Return whether images of this size may be kept on the device; host memory takes any."""
    return device.type != "cuda" or bytes_needed <= GPU_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
