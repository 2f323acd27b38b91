"""Exact and near duplicates: correlation of small zero-mean copies, judged against each image's own further neighbours.

A plain 64-bit perceptual hash chains chest films into one group, since all chests look alike; what counts as *too*
alike must be measured on the set itself, and on each image: a common pose has nearer neighbours than a rare one.
Twins are the nearest neighbours of an image, so that its further ones, from the fourth or the sixteenth on, say what an
unrelated image comes to, in a set without twins as in one where most images have some.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 32  # small copies of 32 × 32: fine enough to tell films of one chest apart
BLOCK = 1024  # rows per matrix product: 1024 × N float32 at a time
FALSE_ALARMS = 0.05  # expected number of unrelated images per set above their limit
MIN_IMAGES = 50  # below this the neighbours say nothing about the tail: exact duplicates only
# (m, K): twins are looked for among the m - 1 nearest, the spacings of neighbours m to K say how similarity falls off.
# The first is sharper, the second also sees series of frames, in which an image has up to 15 twins.
TAILS = ((4, 20), (16, 48))

Box = tuple[float, float, float, float]  # left, top, right, bottom of a part, as shares of the whole
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class NearPair(NamedTuple):
    """Two row positions (first < second), their correlation, and whether it passes the limits of both."""

    first: int
    second: int
    similarity: float
    mutual: bool


@dataclass(frozen=True)
class NearPairs:
    """Near duplicates of different patients within one set.

    threshold: correlation above which a pair counts for nine images in ten, None where it cannot be calibrated.
    """

    threshold: float | None
    pairs: list[NearPair]


def small_copies(images: np.ndarray) -> np.ndarray:
    """Return (N, SIDE²) float32: grey, box-averaged to at most SIDE × SIDE, zero mean, unit norm (constant: zeros)."""
    side = min(SIDE, images.shape[1])
    copies = np.empty((len(images), side * side), np.float32)
    for start in range(0, len(images), BLOCK):
        copies[start : start + BLOCK] = unit(reduced(images[start : start + BLOCK]))
    return copies


def reduced(images: np.ndarray, box: Box = WHOLE) -> np.ndarray:
    """Return the grey means (N, S, S) float32 of images (N, H, W, C) uint8, S at most SIDE; box: the part of them."""
    height, width = images.shape[1:3]
    side = min(SIDE, height)
    left, top, right, bottom = box
    rows, columns = (_weights(side, *limits) for limits in ((height, top, bottom), (width, left, right)))
    grey = images.astype(np.float32).mean(axis=3)
    return np.asarray(np.einsum("ph,nhw,qw->npq", rows, grey, columns, optimize=True))


def _weights(side: int, pixels: int, low: float, high: float) -> np.ndarray:
    """Return (side, pixels) float32: what each pixel between two shares of the whole gives to each mean."""
    alone = Image.fromarray(np.eye(pixels, dtype=np.float32))
    box = (0, low * pixels, pixels, high * pixels)
    return np.asarray(alone.resize((pixels, side), Image.Resampling.BOX, box))


def unit(small: np.ndarray) -> np.ndarray:
    """Return (N, S²) of (N, S, S): zero mean, unit norm (constant: zeros)."""
    flat = small.reshape(len(small), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 1e-3)


def limits_of(
    similarities: np.ndarray, alarms: float = FALSE_ALARMS, tails: Sequence[tuple[int, int]] = TAILS
) -> np.ndarray:
    """Return (N,) the correlation above which a neighbour of each image is no unrelated one.

    similarities: (N, K) of each image's nearest neighbours, falling. Of many unrelated neighbours the k-th and the next
    one lie Exp(scale / k) apart in Fisher's z (Renyi 1953, for tails of Gumbel's kind), so that the nearest is the m-th
    plus a sum of such spacings: above it by more than scale · log(m / p) with a probability of about p. The scale is
    the median spacing of the neighbours beyond the m-th. `alarms`, expected where none is a twin, are shared by the
    images and the `tails`.
    """
    z = np.arctanh(np.clip(similarities.astype(np.float64), -1, 1 - 1e-7))
    found = np.full(len(z), np.inf)
    for first, last in tails:
        if last <= z.shape[1]:
            spacings = [k * (z[:, k - 1] - z[:, k]) for k in range(first, last)]
            scale = float(np.median(np.concatenate(spacings))) / np.log(2)
            alarm = alarms / (len(tails) * len(z))
            found = np.minimum(found, z[:, first - 1] + scale * np.log(first / alarm))
    return np.asarray(np.tanh(found))


def near_pairs(
    images: np.ndarray, patients: pd.Series, hashes: pd.Series, copies: np.ndarray | None = None
) -> NearPairs:
    """Find near duplicates among images of different patients that are not equal pixel by pixel.

    copies: `small_copies` of the images, where they are there already.
    """
    groups = exact_groups(patients, hashes)
    if len(images) < MIN_IMAGES:
        return NearPairs(None, [])
    copies = small_copies(images) if copies is None else copies
    values, rows = nearest_many(copies, groups, min(TAILS[-1][1], len(images) - 1))
    limits = limits_of(values)
    found: dict[tuple[int, int], NearPair] = {}
    for row, place in zip(*np.nonzero(values > limits[:, None]), strict=True):
        other, value = int(rows[row, place]), float(values[row, place])
        pair = (min(int(row), other), max(int(row), other))
        found[pair] = NearPair(*pair, value, bool(value > limits[other]))
    usual = float(np.quantile(limits, 0.9))
    return NearPairs(usual, sorted(found.values()))


def nearest_many(copies: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return of each of (N, D) the `count` highest correlations with rows of other groups, falling, and these rows.

    Where there are fewer, -1. Each pair is computed once, a tile of BLOCK × BLOCK at a time; of a tile only what is
    above the lowest of a row's best so far is looked at.
    """
    values = np.full((len(copies), count), -1, np.float32)
    rows = np.full((len(copies), count), -1, np.int64)
    for start in range(0, len(copies), BLOCK):
        for other in range(start, len(copies), BLOCK):
            similar = copies[start : start + BLOCK] @ copies[other : other + BLOCK].T
            _keep_best(values, rows, similar, start, other, groups)
            if other > start:
                _keep_best(values, rows, similar.T, other, start, groups)
    return values, rows


def _keep_best(
    values: np.ndarray, rows: np.ndarray, similar: np.ndarray, start: int, other: int, groups: np.ndarray
) -> None:
    """Put what of a tile (rows from `start`, columns from `other`) is among the best of its rows into both arrays."""
    inside = slice(start, start + len(similar))
    row, column = np.nonzero(similar > values[inside, -1:])
    foreign = groups[start + row] != groups[other + column]
    row, column = row[foreign], column[foreign]
    changed, first, counts = np.unique(row, return_index=True, return_counts=True)
    if not len(changed):
        return
    kept = values.shape[1]
    place = kept + np.arange(len(row)) - np.repeat(first, counts)  # of each in the row of what is chosen from
    value = np.full((len(changed), kept + int(counts.max())), -2, np.float32)
    index = np.full(value.shape, -1, np.int64)
    value[:, :kept], index[:, :kept] = values[start + changed], rows[start + changed]
    line = np.repeat(np.arange(len(changed)), counts)
    value[line, place], index[line, place] = similar[row, column], other + column
    order = np.argsort(-value, axis=1, kind="stable")[:, :kept]
    values[start + changed] = np.take_along_axis(value, order, axis=1)
    rows[start + changed] = np.take_along_axis(index, order, axis=1)


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
