"""Agreement of readers: of several on one image, and of one reader with themselves.

Answers are a matrix (N, R) of whole numbers, NaN where a reader did not see an image. Formulas: Gwet, Handbook of
Inter-Rater Reliability, 4th edition 2014 (AC1, AC2, Fleiss' kappa with missing answers); Fleiss, Psychol Bull
1971;76:378; Krippendorff, Content Analysis, 2nd edition 2004 (alpha); Cohen, Psychol Bull 1968;70:213.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sklearn.metrics import cohen_kappa_score


class Measure(Protocol):
    """Agreement of answers (N, R) in these categories (Q,)."""

    def __call__(self, answers: np.ndarray, categories: np.ndarray) -> float: ...


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over images (bootstrap, percentiles); NaN where it is not defined."""

    value: float
    low: float
    high: float
    images: int


def linear_weights(categories: np.ndarray) -> np.ndarray:
    """Return (Q, Q) weights 1 − |k − l| / (largest difference) of Q ordered categories; of one category just 1."""
    span = float(categories.max() - categories.min())
    distance = np.abs(categories[:, None] - categories[None, :])
    return 1 - distance / span if span else np.ones((len(categories), len(categories)))


def percent_agreement(answers: np.ndarray, categories: np.ndarray) -> float:
    """Return the share of pairs of readers who gave an image the same answer, the mean over images."""
    return _observed(_counts(answers, categories), np.eye(len(categories)))


def fleiss_kappa(answers: np.ndarray, categories: np.ndarray) -> float:
    """Return Fleiss' kappa, with missing answers as Gwet has it; NaN where all answers are one category."""
    counts = _counts(answers, categories)
    shares = _shares(counts)
    return _beyond_chance(_observed(counts, np.eye(len(categories))), float(shares @ shares))


def gwet_ac1(answers: np.ndarray, categories: np.ndarray) -> float:
    """Return Gwet's AC1: agreement beyond chance that skewed answers do not drive to 0."""
    return _gwet(answers, categories, np.eye(len(categories)))


def gwet_ac2(answers: np.ndarray, categories: np.ndarray) -> float:
    """Return Gwet's AC2 with linear weights: near answers agree in part."""
    return _gwet(answers, categories, linear_weights(categories))


def krippendorff_alpha(answers: np.ndarray, categories: np.ndarray) -> float:
    """Return Krippendorff's ordinal alpha; NaN where fewer than two categories were used."""
    counts = _counts(answers, categories)
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return float("nan")
    coincidences = np.zeros((len(categories), len(categories)))
    for row in counts:
        coincidences += (np.outer(row, row) - np.diag(row)) / (row.sum() - 1)
    totals = coincidences.sum(axis=1)
    running = np.cumsum(totals)
    between = running[None, :] - running[:, None] + totals[:, None]  # answers from category k to l, both with them
    distance = np.triu(between - (totals[:, None] + totals[None, :]) / 2, 1) ** 2
    distance += distance.T
    expected = float((np.outer(totals, totals) * distance).sum()) / (totals.sum() - 1)
    return 1 - float((coincidences * distance).sum()) / expected if expected > 0 else float("nan")


def intra_reader_kappa(answers: np.ndarray, categories: np.ndarray) -> float:
    """Return Cohen's kappa with linear weights of a reader's two answers (N, 2) to the same images."""
    if len(answers) < 2 or len(np.unique(answers)) < 2:
        return float("nan")
    first, second = answers.astype(int).T
    return float(cohen_kappa_score(first, second, labels=categories.astype(int), weights="linear"))


MEASURES: Mapping[str, Measure] = {
    "percent_agreement": percent_agreement,
    "fleiss_kappa": fleiss_kappa,
    "gwet_ac1": gwet_ac1,
    "gwet_ac2": gwet_ac2,
    "krippendorff_alpha": krippendorff_alpha,
}


def with_interval(
    measure: Callable[[np.ndarray], float], answers: np.ndarray, rng: np.random.Generator, resamples: int = 1000
) -> Estimate:
    """Return `measure` of the rows of `answers` (N, …) with a 95 % interval over resampled rows.

    The interval is NaN with fewer than 10 rows: a bootstrap of so few has no level to speak of.
    """
    value, rows = measure(answers), len(answers)
    if rows < 10:
        return Estimate(value, float("nan"), float("nan"), rows)
    drawn = np.array([measure(answers[rng.integers(0, rows, rows)]) for _ in range(resamples)])
    if np.isnan(drawn).mean() > 0.05:
        return Estimate(value, float("nan"), float("nan"), rows)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), rows)


def _counts(answers: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Return (N, Q): how many readers put each image into each category. ValueError for an answer outside them."""
    counts = (answers[:, :, None] == categories[None, None, :]).sum(axis=1).astype(float)
    if counts.sum() != np.isfinite(answers).sum():
        raise ValueError(f"an answer is none of {categories.tolist()}")
    return counts


def _observed(counts: np.ndarray, weights: np.ndarray) -> float:
    readers = counts.sum(axis=1)
    pairs = counts[readers >= 2]
    if not len(pairs):
        return float("nan")
    readers = readers[readers >= 2]
    agreeing = (pairs * (pairs @ weights.T - 1)).sum(axis=1)
    return float((agreeing / (readers * (readers - 1))).mean())


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return (Q,): the mean over images of the share of readers in each category."""
    readers = counts.sum(axis=1)
    seen = counts[readers > 0] / readers[readers > 0, None]
    return np.asarray(seen.mean(axis=0)) if len(seen) else np.full(counts.shape[1], np.nan)


def _gwet(answers: np.ndarray, categories: np.ndarray, weights: np.ndarray) -> float:
    counts, number = _counts(answers, categories), len(categories)
    if number < 2:
        return float("nan")
    shares = _shares(counts)
    chance = float(weights.sum()) / (number * (number - 1)) * float((shares * (1 - shares)).sum())
    return _beyond_chance(_observed(counts, weights), chance)


def _beyond_chance(observed: float, chance: float) -> float:
    return (observed - chance) / (1 - chance) if chance < 1 else float("nan")
