"""Brings drawn images nearer to the look of their parent: partial noising, and denoising guided by frozen features.

After SDEdit (Meng et al. 2022, arXiv 2108.01073) and the styling of Saragih et al. 2024; what guides are the means and
standard deviations of feature maps (Huang and Belongie 2017, arXiv 1703.06868). Masks are never touched.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from synthgain.data.pixels import to_batch
from synthgain.networks.efficientnet_lite import EfficientNetLite0, load_network, normalise
from synthgain.networks.extractors import resize_bilinear
from synthgain.pools.options import PlannedStyling
from synthgain.pools.passes import styling_start
from synthgain.pools.sampling import Denoise

TAPS = (2, 4, 10)  # blocks of the extractor after which maps are compared: fine, middle and coarse texture
Statistics = list[Tensor]  # per tap (N, 2 c): means, then standard deviations, of c maps


class Styler:
    """The frozen extractor and how strongly it guides; `weights_sha256` names it."""

    def __init__(self, options: PlannedStyling, device: torch.device) -> None:
        network, self.weights_sha256 = load_network(None)
        self.network: EfficientNetLite0 = network.to(device).requires_grad_(False)
        self.options = options

    def statistics(self, images: Tensor) -> Statistics:
        """Return feature statistics of images (N, C, H, W) in [-1, 1]."""
        x = normalise(resize_bilinear((images + 1) * 127.5, self.options.size))
        x = torch.nn.functional.relu6(self.network._bn0(self.network._conv_stem(x)))
        found = []
        for place, block in enumerate(self.network._blocks):
            x = block(x)
            if place in TAPS:
                found.append(torch.cat([x.mean((2, 3)), x.std((2, 3))], dim=1))
            if place == TAPS[-1]:
                break
        return found

    def distance(self, images: Tensor, target: Statistics) -> Tensor:
        """Return (N,) how far the statistics of images are from `target`: mean squared difference over its own size."""
        pairs = zip(self.statistics(images), target, strict=True)
        parts = [((own - wanted) ** 2).mean(1) / (wanted**2).mean(1).clamp(min=1e-8) for own, wanted in pairs]
        return torch.stack(parts).mean(0)

    def distances(self, images: np.ndarray, parents: np.ndarray, batch_size: int) -> np.ndarray:
        """Return (N,) float64 `distance` of images (N, H, W, C) uint8 to their parents, batch by batch."""
        found = [np.zeros(0)]
        device = next(self.network.parameters()).device
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            own, wanted = (to_batch(torch.from_numpy(side[part])).to(device) for side in (images, parents))
            with torch.no_grad():
                found.append(self.distance(own, self.statistics(wanted)).double().cpu().numpy())
        return np.concatenate(found)

    def towards(self, images: Tensor, target: Statistics) -> Tensor:
        """Return images (N, C, H, W) after one step of length `weight` per pixel (root mean square) down `distance`."""
        with torch.inference_mode(False), torch.enable_grad():
            moved = images.detach().clone().requires_grad_(True)
            wanted = [part.detach().clone() for part in target]
            (slope,) = torch.autograd.grad(self.distance(moved, wanted).sum(), moved)
        size = slope.flatten(1).square().mean(1).sqrt().clamp(min=1e-12).view(-1, 1, 1, 1)
        return (images - self.options.weight * slope / size).clamp(-1, 1)


def style(
    styler: Styler, denoise: Denoise, drawn: Tensor, parents: Tensor, sigmas: list[float], noise: Callable[[], Tensor]
) -> Tensor:
    """Return drawn images with their mask planes, (N, C + K, H, W) in [-1, 1], nearer to the look of `parents`.

    parents: (N, C, H, W); sigmas: all falling noise levels, the last 0, of which the last `strength` are gone through;
    noise: fresh standard normal values of drawn's shape. The mask planes keep their values at every level.
    """
    channels, options = parents.shape[1], styler.options
    start = styling_start(options.strength, len(sigmas) - 1)
    fresh, target = noise(), styler.statistics(parents)
    x = drawn + sigmas[start] * fresh
    for now, after in zip(sigmas[start:-1], sigmas[start + 1 :], strict=True):
        clean = denoise(x, now)
        images = clean[:, :channels].clamp(-1, 1)
        if options.weight > 0:
            images = styler.towards(images, target)
        clean = torch.cat([images, drawn[:, channels:]], dim=1)
        x = torch.lerp(clean, x, after / now)
    return torch.cat([x[:, :channels], drawn[:, channels:]], dim=1)


def colour_matched(images: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, C) uint8 whose channels have the mean and standard deviation of their parent's."""
    own, wanted = images.astype(np.float64), parents.astype(np.float64)
    pixels = (1, 2)
    spread = own.std(axis=pixels, keepdims=True)
    scale = np.where(spread > 0, wanted.std(axis=pixels, keepdims=True) / np.maximum(spread, 1e-9), 1.0)
    moved = (own - own.mean(axis=pixels, keepdims=True)) * scale + wanted.mean(axis=pixels, keepdims=True)
    return np.rint(moved).clip(0, 255).astype(np.uint8)


def joined(images: np.ndarray, masks: np.ndarray) -> Tensor:
    """Return images (N, H, W, C) and masks (N, H, W, K) in {0, 1} as a generator sees them: (N, C + K, H, W)."""
    return to_batch(torch.from_numpy(np.concatenate([images, masks * np.uint8(255)], axis=-1))).contiguous()
