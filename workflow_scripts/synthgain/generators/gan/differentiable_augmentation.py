"""Augmentation of what a discriminator sees, real and generated alike, that gradients pass through.

Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training": brightness, saturation, contrast,
translation, cutout. Each is applied to an image with a probability, as Karras et al. 2020 ("Training GANs with limited
data") do: below about 0.8 the generator learns the plain images, not the augmented ones. No mirroring: left and right
mean something in the body. Translation and cutout move image and masks as one; photometric changes leave masks alone.
"""

import torch
from torch import Tensor

NUMBERS = 12  # uniform numbers that an image's augmentation takes: five gates, seven values
BRIGHTNESS = 1.0  # range of the added grey, images being in [-1, 1]; ranges as Zhao et al. 2020
CONTRAST = 1.0  # range of the factor, around 1
SATURATION = 2.0
TRANSLATION = 0.125  # largest shift, as a share of the side
CUTOUT = 0.5  # side of the square, as a share of the side
RGB = 3


def augment(images: Tensor, numbers: Tensor, image_channels: int, probability: float) -> Tensor:
    """Return augmented images (N, C, H, W); twice differentiable in `images`.

    images: float32 around [-1, 1], mask planes after the first `image_channels`; numbers: (N, NUMBERS) uniform in
    [0, 1), which decide everything; what leaves the frame or is cut out becomes 0, the middle grey.
    """
    gates = (numbers[:, :5] < probability).to(images.dtype)
    values = numbers[:, 5:].to(images.dtype)
    picture = photometric(images[:, :image_channels], gates[:, :3], values[:, :3])
    joint = picture if image_channels == images.shape[1] else torch.cat([picture, images[:, image_channels:]], dim=1)
    return cut_out(translate(joint, gates[:, 3], values[:, 3:5]), gates[:, 4], values[:, 5:7])


def photometric(images: Tensor, gates: Tensor, values: Tensor) -> Tensor:
    """Change brightness, saturation (of colour images) and contrast; gates and values (N, 3) in that order."""
    changes = (gates * (values - 0.5))[:, :, None, None, None]
    images = images + BRIGHTNESS * changes[:, 0]
    if images.shape[1] == RGB:
        grey = images.mean(dim=1, keepdim=True)
        images = grey + (images - grey) * (1 + SATURATION * changes[:, 1])
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (1 + CONTRAST * changes[:, 2])


def translate(images: Tensor, gate: Tensor, values: Tensor) -> Tensor:
    """Shift by whole pixels; gate (N,), values (N, 2) along height and width."""
    # As products with 0/1 matrices: the same bits on every device and run, unlike a scattered gradient.
    rows, columns = (
        _shift_matrix(gate * (2 * values[:, axis] - 1), images.shape[2 + axis], images.dtype) for axis in (0, 1)
    )
    return rows[:, None] @ images @ columns[:, None].mT


def cut_out(images: Tensor, gate: Tensor, values: Tensor) -> Tensor:
    """Clear a square that may reach beyond the frame; gate (N,), values (N, 2): its centre."""
    rows, columns = (_near(values[:, axis], images.shape[2 + axis]).to(images.dtype) for axis in (0, 1))
    square = gate[:, None, None, None] * rows[:, None, :, None] * columns[:, None, None, :]
    return images * (1 - square)


def _shift_matrix(share: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Return (N, size, size) matrices that move along one axis by share (N,) in [-1, 1] of the largest shift."""
    shift = torch.round(share * TRANSLATION * size)
    place = torch.arange(size, device=share.device)
    return (place[:, None] - place[None, :] == shift[:, None, None]).to(dtype)


def _near(centre: Tensor, size: int) -> Tensor:
    """Return (N, size) bool: pixels less than half the cutout's side from `centre` (N,) in [0, 1)."""
    place = torch.arange(size, device=centre.device)
    return (place - torch.floor(centre[:, None] * size)).abs() < CUTOUT * size / 2
