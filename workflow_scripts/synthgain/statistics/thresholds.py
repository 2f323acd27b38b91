"""Operating points, from real validation predictions only, then frozen.

Three policies per arm, replicate and label: `fixed_0.5`, `f1_max` (median over patient resamples of validation,
since few positives make a single maximum noisy), `target_sensitivity`. Multi-class sets use `argmax`.
"""

import numpy as np

from synthgain.statistics.predictions import Panel
from synthgain.statistics.resampling import bootstrap_weights

F1_RESAMPLES = 200  # the median threshold is stable to about a tenth of its own spread
FIXED, F1_MAX, TARGET_SENSITIVITY, ARGMAX = "fixed_0.5", "f1_max", "target_sensitivity", "argmax"


def fit_thresholds(
    validation: Panel, policy: str, target_sensitivity: float, random: np.random.Generator
) -> np.ndarray:
    """Thresholds (R, L): an image is called positive where score >= threshold.

    Without both classes in validation nothing can be fitted: such labels get 0.5.
    """
    runs, labels, _ = validation.scores.shape
    thresholds = np.full((runs, labels), 0.5)
    if policy == FIXED:
        return thresholds
    if policy not in (F1_MAX, TARGET_SENSITIVITY):
        raise ValueError(f"threshold policy must be {FIXED}, {F1_MAX} or {TARGET_SENSITIVITY}, got {policy!r}")
    weights = bootstrap_weights(validation.patients, F1_RESAMPLES, random)[:, validation.patient]
    for label in range(labels):
        truth = validation.truth[label]
        known = ~np.isnan(truth)
        if not ((truth == 1).any() and (truth == 0).any()):
            continue
        for run in range(runs):
            score = validation.scores[run, label, known].astype(np.float64)
            if policy == F1_MAX:
                thresholds[run, label] = f1_threshold(truth[known], score, weights[:, known])
            else:
                thresholds[run, label] = sensitivity_threshold(truth[known], score, target_sensitivity)
    return thresholds


def f1_threshold(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> float:
    """Median over resamples of the threshold of largest F1.

    truth, score: (N,); weights: (B, N). A threshold lies halfway between neighbouring scores, so that a
    change of rounding does not move an image across it.
    """
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    weight = weights[:, order]
    true_positive = np.cumsum(weight * (truth[order] == 1), axis=1)
    flagged = np.cumsum(weight, axis=1)
    f1 = (2 * true_positive / np.maximum(flagged + true_positive[:, -1:], 1e-12))[:, last]
    levels = ranked[last]
    halfway = np.append((levels[1:] + levels[:-1]) / 2, levels[-1])
    return float(np.median(halfway[np.argmax(f1, axis=1)]))


def sensitivity_threshold(truth: np.ndarray, score: np.ndarray, target: float) -> float:
    """The largest threshold whose sensitivity is at least `target`; truth, score: (N,)."""
    positives = np.sort(score[truth == 1])[::-1]
    needed = int(np.ceil(target * len(positives) - 1e-9))
    return float(positives[max(needed, 1) - 1])


def apply_thresholds(panel: Panel, thresholds: np.ndarray) -> np.ndarray:
    """Decisions (R, L, N) bool from thresholds (R, L)."""
    return panel.scores.astype(np.float64) >= thresholds[:, :, None]


def argmax_decisions(panel: Panel) -> np.ndarray:
    """Decisions (R, L, N) bool: the label of largest score, the first of equals."""
    decisions = np.zeros(panel.scores.shape, dtype=bool)
    np.put_along_axis(decisions, panel.scores.argmax(axis=1)[:, None, :], True, axis=1)
    return decisions
