"""Metrics that are ratios of patient sums, or means of such ratios: the parts behind one label, for every run."""

import numpy as np

from synthgain.statistics.predictions import Panel
from synthgain.statistics.resampling import patient_sums

FAILURE_DICE = 0.5  # a segmentation below it counts as failed (method literature's usual cut)

Parts = list[tuple[np.ndarray, np.ndarray]]  # numerators and denominators, (R, P) patient sums each


def sensitivity(panel: Panel, label: int, decided: np.ndarray) -> Parts:
    """Hits over positives; decided: (R, N) bool."""
    hits, _, positives, _ = _counts(panel, label, decided)
    return [(hits, positives)]


def specificity(panel: Panel, label: int, decided: np.ndarray) -> Parts:
    """Rejected over negatives; decided: (R, N) bool."""
    _, alarms, _, negatives = _counts(panel, label, decided)
    return [(negatives - alarms, negatives)]


def balanced_accuracy(panel: Panel, label: int, decided: np.ndarray) -> Parts:
    """Mean of sensitivity and specificity; decided: (R, N) bool."""
    return [*sensitivity(panel, label, decided), *specificity(panel, label, decided)]


def accuracy(panel: Panel, label: int, decided: np.ndarray) -> Parts:
    """Share of right decisions; decided: (R, N) bool."""
    hits, alarms, positives, negatives = _counts(panel, label, decided)
    return [(hits + negatives - alarms, positives + negatives)]


def f1(panel: Panel, label: int, decided: np.ndarray) -> Parts:
    """F1 = 2 TP / (2 TP + FP + FN); decided: (R, N) bool."""
    hits, alarms, positives, _ = _counts(panel, label, decided)
    return [(2 * hits, hits + alarms + positives)]


def brier(panel: Panel, label: int) -> Parts:
    """Mean squared difference of probability and truth, over images with a known label."""
    truth = panel.truth[label]
    known = ~np.isnan(truth)
    squared = (panel.scores[:, label, known].astype(np.float64) - truth[known]) ** 2
    total = patient_sums(squared, panel.patient[known], panel.patients)
    count = patient_sums(np.ones((1, int(known.sum()))), panel.patient[known], panel.patients)
    return [(total, np.broadcast_to(count, total.shape))]


def dice(panel: Panel, label: int) -> Parts:
    """Dice of images that hold the structure."""
    return _of_present(panel, label, panel.image_scores["dice"][:, label])


def iou(panel: Panel, label: int) -> Parts:
    """Intersection over union of images that hold the structure."""
    return _of_present(panel, label, panel.image_scores["iou"][:, label])


def nsd(panel: Panel, label: int) -> Parts:
    """Normalised surface Dice of images that hold the structure."""
    return _of_present(panel, label, panel.image_scores["nsd"][:, label])


def hd95(panel: Panel, label: int) -> Parts:
    """95 % Hausdorff distance in px of images that hold the structure; one that is not found counts as the diagonal."""
    return _of_present(panel, label, panel.image_scores["hd95"][:, label])


def failure_rate(panel: Panel, label: int) -> Parts:
    """Share of images that hold the structure with a Dice below FAILURE_DICE."""
    source = panel.image_scores["dice"][:, label]
    return _of_present(panel, label, source, source < FAILURE_DICE)


def empty_false_positive_rate(panel: Panel, label: int) -> Parts:
    """Share of images without the structure where one is drawn."""
    chosen = panel.image_scores["truth_empty"][0, label] == 1
    return _patient_means(panel, 1 - panel.image_scores["predicted_empty"][:, label], chosen)


def _counts(panel: Panel, label: int, decided: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Patient sums (R, P) of hits, false alarms, positives, negatives."""
    positive, negative = panel.truth[label] == 1, panel.truth[label] == 0
    hits, alarms, positives, negatives = (
        patient_sums(values, panel.patient, panel.patients)
        for values in (decided & positive, decided & negative, positive[None], negative[None])
    )
    return hits, alarms, np.broadcast_to(positives, hits.shape), np.broadcast_to(negatives, hits.shape)


def _of_present(panel: Panel, label: int, source: np.ndarray, values: np.ndarray | None = None) -> Parts:
    """Mean over images that hold the structure, the same in every run: no arm's misses move another arm's images.

    A run without a score for one of them has no value itself.
    """
    chosen = panel.image_scores["truth_empty"][0, label] == 0
    known = source if values is None else np.where(np.isfinite(source), values, np.nan)
    return _patient_means(panel, known, chosen)


def _patient_means(panel: Panel, values: np.ndarray, chosen: np.ndarray) -> Parts:
    """Mean per patient, then over patients."""
    total = patient_sums(values[:, chosen], panel.patient[chosen], panel.patients)
    count = patient_sums(np.ones((1, int(chosen.sum()))), panel.patient[chosen], panel.patients)
    means = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return [(means, np.broadcast_to((count > 0).astype(np.float64), means.shape))]
