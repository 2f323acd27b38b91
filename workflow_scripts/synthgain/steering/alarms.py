"""What steering may do wrong, measured beside each round: scores above real ones, less spread, less recall, copies."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from synthgain.data.pixels import to_signed
from synthgain.evaluation.distances import NEIGHBOURS, prdc, squared_distances
from synthgain.steering.scores import CrossFitted

LEAST_SPREAD = 0.9  # of the spread within a class, of the unsteered samples or of real images, the smaller
NEAREST_QUANTILE = 0.01  # of real images' distances: what lies nearer to a training image counts as a copy
SIDE = 16  # px at which copies are sought
MOST_COMPARED = 2000  # training images, for the quantile
EXACT = "donot_use_mm_for_euclid_dist"  # by products, the distance of an image to itself is not 0
RECALLED = 500  # images of each kind, for the recall
TWO_SIGMA = 2.0


@dataclass(frozen=True)
class Drawn:
    """Images (N, C, H, W) uint8 with scores (N,), NaN where there is none, and the condition (N,) of each."""

    images: Tensor
    scores: np.ndarray
    condition: np.ndarray


def measured(own: Drawn, real: Drawn, scorer: CrossFitted, channels: int) -> dict[str, float]:
    """Return what is printed of a round's samples.

    score, real_score: means in 0 … 1, the real one with the samples' shares of conditions; score_se; spread,
    real_spread: mean over conditions of the root mean variance of features; recall: share of real images that lie among
    the samples; copies: share of samples; samples, recalled: how many.
    """
    known = _scored(real)
    views = [(j.features(own.images[:, :channels]), j.features(known.images[:, :channels])) for j in scorer.judges]
    values = scorer.unit(own.scores[np.isfinite(own.scores)])
    return {
        "score": float(values.mean()) if len(values) else float("nan"),
        "score_se": float(values.std() / max(len(values), 1) ** 0.5),
        "real_score": _like(real, own.condition, scorer),
        "spread": float(np.mean([_spread(ours, own.condition) for ours, _ in views])),
        "real_spread": float(np.mean([_spread(theirs, known.condition) for _, theirs in views])),
        "recall": float(np.mean([_recall(ours, theirs) for ours, theirs in views])),
        "recalled": float(min(RECALLED, len(own.scores), len(known.scores))),
        "copies": _copies(own.images[:, :channels], real.images[:, :channels]),
        "samples": float(len(own.scores)),
    }


def raised(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Return a sentence for each alarm of the samples after steering, against the unsteered ones before."""
    found = []
    if after["score"] > after["real_score"] + TWO_SIGMA * after["score_se"]:
        found.append(
            f"score above real: samples score {after['score']:.3f}, real images {after['real_score']:.3f}; "
            "what is steered for is overdone"
        )
    # A generator that mixes the classes up is spread wider than reality: what is wanted is then the real spread.
    wanted = min(before["spread"], after["real_spread"])
    if after["spread"] < LEAST_SPREAD * wanted:
        found.append(
            f"less spread: within a class {after['spread'] / wanted:.2f} of what it was, or is in real images, below "
            f"{LEAST_SPREAD}"
        )
    noise = (2 * before["recall"] * (1 - before["recall"]) / after["recalled"]) ** 0.5 if after["recalled"] else 0.0
    if after["recall"] < before["recall"] - TWO_SIGMA * noise:
        found.append(
            f"recall down: {after['recall']:.3f} of the real images lie among the samples, "
            f"{before['recall']:.3f} before; "
            "kinds of images are lost"
        )
    noise = (before["copies"] * (1 - before["copies"]) / before["samples"]) ** 0.5
    if after["copies"] > before["copies"] + TWO_SIGMA * noise + 1 / after["samples"]:
        found.append(f"copies up: {after['copies']:.3f} of the samples, {before['copies']:.3f} before")
    return found


def _like(real: Drawn, conditions: np.ndarray, scorer: CrossFitted) -> float:
    """Return the mean real score, conditions weighted as among the samples."""
    total, weight = 0.0, 0.0
    for condition, count in zip(*np.unique(conditions, return_counts=True), strict=True):
        inside = (real.condition == condition) & np.isfinite(real.scores)
        if inside.any():
            total, weight = total + count * float(scorer.unit(real.scores[inside]).mean()), weight + count
    return total / weight if weight else float("nan")


def _spread(features: np.ndarray, conditions: np.ndarray) -> float:
    """Return the mean over conditions of the features' standard deviation within a condition; NaN without any."""
    parts = [features[conditions == condition] for condition in np.unique(conditions)]
    found = [float(part.var(axis=0, ddof=1).mean() ** 0.5) for part in parts if len(part) > 1]
    return float(np.mean(found)) if found else float("nan")


def _recall(own: np.ndarray, real: np.ndarray) -> float:
    """Return Kynkäänniemi's recall of equally many samples and real images; NaN where there are too few."""
    count = min(RECALLED, len(own), len(real))
    if count <= NEIGHBOURS:
        return float("nan")
    ours, theirs = (side[np.linspace(0, len(side) - 1, count).astype(int)] for side in (own, real))
    pairs = squared_distances(theirs, theirs), squared_distances(ours, ours), squared_distances(theirs, ours)
    return prdc(*pairs)["recall"]


def _scored(drawn: Drawn) -> Drawn:
    """Return those with a score; rows of unknown condition have none, and are no class of their own."""
    known = np.flatnonzero(np.isfinite(drawn.scores))
    return Drawn(drawn.images[torch.from_numpy(known)], drawn.scores[known], drawn.condition[known])


def _copies(own: Tensor, real: Tensor) -> float:
    """Return the share of samples nearer to a training image than NEAREST_QUANTILE of these are to each other."""
    ours, theirs = _small(own), _small(real)
    some = theirs[torch.linspace(0, len(theirs) - 1, min(len(theirs), MOST_COMPARED)).long()]
    distance = torch.cdist(some, theirs, compute_mode=EXACT)
    distance[distance <= 0] = float("inf")  # itself, and twins
    limit = torch.quantile(distance.min(dim=1).values, NEAREST_QUANTILE)
    return float((torch.cdist(ours, theirs, compute_mode=EXACT).min(dim=1).values < limit).double().mean())


def _small(images: Tensor) -> Tensor:
    side = min(SIDE, images.shape[-1])
    return functional.adaptive_avg_pool2d(to_signed(images), side).flatten(1)
