"""Exact generators of image and mask pairs for the tests of pools."""

from pathlib import Path

import numpy as np
import torch
from pixel_samples import PixelSamples
from pool_sources import COLUMNS, SIZE, make_table, write_split

from synthgain.data.image_set import ImageSet, write_image_set

SPREAD, LENGTH = 0.5, 2.0  # standard deviation and correlation length (pixels) of the Gaussian fields


def field_covariance(size: int = SIZE) -> np.ndarray:
    """Covariance (size², size²) of a smooth Gaussian field on a grid."""
    rows, columns = np.mgrid[:size, :size].reshape(2, -1)
    distance = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    return SPREAD**2 * np.exp(-distance / (2 * LENGTH**2)) + 1e-4 * np.eye(size * size)


def make_pairs(run: Path, patients: int = 30) -> ImageSet:
    """Write datasets/a and splits/a: blurred blocks as lungs, some empty, some not known, at places of their own."""
    table = make_table(patients)
    random = np.random.default_rng(1)
    masks = np.zeros((len(table), SIZE, SIZE, 1), np.uint8)
    for row in np.flatnonzero(table["has_mask_lung"] & (random.random(len(table)) < 0.85)):
        top, left = random.integers(2, 4, 2)
        masks[row, top : top + 3, left : left + 3] = 1
    images = (60 + 100 * masks + random.integers(0, 30, masks.shape)).astype(np.uint8)
    source = write_image_set(run / "datasets/a", images, table, COLUMNS, "dataset", masks, ["lung"])
    write_split(run, table)
    return source


class _Exact(PixelSamples):
    """What all of them have; `mean` of a condition is the plane around which a field varies."""

    kind, device, image_channels = "diffusion", torch.device("cpu"), 1
    sigma_min, sigma_max, sigma_data = 0.002, 80.0, SPREAD
    structures = ("lung",)

    def __init__(self) -> None:
        values, vectors = np.linalg.eigh(field_covariance())
        self.values = torch.tensor(values, dtype=torch.float32)
        self.vectors = torch.tensor(vectors, dtype=torch.float32)
        self.calls = 0

    def denoise(self, x, sigma, condition):
        self.calls += 1
        rotated = (x - condition["mean"]).flatten(2) @ self.vectors
        shrunk = rotated * (self.values / (self.values + sigma.view(-1, 1, 1) ** 2))
        return (shrunk @ self.vectors.T).view_as(x) + condition["mean"]

    def null_condition(self, n):
        return {"mean": torch.zeros(n, self.image_shape[0], SIZE, SIZE)}

    def encode_conditions(self, rows):
        return self.null_condition(len(rows))


class Pairs(_Exact):
    """Image and mask plane, independent smooth fields; the image is brighter with an opacity."""

    output, image_shape = "image+mask", (2, SIZE, SIZE)

    def encode_conditions(self, rows):
        condition = self.null_condition(len(rows))
        condition["mean"][:, 0] += torch.tensor(rows["opacity"].to_numpy() - 0.5, dtype=torch.float32).view(-1, 1, 1)
        return condition


class Painted(Pairs):
    """Image and mask plane as one smooth field, but for a tenth of it: bright where the mask is."""

    def denoise(self, x, sigma, condition):
        both, apart = (x[:, :1] + x[:, 1:]) / 2**0.5, (x[:, :1] - x[:, 1:]) / 2**0.5
        fields = torch.cat([both / 1.4, apart / 0.1], dim=1)  # each again a field of the one covariance
        scale = torch.tensor([1.4, 0.1]).view(1, 2, 1, 1)
        levels = sigma.view(-1, 1, 1, 1) / scale
        rotated = fields.flatten(2) @ self.vectors
        shrunk = rotated * (self.values / (self.values + levels.flatten(2) ** 2))
        both, apart = ((shrunk @ self.vectors.T).view_as(x) * scale).chunk(2, dim=1)
        return torch.cat([both + apart, both - apart], dim=1) / 2**0.5


class Masks(_Exact):
    """Masks alone, of two structures."""

    output, image_shape, image_channels, structures = "mask", (2, SIZE, SIZE), 0, ("heart", "lung")


class Conditioned(_Exact):
    """An image that is bright where its condition mask is."""

    output, image_shape = "image", (1, SIZE, SIZE)

    def encode_conditions(self, rows, masks=None):
        assert masks.dtype == torch.float32
        assert set(masks.unique().tolist()) <= {-1.0, 1.0}
        assert masks.shape == (len(rows), 1, SIZE, SIZE)
        return {"mean": 0.5 * masks}

    def denoise(self, x, sigma, condition):
        self.calls += 1
        level = sigma.view(-1, 1, 1, 1) ** 2
        return (0.0004 * x + level * condition["mean"]) / (0.0004 + level)


class Gan:
    """Planes that are a linear map of the latent, around the condition's mean; every call is counted."""

    kind, device, image_channels, latent_dim = "gan", torch.device("cpu"), 1, 5

    def __init__(self, pairs: bool) -> None:
        self.output, self.structures = ("image+mask", ("lung",)) if pairs else ("image", ())
        self.image_shape = (1 + len(self.structures), SIZE, SIZE)
        self.calls = 0
        random = torch.Generator().manual_seed(0)
        self.map = torch.randn(self.latent_dim, int(np.prod(self.image_shape)), generator=random) / 3

    def encode_conditions(self, rows):
        return {"mean": torch.tensor(rows["opacity"].to_numpy() - 0.5, dtype=torch.float32)}

    def generate(self, z, condition):
        self.calls += 1
        return (z @ self.map).view(len(z), *self.image_shape) + 0.3 * condition["mean"].view(-1, 1, 1, 1)
