"""Divides images by appearance: k-means on frozen features of the image, and on where and how large its masks are.

After Saragih et al. 2024 (k-means on ImageNet features of image and mask); features, scaling and the rule for tiny
clusters are this project's.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from synthgain.clusters.options import Clusters
from synthgain.runtime.errors import SynthGainError

STARTS = 10  # of k-means, the best is kept


@dataclass(frozen=True)
class Division:
    """labels: (N,) int64, 0 is the largest cluster; trained_with: (k,) int64, per cluster the one it is merged into;

    distance: (N,) float64 from each image to the centre of its cluster.
    """

    labels: np.ndarray
    trained_with: np.ndarray
    distance: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Images of each cluster, (k,) int64."""
        return np.bincount(self.labels, minlength=len(self.trained_with))


def mask_facts(masks: np.ndarray) -> np.ndarray:
    """Return (N, 3 K) float64 of masks (N, H, W, K) in {0, 1}: root of the area share, centre (y, x) in -0.5 … 0.5.

    The root, a length, so that large structures do not outweigh all others. An empty mask has its centre in the middle.
    """
    height, width = masks.shape[1:3]
    area = masks.sum(axis=(1, 2), dtype=np.float64)
    filled = np.maximum(area, 1)
    rows = (np.arange(height) + 0.5) / height - 0.5
    columns = (np.arange(width) + 0.5) / width - 0.5
    y = np.einsum("nhk,h->nk", masks.sum(axis=2, dtype=np.float64), rows) / filled
    x = np.einsum("nwk,w->nk", masks.sum(axis=1, dtype=np.float64), columns) / filled
    return np.concatenate([np.sqrt(area / (height * width)), y, x], axis=1)


def joined(features: np.ndarray, masks: np.ndarray | None, mask_weight: float) -> np.ndarray:
    """Return what is clustered, (N, d) float64: features and mask facts, each block of total standard deviation 1.

    Each mask fact counts alike (divided by its own standard deviation); their block is scaled by `mask_weight`.
    """
    image = features - features.mean(axis=0, dtype=np.float64)
    blocks = [image / max(float(np.sqrt(image.var(axis=0).sum())), 1e-12)]
    if masks is not None and mask_weight > 0:
        facts = mask_facts(masks)
        spread = facts.std(axis=0)
        varied = spread > 0
        if varied.any():
            own = (facts - facts.mean(axis=0))[:, varied] / spread[varied]
            blocks.append(mask_weight * own / np.sqrt(varied.sum()))
    return np.concatenate(blocks, axis=1)


def divide(points: np.ndarray, options: Clusters, seed: int, place: str) -> Division:
    """Return the clusters of points (N, d).

    Raises SynthGainError where there are fewer points than clusters, too many equal ones, or a tiny cluster and the
    rule is to refuse.
    """
    count, k = len(points), options.k
    if k > count:
        raise SynthGainError(f"{place}.k: {k} clusters of {count} training images; take k of {count} or less")
    different = len(np.unique(points, axis=0))
    if k > different:
        raise SynthGainError(f"{place}.k: {k} clusters of {different} different images; take k of {different} or less")
    with threadpool_limits(1):  # sums in one order, whatever the number of cores
        found = KMeans(k, n_init=STARTS, random_state=seed % 2**32).fit(points)
    sizes = np.bincount(found.labels_, minlength=k)
    first = np.array([int(np.flatnonzero(found.labels_ == number)[0]) for number in range(k)])
    order = np.lexsort([first, -sizes])
    labels = np.argsort(order)[found.labels_].astype(np.int64)
    centres = np.asarray(found.cluster_centers_, dtype=np.float64)[order]
    distance = np.linalg.norm(points - centres[labels], axis=1)
    return Division(labels, _joined_tiny(centres, np.bincount(labels, minlength=k), options, place), distance)


def _joined_tiny(centres: np.ndarray, sizes: np.ndarray, options: Clusters, place: str) -> np.ndarray:
    """Return (k,) which clusters train together: the smallest joins the nearest until none is tiny."""
    group = np.arange(len(sizes))
    tiny = np.flatnonzero(sizes < options.smallest)
    if len(tiny) and options.rule == "refuse":
        listed = ", ".join(f"cluster {number} has {sizes[number]}" for number in tiny)
        raise SynthGainError(f"{place}: {listed}, below smallest: {options.smallest}; take a smaller k, or rule: merge")
    while len(np.unique(group)) > 1:
        names = np.unique(group)
        totals = np.array([sizes[group == name].sum() for name in names])
        if totals.min() >= options.smallest:
            break
        middles = np.stack([np.average(centres[group == n], axis=0, weights=sizes[group == n]) for n in names])
        small = int(totals.argmin())
        away = np.linalg.norm(middles - middles[small], axis=1)
        away[small] = np.inf
        group[group == names[small]] = names[int(away.argmin())]
    return group
