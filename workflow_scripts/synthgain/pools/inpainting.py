"""Redraws one region of a real image and keeps its surroundings: RePaint with a joint image and mask generator.

Lugmayr et al. 2022 (arXiv 2201.09865), Algorithm 1, written in noise levels sigma (x = x0 + sigma · noise): at
every level the surroundings are the real ones with fresh noise of that level, the region is a sample of the reverse
step, and jumps back to a higher level let the two agree with each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from synthgain.data.pixels import to_batch
from synthgain.pools.sampling import Denoise

EDGE_PIXELS = 3  # width of the blend from the real image into the region


@dataclass(frozen=True)
class Parents:
    """Real images of which a region is redrawn.

    images: (N, H, W, C) uint8; masks: (N, H, W, K) uint8 in {0, 1}; known: (N, K) bool, which of these masks the
    data has; region: (N, H, W) bool, what is redrawn; redraw_mask: the known masks too, inside the region.
    """

    images: np.ndarray
    masks: np.ndarray
    known: np.ndarray
    region: np.ndarray
    redraw_mask: bool = False

    def take(self, positions: np.ndarray) -> "Parents":
        """Return these rows."""
        images, masks, known, region = (part[positions] for part in (self.images, self.masks, self.known, self.region))
        return Parents(images, masks, known, region, self.redraw_mask)

    def values(self) -> Tensor:
        """Return images and mask planes as the generator sees them: (N, C+K, H, W) float32 in [-1, 1]."""
        joined = np.concatenate([self.images, self.masks * np.uint8(255)], axis=-1)
        return to_batch(torch.from_numpy(joined)).contiguous()

    def kept(self) -> np.ndarray:
        """Return what stays as it is: (N, C+K, H, W) bool. A mask that the data lacks is drawn everywhere.

        A mask that stays in the region too is what the generator paints the object for. Redrawn next to an image
        that is noise there, it tends to vanish: most of an image is free of any object.
        """
        outside = ~self.region[:, None]
        images = np.repeat(outside, self.images.shape[3], axis=1)
        masks = outside if self.redraw_mask else np.ones_like(outside)
        return np.concatenate([images, masks & self.known[:, :, None, None]], axis=1)


def region_of(mask: np.ndarray, dilate: float) -> np.ndarray:
    """Return the pixels (H, W) bool within `dilate` (share of the side) of a mask (H, W)."""
    if not mask.any():
        return np.zeros(mask.shape, dtype=bool)
    return np.asarray(ndimage.distance_transform_edt(mask == 0) <= dilate * mask.shape[0])


def levels(steps: int, resamples: int, jump_length: int) -> list[int]:
    """Return the noise levels (0: the highest, `steps`: none) in the order in which RePaint visits them.

    Blocks of `jump_length` steps, counted from the end, are gone through `resamples` times, each time after a jump
    back over the block; the first block, where nothing of the image is there yet, once (as in the authors' schedule).
    """
    edges = [0, *range(steps % jump_length or min(jump_length, steps), steps + 1, jump_length)]
    path = [0]
    for start, stop in pairwise(edges):
        for again in range(resamples if start > 0 else 1):
            path += ([start] if again else []) + list(range(start + 1, stop + 1))
    return path


def repaint(
    denoise: Denoise,
    real: Tensor,
    kept: Tensor,
    sigmas: Sequence[float],
    path: Sequence[int],
    noise: Callable[[], Tensor],
) -> Tensor:
    """Return samples (N, C, H, W) that equal `real` where `kept` (both (N, C, H, W)), redrawn elsewhere.

    sigmas: falling noise levels, the last 0; path: indices of them, as `levels` gives; noise: fresh standard normal
    values of the samples' shape. The step down is a draw of q(x_after | x_now, x0), the exact posterior of the
    noise process (as DDPM's); one field of noise serves both sides of the border, since no pixel is on both.
    """
    x = noise() * sigmas[path[0]]
    x = torch.where(kept, real + x, x)
    for now, after in pairwise(path):
        if after < now:  # back up: noise that brings the level from sigma_now to sigma_after
            x = x + (sigmas[after] ** 2 - sigmas[now] ** 2) ** 0.5 * noise()
            continue
        share = (sigmas[after] / sigmas[now]) ** 2
        fresh = noise()
        drawn = torch.lerp(denoise(x, sigmas[now]), x, share) + sigmas[after] * (1 - share) ** 0.5 * fresh
        x = torch.where(kept, real + sigmas[after] * fresh, drawn)
    return x


class NoiseStreams:
    """Standard normal noise, each sample from the stream of its own seed, so that no sample depends on another."""

    def __init__(self, seeds: np.ndarray, shape: tuple[int, ...], device: torch.device) -> None:
        self.streams = [np.random.Generator(np.random.PCG64(int(seed))) for seed in seeds]
        self.shape, self.device = shape, device

    def __call__(self) -> Tensor:
        """Return the next noise (N, *shape) float32."""
        drawn = np.stack([stream.standard_normal(self.shape, np.float32) for stream in self.streams])
        return torch.from_numpy(drawn).to(self.device)


def blend(drawn: np.ndarray, real: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, C) uint8: `drawn` inside the regions (N, H, W) bool, exactly `real` outside.

    The first EDGE_PIXELS inside a region pass from one to the other, so that no seam shows.
    """
    joined = real.copy()
    for row in range(len(joined)):
        depth = ndimage.distance_transform_edt(region[row]) if not region[row].all() else np.inf
        weight = np.clip(depth / (EDGE_PIXELS + 1), 0, 1) * region[row]
        mixed = real[row] + weight[..., None] * (drawn[row].astype(np.float64) - real[row])
        joined[row] = np.rint(mixed).astype(np.uint8)
    return joined
