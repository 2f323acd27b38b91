"""Diversity inside one set of images: Vendi score of features, MS-SSIM between pairs of images."""

import numpy as np
import torch

from synthgain.errors import SynthGainError

# Wang, Simoncelli & Bovik 2003; fewer scales renormalise the first ones.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11  # the Gaussian window of the same paper: the coarsest scale must be larger


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

    Scales after `scales_for` the shorter side. Negative structure terms count as 0.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    if first.shape != second.shape:
        raise ValueError(f"pairs must have equal shapes, got {first.shape} and {second.shape}")
    weights = np.array(SCALE_WEIGHTS[: scales_for(min(first.shape[1:3]))])
    betas = tuple((weights / weights.sum()).tolist())
    values = [np.zeros(0)]
    with torch.inference_mode():
        for start in range(0, len(first), batch):
            a, b = (
                torch.from_numpy(np.array(side[start : start + batch])).permute(0, 3, 1, 2).float() / 255.0
                for side in (first, second)
            )
            similarity = multiscale_structural_similarity_index_measure(
                a, b, kernel_size=WINDOW, data_range=1.0, betas=betas, normalize="relu", reduction="none"
            )
            values.append(torch.as_tensor(similarity).reshape(-1).double().numpy())
    return np.concatenate(values)


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
