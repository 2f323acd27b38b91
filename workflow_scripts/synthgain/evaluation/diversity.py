"""Diversity inside one set of images: Vendi score of features, MS-SSIM between pairs of images."""

import numpy as np
import torch
from torch.nn import functional

from synthgain.runtime.errors import SynthGainError

# Wang, Simoncelli & Bovik 2003; fewer scales renormalise the first ones.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, WINDOW_SIGMA = 11, 1.5  # the Gaussian window of the same paper: the coarsest scale must be larger
LUMINANCE_FLOOR, CONTRAST_FLOOR = 0.01**2, 0.03**2  # Wang et al. 2004, pixels in [0, 1]


def vendi_score(features: np.ndarray) -> float:
    """Effective number of distinct images, 1 … n: exp of the entropy of the cosine kernel's eigenvalues / n.

    Friedman & Dieng 2023 (arXiv 2210.02410), q = 1. features: (n, d). Grows with n: compare at equal n.
    """
    unit = features.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    kernel = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit  # same non-zero eigenvalues
    values = np.linalg.eigvalsh(kernel / len(unit))
    values = values[values > np.finfo(np.float64).eps]
    return float(np.exp(-(values * np.log(values)).sum()))


def scales_for(size: int) -> int:
    """MS-SSIM scales that images of `size` pixels carry: 5 above 160, 3 from 48, 2 from 24, else 1.

    Five scales of an 11-pixel window need more than 160 pixels; values of different counts do not compare.
    Raises SynthGainError below the window itself.
    """
    if size < WINDOW + 1:
        raise SynthGainError(f"MS-SSIM needs images of at least {WINDOW + 1} pixels a side, these have {size}")
    return 5 if size > 160 else 3 if size >= 48 else 2 if size >= 24 else 1


def ms_ssim(first: np.ndarray, second: np.ndarray, batch: int = 256) -> np.ndarray:
    """MS-SSIM of each pair, (n,) float64 in [0, 1], of two (n, H, W, C) uint8 arrays; 1 for equal images.

    Scales after `scales_for` the shorter side; negative structure terms count as 0. Equals MONAI's
    (a test), whose import costs more than the whole measurement.
    """
    if first.shape != second.shape:
        raise ValueError(f"pairs must have equal shapes, got {first.shape} and {second.shape}")
    weights = torch.tensor(SCALE_WEIGHTS[: scales_for(min(first.shape[1:3]))], dtype=torch.float64)
    weights /= weights.sum()
    values = [np.zeros(0)]
    with torch.inference_mode():
        for start in range(0, len(first), batch):
            a, b = (
                torch.from_numpy(np.array(side[start : start + batch])).permute(0, 3, 1, 2).float() / 255.0
                for side in (first, second)
            )
            terms = []
            for scale in range(len(weights)):
                if scale:
                    a, b = functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2)
                similarity, structure = _ssim_terms(a, b)
                terms.append(similarity if scale == len(weights) - 1 else structure)
            values.append((torch.stack(terms, 1).relu().double() ** weights).prod(1).numpy())
    return np.concatenate(values)


def _ssim_terms(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean SSIM and mean contrast-structure term per pair of (n, C, h, w) images in [0, 1], valid windows only."""
    moments = _blur(torch.cat([a, b, a * a, b * b, a * b], dim=1)).chunk(5, dim=1)
    mean_a, mean_b = moments[0], moments[1]
    variance_a, variance_b = moments[2] - mean_a**2, moments[3] - mean_b**2
    covariance = moments[4] - mean_a * mean_b
    structure = (2 * covariance + CONTRAST_FLOOR) / (variance_a + variance_b + CONTRAST_FLOOR)
    luminance = (2 * mean_a * mean_b + LUMINANCE_FLOOR) / (mean_a**2 + mean_b**2 + LUMINANCE_FLOOR)
    return (luminance * structure).mean((1, 2, 3)), structure.mean((1, 2, 3))


def _blur(x: torch.Tensor) -> torch.Tensor:
    offsets = torch.arange(WINDOW, dtype=torch.float32) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, 1, WINDOW)
    x = functional.conv2d(x, weights, groups=x.shape[1])
    return functional.conv2d(x, weights.transpose(2, 3), groups=x.shape[1])


def draw_pairs(
    strata: np.ndarray, patients: np.ndarray, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `pairs` pairs of positions inside a stratum, never of one patient.

    The first of a pair is uniform over images whose stratum holds another patient. Returns two (≤ pairs,)
    int64 arrays, empty where no such pair exists.
    """
    members = {stratum: np.flatnonzero(strata == stratum) for stratum in np.unique(strata)}
    usable = [rows for rows in members.values() if len(np.unique(patients[rows])) > 1]
    if not usable:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first = rng.choice(np.concatenate(usable), pairs)
    second = np.array([rng.choice(members[strata[row]]) for row in first])
    while (clash := np.flatnonzero(patients[first] == patients[second])).size:
        second[clash] = [rng.choice(members[strata[row]]) for row in first[clash]]
    return first.astype(np.int64), second.astype(np.int64)


def draw_cross_pairs(
    first_strata: np.ndarray, second_strata: np.ndarray, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pairs (position in the first set, position in the second) of equal stratum; empty where none exists."""
    members = {stratum: np.flatnonzero(second_strata == stratum) for stratum in np.unique(second_strata)}
    usable = np.flatnonzero(np.isin(first_strata, second_strata))
    if not usable.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first = rng.choice(usable, pairs)
    return first.astype(np.int64), np.array([rng.choice(members[first_strata[row]]) for row in first], np.int64)
