"""Nearest real neighbours of images, in pixels and in features.

Pixel similarity is the correlation of images after area-averaging to at most 64 × 64 and taking away the mean
training image (anatomy that all share would hide what is individual), the largest over flips in both directions and
over shifts of up to 3 % of the side: a copy that was mirrored or moved by a pixel stays a copy. Same measure, same
search for synthetic and real queries, so that thresholds and null rates apply.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

SIDE = 64  # Dar et al. and Akbar et al. compare at low resolution; copies are visible there
COARSE_SIDE = 16  # candidates are chosen here, with the largest shifts only
SHIFT = 0.03  # of the side
NEIGHBOURS = 50  # Carlini et al. 2023, n of the calibrated distance
QUERIES = 64  # per matrix product: about 50 MB at 64 × 64


@dataclass(frozen=True)
class Neighbours:
    """The k nearest references per query, nearest first.

    index: (n, k) int64 rows of the references. similarity: (n, k) float32 correlations (−1 … 1).
    """

    index: np.ndarray
    similarity: np.ndarray

    @property
    def nearest(self) -> np.ndarray:
        """Largest similarity per query, (n,)."""
        return np.asarray(self.similarity[:, 0])

    def distance_ratio(self) -> np.ndarray:
        """d(x, nearest) / mean d(x, k nearest), (n,): Carlini et al. 2023 (arXiv 2301.13188), before α.

        d is the Euclidean distance of unit vectors, √(2 − 2·similarity). 1 where all distances are 0.
        """
        distance = np.sqrt(np.maximum(2.0 - 2.0 * self.similarity.astype(np.float64), 0.0))
        mean = distance.mean(1)
        return np.where(mean > 0, distance[:, 0] / np.where(mean > 0, mean, 1.0), 1.0)


class PixelSpace:
    """Pixels relative to the mean of the training images (N, H, W, C) uint8."""

    def __init__(self, train: np.ndarray) -> None:
        if not len(train):
            raise ValueError("no training images")
        side = min(SIDE, *train.shape[1:3])
        self.side, self.reach = side, max(1, round(SHIFT * side))
        self.mean = self._small(train, side).mean(0)
        self.coarse_mean = self._coarse(self.mean[None], 0, 0)

    def search(
        self,
        queries: np.ndarray,
        references: np.ndarray,
        query_patients: np.ndarray | None = None,
        reference_patients: np.ndarray | None = None,
    ) -> Neighbours:
        """Return each query's nearest references; with patients given, pairs of one patient do not count."""
        count = min(NEIGHBOURS, len(references))
        coarse = _unit(self._coarse(self._small(references, self.side), 0, 0) - self.coarse_mean)
        fine = _unit(self._window(self._small(references, self.side), 0, 0) - self._window(self.mean, 0, 0))
        found = []
        for start in range(0, len(queries), QUERIES):
            part = queries[start : start + QUERIES]
            small, steps = self._small(part, self.side), (-self.reach, 0, self.reach)
            views = [self._coarse(x, y, s) for x in _flips(small) for y in steps for s in steps]
            similar = torch.stack([_unit(view - self.coarse_mean) @ coarse.T for view in views]).amax(0)
            same = _same_patient(query_patients, reference_patients, slice(start, start + QUERIES))
            if same is not None:
                similar[same] = -2.0
            found.append(self._refine(part, fine, similar.topk(count, dim=1).indices, same))
        return _join(found, count)

    def pairwise(self, queries: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Similarity of query i to reference i, (n,) float32."""
        fine = _unit(self._window(self._small(references, self.side), 0, 0) - self._window(self.mean, 0, 0))
        values = [np.zeros(0, np.float32)]
        for start in range(0, len(queries), QUERIES):
            part = queries[start : start + QUERIES]
            index = torch.arange(start, start + len(part))[:, None]
            values.append(self._refine(part, fine, index, None).similarity[:, 0])
        return np.concatenate(values)

    def _refine(
        self, queries: np.ndarray, fine: torch.Tensor, index: torch.Tensor, same: torch.Tensor | None
    ) -> Neighbours:
        small = self._small(queries, self.side)
        reach = range(-self.reach, self.reach + 1)
        mean = self._window(self.mean, 0, 0)
        views = [_unit(self._window(x, y, s) - mean) for x in _flips(small) for y in reach for s in reach]
        similar = torch.bmm(torch.stack(views, 1), fine[index].transpose(1, 2)).amax(1)
        if same is not None:
            similar[same.gather(1, index)] = -1.0
        order = similar.argsort(dim=1, descending=True, stable=True)
        return Neighbours(index.gather(1, order).numpy(), similar.gather(1, order).numpy())

    def _small(self, images: np.ndarray, side: int) -> torch.Tensor:
        x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float()
        return x if x.shape[2:] == (side, side) else functional.interpolate(x, (side, side), mode="area")

    def _coarse(self, x: torch.Tensor, down: int, right: int) -> torch.Tensor:
        window = self._window(x, down, right)
        return functional.interpolate(window, (min(COARSE_SIDE, window.shape[-1]),) * 2, mode="area")

    def _window(self, x: torch.Tensor, down: int, right: int) -> torch.Tensor:
        r, side = self.reach, self.side
        return x[..., r + down : side - r + down, r + right : side - r + right]


class FeatureSpace:
    """Features standardised by the training images: correlation of what is individual in them."""

    def __init__(self, train: np.ndarray) -> None:
        self.mean = train.mean(0, dtype=np.float64)
        deviation = train.std(0, dtype=np.float64)
        self.scale = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-12), deviation, np.inf)

    def search(
        self,
        queries: np.ndarray,
        references: np.ndarray,
        query_patients: np.ndarray | None = None,
        reference_patients: np.ndarray | None = None,
    ) -> Neighbours:
        """Return each query's nearest references, (n, d) and (m, d) features; as `PixelSpace.search`."""
        count = min(NEIGHBOURS, len(references))
        theirs, found = self._unit(references), []
        for start in range(0, len(queries), 16 * QUERIES):
            rows = slice(start, start + 16 * QUERIES)
            similar = self._unit(queries[rows]) @ theirs.T
            same = _same_patient(query_patients, reference_patients, rows)
            if same is not None:
                similar[same] = -1.0
            values, index = similar.topk(count, dim=1)
            found.append(Neighbours(index.numpy(), values.numpy()))
        return _join(found, count)

    def pairwise(self, queries: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Similarity of query i to reference i, (n,) float32."""
        return np.asarray((self._unit(queries) * self._unit(references)).sum(1).numpy())

    def _unit(self, features: np.ndarray) -> torch.Tensor:
        return functional.normalize(torch.from_numpy(((features - self.mean) / self.scale).astype(np.float32)), dim=1)


def _flips(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The images as they are, mirrored, upside down, and both."""
    return x, x.flip(-1), x.flip(-2), x.flip((-2, -1))


def _unit(x: torch.Tensor) -> torch.Tensor:
    """(n, …) -> (n, d) rows of mean 0 and length 1 (0 for a constant row)."""
    flat = x.flatten(1)
    return functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)


def _same_patient(queries: np.ndarray | None, references: np.ndarray | None, rows: slice) -> torch.Tensor | None:
    if queries is None or references is None:
        return None
    return torch.from_numpy(queries[rows, None] == references[None, :])


def _join(parts: list[Neighbours], count: int) -> Neighbours:
    if not parts:
        return Neighbours(np.zeros((0, count), np.int64), np.zeros((0, count), np.float32))
    return Neighbours(np.concatenate([p.index for p in parts]), np.concatenate([p.similarity for p in parts]))
