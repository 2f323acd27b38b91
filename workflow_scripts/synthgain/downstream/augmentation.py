"""Classical augmentation of a whole batch on its device, drawn by (seed, step, slot)."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as functional

from synthgain.downstream.options import Augmentation, Augmentations, StandardAugmentation, StrongAugmentation
from synthgain.entry import Number, checked
from synthgain.runtime.errors import SynthGainError

_INSIDE = 0.5  # a resampled mask above it belongs to the structure
_DRAWS = 12  # uniform numbers per image, one column per purpose, so that a new purpose shifts no other


RECIPES: dict[str, type[Augmentation]] = {"none": Augmentation} | {
    name: field.annotation
    for name, field in Augmentations.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Augmentation)
}
NONE, STANDARD, STRONG = Augmentation(), StandardAugmentation(), StrongAugmentation()


def augmentation_of(name: str, settings: Mapping[str, bool | dict[str, Number]], where: str) -> Augmentation:
    """Return the recipe `name` (standard, strong, none) with the study's overrides.

    `settings`: {standard: {…}, strong: {…}, laterality: bool}; laterality true forbids flips.
    Raises SynthGainError for an unknown recipe, part or negative value; `where` opens its line.
    """
    if name not in RECIPES:
        raise SynthGainError(f"{where}: unknown augmentation {name!r}; known: {', '.join(RECIPES)}")
    given = settings[name] if name in settings and name != "none" else {}
    recipe = checked(RECIPES[name], given if isinstance(given, dict) else {}, f"{where}: augmentation.{name}")
    return recipe if settings.get("laterality") is False else recipe.model_copy(update={"flip": 0.0})


def augment(
    recipe: Augmentation, images: torch.Tensor, targets: torch.Tensor, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the varied (B, C, H, W) images in [-1, 1] and their targets.

    (B, K) targets are changed by mixup alone. (B, K, H, W) masks move with their images (bilinear, then > 0.5) and
    mix with them; brightness, noise and cutout leave them alone; a mask that is NaN, unknown, stays so.
    `seed` is that of the step; slot b of the batch uses row b of the draws, whatever the image.
    """
    if not any(getattr(recipe, part) for part in Augmentation.model_fields):
        return images, targets
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(len(images), _DRAWS, generator=generator).to(images.device, non_blocking=True)
    signed = 2 * draws - 1
    if recipe.rotation or recipe.translation or recipe.scale or recipe.flip:
        rows = _affine(recipe, signed, draws[:, 4])
        images = _resampled(images, rows)
        if targets.ndim == images.ndim:
            moved = _resampled(targets, rows)
            targets = torch.where(moved.isnan(), moved, (moved > _INSIDE).to(moved.dtype))
    if recipe.gamma:
        exponent = torch.exp2(recipe.gamma * signed[:, 5])[:, None, None, None]
        images = ((images + 1) / 2).clamp(min=0).pow(exponent) * 2 - 1
    if recipe.contrast or recipe.brightness:
        factor = 1 + recipe.contrast * signed[:, 6, None, None, None]
        images = images * factor + recipe.brightness * signed[:, 7, None, None, None]
    if recipe.noise:
        scale = recipe.noise * draws[:, 8, None, None, None]
        on_device = torch.Generator(images.device).manual_seed(seed)
        images = images + scale * torch.randn(images.shape, generator=on_device, device=images.device)
    images = images.clamp(-1, 1)
    if recipe.cutout:
        images = _cutout(images, recipe.cutout, draws[:, 9], draws[:, 10])
    if recipe.mixup:
        share = _beta(recipe.mixup, len(images), seed).to(images.device, non_blocking=True)
        images = torch.lerp(images.flip(0), images, share[:, None, None, None])
        targets = torch.lerp(targets.flip(0), targets, share.view(-1, *[1] * (targets.ndim - 1)))
    return images, targets


def random_crops(
    images: torch.Tensor, targets: torch.Tensor, window: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a `window` px square of each image and the same of its masks, placed by (seed, slot)."""
    height, width = images.shape[-2:]
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(len(images), 2, generator=generator) * torch.tensor([height - window + 1, width - window + 1])
    corners = places.long().tolist()
    pairs = [
        (image[:, y : y + window, x : x + window], masks[:, y : y + window, x : x + window])
        for image, masks, (y, x) in zip(images, targets, corners, strict=True)
    ]
    return torch.stack([image for image, _ in pairs]), torch.stack([masks for _, masks in pairs])


def _affine(recipe: Augmentation, signed: torch.Tensor, flip: torch.Tensor) -> torch.Tensor:
    """Return the (B, 2, 3) matrices that rotate, scale, shift and flip."""
    angle = math.radians(recipe.rotation) * signed[:, 0]
    zoom = 1 / (1 + recipe.scale * signed[:, 1])
    mirror = torch.where(flip < recipe.flip, -1.0, 1.0)
    shift = 2 * recipe.translation * signed[:, 2:4]
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    return torch.stack(
        [torch.stack([mirror * cosine, -sine, shift[:, 0]], 1), torch.stack([mirror * sine, cosine, shift[:, 1]], 1)], 1
    )


def _resampled(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return images under (B, 2, 3) matrices, bilinear; beyond the border the edge goes on."""
    grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _cutout(images: torch.Tensor, side: float, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Set one square per image to mid-grey (DeVries and Taylor 2017); its centre is uniform over the image."""
    height, width = images.shape[-2:]
    down = (torch.arange(height, device=images.device) + 0.5) / height
    across = (torch.arange(width, device=images.device) + 0.5) / width
    inside_rows = (down[None, :] - y[:, None]).abs() < side / 2
    inside_columns = (across[None, :] - x[:, None]).abs() < side / 2
    return images.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0.0)


def _beta(parameter: float, count: int, seed: int) -> torch.Tensor:
    """(count,) draws from Beta(parameter, parameter), at least 0.5 so that slot b keeps most of its own image."""
    import numpy as np

    shares = np.random.default_rng(seed).beta(parameter, parameter, size=count)
    return torch.from_numpy(np.maximum(shares, 1 - shares)).float()
