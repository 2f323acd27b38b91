"""Exact and near duplicates: correlation of small zero-mean copies, judged against pairs of different patients.

A plain 64-bit perceptual hash chains chest films into one group, since all chests look alike; what counts as *too*
alike must be measured on the set itself.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import gumbel_r

SIDE = 32  # small copies of 32 × 32: fine enough to tell films of one chest apart
BLOCK = 1024  # rows per matrix product: 1024 × N float32 at a time
FALSE_ALARMS = 0.05  # expected number of unrelated images per set above the threshold
MIN_IMAGES = 50  # below this the quartiles say nothing about the tail: exact duplicates only


class NearPair(NamedTuple):
    """Two row positions (first < second), their correlation, and whether each is the other's nearest neighbour."""

    first: int
    second: int
    similarity: float
    mutual: bool


@dataclass(frozen=True)
class NearPairs:
    """Near duplicates of different patients within one set.

    threshold: correlation above which a pair counts, None where it cannot be calibrated.
    """

    threshold: float | None
    pairs: list[NearPair]


def small_copies(images: np.ndarray) -> np.ndarray:
    """Return (N, SIDE²) float32: grey, box-averaged to at most SIDE × SIDE, zero mean, unit norm (constant: zeros)."""
    side = min(SIDE, images.shape[1])
    weights = np.asarray(Image.fromarray(np.eye(images.shape[1], dtype=np.float32)).resize(
        (images.shape[1], side), Image.Resampling.BOX
    ))  # fmt: skip
    copies = np.empty((len(images), side * side), np.float32)
    for start in range(0, len(images), BLOCK):
        grey = images[start : start + BLOCK].astype(np.float32).mean(axis=3)
        small = np.einsum("ph,nhw,qw->npq", weights, grey, weights, optimize=True).reshape(len(grey), -1)
        small -= small.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(small, axis=1, keepdims=True)
        copies[start : start + BLOCK] = np.divide(small, norms, out=np.zeros_like(small), where=norms > 1e-3)
    return copies


def nearest(
    copies: np.ndarray, others: np.ndarray, groups: np.ndarray | None = None, other_groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of (N, D) its highest correlation among (M, D) and that row, both (N,).

    Pairs of equal (integer) group are passed over; rows without a partner get -1 and -1.
    """
    best = np.full(len(copies), -1, np.float32)
    index = np.full(len(copies), -1, np.int64)
    for start in range(0, len(copies), BLOCK):
        similar = copies[start : start + BLOCK] @ others.T
        if groups is not None and other_groups is not None:
            similar[groups[start : start + BLOCK, None] == other_groups[None, :]] = -2
        if similar.shape[1]:
            top = similar.argmax(axis=1)
            value = similar[np.arange(len(similar)), top]
            best[start : start + BLOCK] = np.where(value > -2, value, -1)
            index[start : start + BLOCK] = np.where(value > -2, top, -1)
    return best, index


def calibrated_threshold(similarities: np.ndarray) -> float | None:
    """Return the correlation that the nearest *unrelated* image passes in FALSE_ALARMS of such sets, or None.

    `similarities`: each image's highest correlation with an image of another patient. The largest of many similarities
    follows a Gumbel law (Fisher–Tippett); it is fitted to Fisher's z by its quartiles, which a few true duplicates
    do not move.
    """
    known = similarities[similarities > -1]
    if len(known) < MIN_IMAGES:
        return None
    z = np.arctanh(np.clip(known.astype(np.float64), -1, 1 - 1e-7))
    low, high = np.quantile(z, [0.25, 0.75])
    unit_low, unit_high = gumbel_r.ppf([0.25, 0.75])
    scale = (high - low) / (unit_high - unit_low)
    if scale <= 0:
        return None
    location = low - scale * unit_low
    return float(np.tanh(location + scale * gumbel_r.isf(FALSE_ALARMS / len(known))))


def near_pairs(images: np.ndarray, patients: pd.Series, hashes: pd.Series) -> NearPairs:
    """Find near duplicates among images of different patients that are not equal pixel by pixel."""
    copies = small_copies(images)
    groups = exact_groups(patients, hashes)
    best, index = nearest(copies, copies, groups, groups)
    threshold = calibrated_threshold(best)
    if threshold is None:
        return NearPairs(None, [])
    found = set()
    for row in np.flatnonzero(best > threshold):
        other = int(index[row])
        first, second = sorted((int(row), other))
        found.add(NearPair(first, second, float(best[row]), bool(index[other] == row)))
    return NearPairs(threshold, sorted(found))


def exact_groups(patients: pd.Series, hashes: pd.Series, pairs: list[tuple[int, int]] | None = None) -> np.ndarray:
    """Return (N,) int64 group numbers: rows of one patient, of equal hash, or of a listed pair are one group."""
    parent = np.arange(len(patients))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for key in (patients, hashes):
        first: dict[str, int] = {}
        for row, value in enumerate(key):
            parent[find(row)] = find(first.setdefault(value, row))
    for one, other in pairs or []:
        parent[find(one)] = find(other)
    roots = np.array([find(row) for row in range(len(patients))], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)
