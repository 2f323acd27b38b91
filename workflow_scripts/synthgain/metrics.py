"""Metrics as pure functions of truth and score (NumPy; SciPy for distances between masks).

Truth is 0/1 (NaN = unknown: such images are left out), scores are probabilities or logits. A metric that
is not defined (one class only, no image) is NaN, never 0.
"""

import numpy as np

HD_QUANTILE = 0.95  # of HD95


def auroc_rows(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each row of scores, by mid-ranks (ties count one half).

    truth: (N,) in {0, 1}; scores: (R, N). Returns (R,) float64, NaN where truth holds one class only.
    """
    positive = np.asarray(truth) == 1
    scores = np.atleast_2d(scores)
    count, negatives = int(positive.sum()), int((~positive).sum())
    if count == 0 or negatives == 0:
        return np.full(len(scores), np.nan)
    ranks = average_ranks(scores)
    return (ranks[:, positive].sum(axis=1) - count * (count + 1) / 2) / (count * negatives)


def average_ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks 1 … N along the rows of (R, N) scores, ties at their mean: scipy.stats.rankdata(scores, axis=1).

    Written here because importing scipy.stats takes longer than a small training's validation.
    """
    order = np.argsort(scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)
    positions = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    change = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(scores), 1), dtype=bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, change]), positions, 0), axis=1)
    ends = np.where(np.hstack([change, edge]), positions, scores.shape[1])
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    return ranks


def auroc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; truth (N,) in {0, 1, NaN}, score (N,)."""
    known = _known(truth)
    return float(auroc_rows(np.asarray(truth)[known], np.asarray(score)[known])[0])


def macro_auroc(truth: np.ndarray, score: np.ndarray) -> float:
    """Mean AUROC over the labels (columns) that hold both classes; NaN where none does.

    truth, score: (N, L). With one-hot truth this is the macro one-vs-rest AUROC.
    """
    values = [auroc(truth[:, label], score[:, label]) for label in range(np.shape(truth)[1])]
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    """Average precision (step-wise area under precision–recall); truth (N,) in {0, 1, NaN}, score (N,)."""
    known = _known(truth)
    labels = np.asarray(truth)[known]
    if not (labels == 1).any():
        return float("nan")
    return float(weighted_average_precision(labels, np.asarray(score)[known], np.ones((1, len(labels))))[0])


def weighted_average_precision(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision under each row of image weights, ties in the score taken together.

    truth, score: (N,); weights: (B, N) non-negative. Returns (B,).
    """
    order = np.argsort(-np.asarray(score), kind="stable")
    sorted_score = np.asarray(score)[order]
    last = np.append(sorted_score[1:] != sorted_score[:-1], True)  # last image of each run of equal scores
    weight = weights[:, order]
    true_positive = np.cumsum(weight * (np.asarray(truth)[order] == 1), axis=1)[:, last]
    flagged = np.cumsum(weight, axis=1)[:, last]
    precision = np.divide(true_positive, flagged, out=np.zeros_like(true_positive), where=flagged > 0)
    gained = np.diff(true_positive, axis=1, prepend=0.0)
    total = true_positive[:, -1]
    return np.divide((precision * gained).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def confusion(truth: np.ndarray, predicted: np.ndarray) -> tuple[int, int, int, int]:
    """Return (true positives, false positives, false negatives, true negatives); unknown truth is left out."""
    known = _known(truth)
    is_true, flagged = np.asarray(truth)[known] == 1, np.asarray(predicted)[known].astype(bool)
    return (
        int((is_true & flagged).sum()),
        int((~is_true & flagged).sum()),
        int((is_true & ~flagged).sum()),
        int((~is_true & ~flagged).sum()),
    )


def sensitivity(truth: np.ndarray, predicted: np.ndarray) -> float:
    """True positives / positives."""
    hits, _, missed, _ = confusion(truth, predicted)
    return _ratio(hits, hits + missed)


def specificity(truth: np.ndarray, predicted: np.ndarray) -> float:
    """True negatives / negatives."""
    _, alarms, _, rejected = confusion(truth, predicted)
    return _ratio(rejected, rejected + alarms)


def f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F1 = 2 TP / (2 TP + FP + FN)."""
    hits, alarms, missed, _ = confusion(truth, predicted)
    return _ratio(2 * hits, 2 * hits + alarms + missed)


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of right decisions."""
    hits, alarms, missed, rejected = confusion(truth, predicted)
    return _ratio(hits + rejected, hits + alarms + missed + rejected)


def balanced_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of sensitivity and specificity."""
    return (sensitivity(truth, predicted) + specificity(truth, predicted)) / 2


def brier(truth: np.ndarray, score: np.ndarray) -> float:
    """Mean squared difference of probability and truth."""
    known = _known(truth)
    if not known.any():
        return float("nan")
    return float(np.mean((np.asarray(score, dtype=np.float64)[known] - np.asarray(truth)[known]) ** 2))


def dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Dice coefficient of two masks of equal shape; NaN where both are empty, 0 where one is."""
    both = np.logical_and(truth, predicted).sum()
    return _ratio(2 * int(both), int(np.count_nonzero(truth)) + int(np.count_nonzero(predicted)))


def iou(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Intersection over union of two masks of equal shape; NaN where both are empty, 0 where one is."""
    return _ratio(int(np.logical_and(truth, predicted).sum()), int(np.logical_or(truth, predicted).sum()))


def surface_distances(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances in px from each edge pixel of one mask to the nearest of the other: those of predicted, of truth.

    truth, predicted: (H, W), neither empty. An edge pixel is set and touches an unset one (or the image's border)
    along a row or column. Distances are exact and Euclidean (scipy.ndimage), as in MONAI's surface metrics.
    """
    from scipy import ndimage  # here, so that classification jobs do not wait for it

    rows, columns = np.nonzero(np.logical_or(truth, predicted))
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]  # edges lie inside it
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (np.asarray(m, bool)[box] for m in (truth, predicted))]
    to_truth, to_predicted = (ndimage.distance_transform_edt(~edge) for edge in edges)
    return to_truth[edges[1]], to_predicted[edges[0]]


def mask_scores(truth: np.ndarray, predicted: np.ndarray, tolerance: float) -> dict[str, float]:
    """Dice, IoU, NSD at `tolerance` px, and HD95 in px of two (H, W) masks.

    NSD: share of edge pixels of either mask within `tolerance` of the other's edge (Nikolov et al. 2021). HD95: the
    larger of the two directions' 95th percentiles. Where a mask is empty (method.md §2.4, MONAI's defaults):

    | case                           | dice | iou | nsd | hd95 |
    | truth empty, predicted not     | NaN  | NaN | 0   | NaN  |
    | both empty                     | NaN  | NaN | NaN | NaN  |
    | predicted empty, truth not     | 0    | 0   | 0   | NaN  |
    """
    present, found = bool(np.any(truth)), bool(np.any(predicted))
    if not present:
        return {"dice": np.nan, "iou": np.nan, "nsd": 0.0 if found else np.nan, "hd95": np.nan}
    if not found:
        return {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "hd95": np.nan}
    sides = surface_distances(truth, predicted)
    return {
        "dice": dice(truth, predicted),
        "iou": iou(truth, predicted),
        "nsd": float(np.mean(np.concatenate(sides) <= tolerance)),
        "hd95": float(max(np.quantile(side, HD_QUANTILE) for side in sides)),
    }


def _known(truth: np.ndarray) -> np.ndarray:
    return ~np.isnan(np.asarray(truth, dtype=np.float64))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
