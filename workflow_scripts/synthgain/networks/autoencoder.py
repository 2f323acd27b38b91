"""Autoencoders of latent diffusion: diffusers' AutoencoderKL without attention, and the latents that it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from synthgain.data.pixels import to_batch, to_uint8
from synthgain.runtime.errors import SynthGainError

# {downsampling: widths}: at factor 4 what two CPU cores can train, at 8 what 256 px need.
WIDTHS = {2: (32, 64), 4: (32, 64, 128), 8: (64, 128, 128, 128)}
GROUPS = 8
BATCH = 32  # images that are encoded or decoded at once: fixed, so that the bits do not depend on who asks
TILE = 512  # px: larger images are decoded in overlapping tiles of this size


def build(
    downsampling: int, latent_channels: int, channels: int, size: int, widths: Sequence[int] | None, layers: int | None
) -> AutoencoderKL:
    """Return an autoencoder with fresh weights for images (N, channels, size, size).

    Raises SynthGainError where the widths do not fit the downsampling, or the downsampling the size.
    """
    chosen = tuple(widths or WIDTHS[downsampling])
    if 2 ** (len(chosen) - 1) != downsampling:
        raise SynthGainError(
            f"network.block_out_channels {list(chosen)}: {len(chosen)} levels downsample by {2 ** (len(chosen) - 1)}, "
            f"downsampling is {downsampling}"
        )
    groups = min(GROUPS, *chosen)
    if any(width % groups for width in chosen):
        raise SynthGainError(f"network.block_out_channels {list(chosen)}: each must be a multiple of {groups}")
    if size % downsampling:
        raise SynthGainError(f"image.size {size}: downsampling {downsampling} needs a multiple of it")
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(chosen),
        up_block_types=("UpDecoderBlock2D",) * len(chosen),
        block_out_channels=chosen,
        layers_per_block=layers or 1,
        latent_channels=latent_channels,
        norm_num_groups=groups,
        sample_size=size,
        scaling_factor=1.0,  # latents_mean and latents_std scale each channel on its own
        mid_block_add_attention=False,
    )


def downsampling_of(network: AutoencoderKL) -> int:
    """Return the side of an image over that of its latent."""
    return int(2 ** (len(network.config["block_out_channels"]) - 1))


@dataclass(frozen=True)
class LatentSpace:
    """An autoencoder with the scale of its latents, per channel: what a diffusion model in latents sees and gives.

    mean, sd: (1, Z, 1, 1) float32 of the training images' latents.
    """

    network: AutoencoderKL
    mean: Tensor
    sd: Tensor

    @property
    def channels(self) -> int:
        """Channels of the images, masks included."""
        return int(self.network.config["in_channels"])

    @property
    def downsampling(self) -> int:
        """Side of an image over that of its latent."""
        return downsampling_of(self.network)

    def shape(self, size: int) -> tuple[int, int, int]:
        """Return (Z, h, w) of the latent of an image of `size` px."""
        side = size // self.downsampling
        return (int(self.network.config["latent_channels"]), side, side)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (N,Z,h,w) of the standardised latents of images (N,C,H,W) in [-1, 1]."""
        parts = [raw_posterior(self.network, part) for part in images.split(BATCH)]
        means, deviations = (torch.cat(side) for side in zip(*parts, strict=True))
        return (means - self.mean) / self.sd, deviations / self.sd

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return images (N,C,H,W) float32 of standardised latents (N,Z,h,w); [-1, 1] is passed a little."""
        return self.decode_raw(latents.float() * self.sd + self.mean)

    @torch.no_grad()
    def decode_raw(self, latents: Tensor) -> Tensor:
        """Return images (N,C,H,W) float32 of latents (N,Z,h,w) float32 as the network gives them, in tiles if large."""
        if latents.shape[-1] * self.downsampling > TILE:
            self.network.tile_sample_min_size, self.network.tile_latent_min_size = TILE, TILE // self.downsampling
            self.network.enable_tiling()
        try:
            with torch.autocast(latents.device.type, enabled=False):  # half precision overflows in some autoencoders
                return torch.cat([self.network.decode(part).sample for part in latents.split(BATCH)])
        finally:
            self.network.disable_tiling()  # images are encoded whole

    def reconstruct(self, pixels: np.ndarray) -> np.ndarray:
        """Return images (N,H,W,C) uint8 as they come back from their latent's mean, (N,H,W,C) uint8."""
        found = np.empty(pixels.shape, dtype=np.uint8)
        for start in range(0, len(pixels), BATCH):
            batch = to_batch(torch.from_numpy(np.array(pixels[start : start + BATCH]))).to(self.mean.device)
            found[start : start + BATCH] = to_uint8(self.decode(self.posterior(batch)[0]))
        return found


def raw_posterior(network: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (N,Z,h,w) of the latents as the network gives them."""
    found = network.encode(images).latent_dist
    return found.mean, found.std


def load_latents(folder: Path, device: torch.device | str = "cpu") -> LatentSpace:
    """Open the autoencoder in `folder` for inference; SynthGainError where it holds no scale of its latents."""
    network = AutoencoderKL.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    network.to(device).eval().requires_grad_(False)
    scale = network.config["latents_mean"], network.config["latents_std"]
    if None in scale:
        raise SynthGainError(f"{folder}/config.json: latents_mean and latents_std are missing")
    mean, sd = (torch.tensor(values, device=device).reshape(1, -1, 1, 1) for values in scale)
    return LatentSpace(network, mean, sd)
