"""What is measured of an autoencoder on held-out patients: what of an image is lost, and whether its latents live."""

import torch
from monai.metrics.regression import SSIMMetric
from torch import Tensor

from synthgain.data.pixels import to_signed
from synthgain.generators.autoencoders.options import Measured
from synthgain.networks.autoencoder import BATCH, LatentSpace, raw_posterior

LEVELS = 255.0
HALF_NYQUIST = 0.25  # cycles per pixel
SSIM_WINDOW = 11  # px (Wang et al. 2004); less for smaller images
MOST = 2000  # images measured
# Ways in which training images may have been turned by mistake, as axes of (N, C, H, W).
FLIPS = {"mirrored": (3,), "upside down": (2,), "turned by 180°": (2, 3)}


def measure(space: LatentSpace, images: Tensor) -> Measured:
    """Measure on images (N, C, H, W) uint8 of patients whom the autoencoder did not see.

    Latents go the way that a generator's go: standardised, scaled back, decoded.
    """
    images = images[:MOST]
    parts = [_one_batch(space, part) for part in images.split(BATCH)]
    decoded, unscaled, mean, sd = (torch.cat(side) for side in zip(*parts, strict=True))
    real, levels = images.float(), _levels(decoded)
    own = image_psnr(real, levels)
    between, within = mean.var(dim=(0, 2, 3)), sd.square().mean(dim=(0, 2, 3))
    return Measured(
        images=len(images),
        psnr=float(own.mean()),
        ssim=ssim(real, levels),
        power=high_frequency_power(real, levels),
        signal=_numbers(between / (between + within)),
        mean=_numbers(mean.mean(dim=(0, 2, 3))),
        sd=_numbers((between + within).sqrt()),
        scaling=float((decoded - unscaled).abs().mean()) * LEVELS / 2,
        clipped=float((decoded.abs() > 1 + 1 / LEVELS).float().mean()),
        flips={name: _gain(space, images.flip(axes), own) for name, axes in FLIPS.items()},
    )


def image_psnr(real: Tensor, found: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB (N,) of images (N,C,H,W) in grey levels."""
    error = (real - found).square().flatten(1).mean(1).clamp_min(1e-12)
    return 10 * torch.log10(LEVELS**2 / error)


def _gain(space: LatentSpace, flipped: Tensor, own: Tensor) -> float:
    """Return by how many dB these flipped images (N,C,H,W) uint8 come back better than upright: `own`, (N,).

    Less two standard errors: what was seen upright in training comes back better so. An autoencoder that was trained on
    flipped images is found by what it does best.
    """
    parts = [
        space.decode(space.posterior(to_signed(part).to(space.mean.device))[0]).cpu() for part in flipped.split(BATCH)
    ]
    gain = image_psnr(flipped.float(), _levels(torch.cat(parts))) - own
    return float(gain.mean() - 2 * gain.std(correction=0) / len(gain) ** 0.5)


def _levels(signed: Tensor) -> Tensor:
    """Return images in [-1, 1] as grey levels 0 … 255."""
    return (signed * (LEVELS / 2) + LEVELS / 2).round().clamp(0, LEVELS)


def ssim(real: Tensor, found: Tensor) -> float:
    """Structural similarity of images (N,C,H,W) in grey levels: the mean over images."""
    side = min(real.shape[-2:])
    window = min(SSIM_WINDOW, side if side % 2 else side - 1)
    values = SSIMMetric(spatial_dims=2, data_range=LEVELS, win_size=window)(found, real)
    assert isinstance(values, Tensor)
    return float(values.mean())


def high_frequency_power(real: Tensor, found: Tensor) -> float:
    """Power above half of the Nyquist frequency in `found` over that in `real`, images (N,C,H,W)."""
    rows, columns = (torch.fft.fftfreq(side) for side in real.shape[-2:])
    high = (rows[:, None].square() + columns.square()).sqrt() > HALF_NYQUIST
    powers = [torch.fft.fft2(images).abs().square()[..., high].sum(dtype=torch.float64) for images in (found, real)]
    return float(powers[0] / powers[1].clamp_min(1e-12))


@torch.no_grad()
def _one_batch(space: LatentSpace, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    signed = to_signed(images).to(space.mean.device)
    mean, sd = space.posterior(signed)
    unscaled = space.decode_raw(raw_posterior(space.network, signed)[0])
    return space.decode(mean).cpu(), unscaled.cpu(), mean.cpu(), sd.cpu()


def _numbers(values: Tensor) -> list[float]:
    return [float(value) for value in values]
