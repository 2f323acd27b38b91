"""Pulmonary vessels: branching tubes with a Gaussian cross-section, whose line integrals are Gaussian too."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

GENERATIONS = 5
ROOTS = 7
_STEP_CM = 0.2
_SIGMAS_CM = (0.27, 0.17, 0.1)  # widths to which a vessel's own is rounded; its mass is kept


@dataclass(frozen=True)
class Tree:
    """Points along the vessels of one lung: x, y (cm), mass (cm³: cross-section area × step), width class."""

    x: np.ndarray
    y: np.ndarray
    mass: np.ndarray
    level: np.ndarray


def draw_tree(rng: np.random.Generator, side: float, scale: float) -> Tree:
    """Draw one lung's vessels: `ROOTS` leave the hilum; each splits in two per generation.

    Radii shrink by 2^(-1/3) a generation (Murray's law), lengths by 0.78.
    """
    hilum = np.array([side * 3.0 * scale, (-1.5 if side > 0 else -0.8) * scale])
    # Fans out from straight up, over the side, to straight down.
    angles = np.linspace(-1.25, 1.35, ROOTS) + rng.normal(0.0, 0.15, ROOTS)
    starts = hilum + rng.normal(0.0, 0.5, (ROOTS, 2)) * scale
    radius, length = 0.55 * scale, 3.4 * scale
    points, masses, levels = [], [], []
    for _ in range(GENERATIONS):
        lengths = length * rng.uniform(0.75, 1.25, len(angles))
        bend = rng.normal(0.0, 0.25, len(angles))
        steps = int(np.ceil(1.25 * length / _STEP_CM))
        along = (np.arange(steps) + 0.5) / steps
        heading = angles[:, None] + bend[:, None] * along
        move = (lengths / steps)[:, None, None] * np.stack([side * np.cos(heading), np.sin(heading)], axis=-1)
        path = starts[:, None] + np.cumsum(move, axis=1)
        sigma = 0.5 * radius
        points.append(path.reshape(-1, 2))
        masses.append(np.repeat(np.pi * (2.0 * sigma) ** 2 * lengths / steps, steps))
        levels.append(np.full(len(angles) * steps, int(np.abs(np.array(_SIGMAS_CM) - sigma).argmin())))
        starts = np.repeat(path[:, -1], 2, axis=0)
        spread = rng.uniform(0.2, 0.55, len(angles))
        ends = angles + bend
        angles = np.stack([ends - spread, ends + spread], axis=1).ravel()
        radius, length = radius * 2.0 ** (-1.0 / 3.0), length * 0.78
    place = np.concatenate(points)
    return Tree(place[:, 0], place[:, 1], np.concatenate(masses), np.concatenate(levels))


def vessel_length(tree: Tree, x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Return the length of vessel (cm) on each ray of a regular grid x, y (S, S) turned by any angle.

    Mass is dealt to the four nearest rays and spread by the vessel's width, so thin vessels dim, not vanish.
    """
    size = x.shape[0]
    # The grid is x = x00 + c·a + r·b, y = y00 + c·d + r·e: its inverse gives a point's column and row.
    a, b = (x[0, -1] - x[0, 0]) / (size - 1), (x[-1, 0] - x[0, 0]) / (size - 1)
    d, e = (y[0, -1] - y[0, 0]) / (size - 1), (y[-1, 0] - y[0, 0]) / (size - 1)
    dx, dy, area = tree.x - x[0, 0], tree.y - y[0, 0], a * e - b * d
    column, row = (e * dx - b * dy) / area, (a * dy - d * dx) / area
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    inside = (left >= 0) & (top >= 0) & (left < size - 1) & (top < size - 1)
    left, top, level, mass = left[inside], top[inside], tree.level[inside], tree.mass[inside]
    right, below = column[inside] - left, row[inside] - top
    total = np.zeros((size, size), dtype=np.float32)
    cell = (level * size + top) * size + left
    corners = (
        (0, (1 - right) * (1 - below)),
        (1, right * (1 - below)),
        (size, (1 - right) * below),
        (size + 1, right * below),
    )
    length = len(_SIGMAS_CM) * size * size + size + 2
    grid = np.zeros(length)
    for shift, weight in corners:
        grid += np.bincount(cell + shift, weights=weight * mass, minlength=length)
    planes = grid[: len(_SIGMAS_CM) * size * size].reshape(len(_SIGMAS_CM), size, size).astype(np.float32)
    for plane, sigma in zip(planes, _SIGMAS_CM, strict=True):
        spread = sigma / pixel
        total += gaussian_filter(plane, spread, truncate=3.0, mode="constant") if spread > 0.3 else plane
    return total / np.float32(pixel * pixel)
