"""Operating points, from real validation predictions only, then frozen.

Their own uncertainty counts: a threshold that other validation patients would have moved moves the metric on the test
set (`Fitted.draws`), for all seeds of an arm alike. Three policies per arm, replicate and label: `fixed_0.5`, `f1_max`
(median over patient resamples of validation, since few positives make a single maximum noisy), `target_sensitivity`.
Multi-class sets use `argmax`.
"""

from dataclasses import dataclass

import numpy as np

from synthgain.statistics.predictions import Panel
from synthgain.statistics.resampling import bootstrap_weights

F1_RESAMPLES = 200  # the median threshold is stable to about a tenth of its own spread
FIXED, F1_MAX, TARGET_SENSITIVITY, ARGMAX = "fixed_0.5", "f1_max", "target_sensitivity", "argmax"


@dataclass(frozen=True)
class Fitted:
    """Thresholds (R, L); draws (B, R, L): what they would be on other validation patients, None where none is fitted.

    The draws are paired: draw b is the same resample of patients for every run and label of one validation set.
    """

    thresholds: np.ndarray
    draws: np.ndarray | None = None


def fit_thresholds(validation: Panel, policy: str, target_sensitivity: float, random: np.random.Generator) -> Fitted:
    """Thresholds of every run and label: an image is called positive where score >= threshold.

    Without both classes in validation nothing can be fitted: such labels get 0.5.
    """
    runs, labels, _ = validation.scores.shape
    thresholds = np.full((runs, labels), 0.5)
    if policy == FIXED:
        return Fitted(thresholds)
    if policy not in (F1_MAX, TARGET_SENSITIVITY):
        raise ValueError(f"threshold policy must be {FIXED}, {F1_MAX} or {TARGET_SENSITIVITY}, got {policy!r}")
    weights = bootstrap_weights(validation.patients, F1_RESAMPLES, random)[:, validation.patient]
    draws = np.full((F1_RESAMPLES, runs, labels), 0.5)
    for label in range(labels):
        truth = validation.truth[label]
        known = ~np.isnan(truth)
        if not ((truth == 1).any() and (truth == 0).any()):
            continue
        for run in range(runs):
            score = validation.scores[run, label, known].astype(np.float64)
            if policy == F1_MAX:
                drawn = f1_thresholds(truth[known], score, weights[:, known])
                thresholds[run, label] = np.median(drawn)
            else:
                drawn = sensitivity_thresholds(truth[known], score, target_sensitivity, weights[:, known])
                everyone = np.ones((1, len(score)))
                thresholds[run, label] = sensitivity_thresholds(truth[known], score, target_sensitivity, everyone)[0]
            draws[:, run, label] = drawn
    return Fitted(thresholds, draws)


def f1_thresholds(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The threshold of largest F1 in each resample: (B,); their median is the policy's.

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
    result: np.ndarray = halfway[np.argmax(f1, axis=1)]
    return result


def sensitivity_thresholds(truth: np.ndarray, score: np.ndarray, target: float, weights: np.ndarray) -> np.ndarray:
    """The largest threshold whose sensitivity is at least `target` in each resample: (B,); weights: (B, N).

    A resample without positives gets that of all positives.
    """
    positive = truth == 1
    order = np.argsort(-score[positive], kind="stable")
    ranked = score[positive][order]
    found = np.cumsum(weights[:, positive][:, order], axis=1)
    needed = target * found[:, -1:] - 1e-9
    first = np.where(found[:, -1] > 0, np.argmax(found >= np.maximum(needed, 1e-9), axis=1), len(ranked) - 1)
    result: np.ndarray = ranked[first]
    return result


def apply_thresholds(panel: Panel, thresholds: np.ndarray) -> np.ndarray:
    """Decisions (R, L, N) bool from thresholds (R, L)."""
    return panel.scores.astype(np.float64) >= thresholds[:, :, None]


def argmax_decisions(panel: Panel) -> np.ndarray:
    """Decisions (R, L, N) bool: the label of largest score, the first of equals."""
    decisions = np.zeros(panel.scores.shape, dtype=bool)
    np.put_along_axis(decisions, panel.scores.argmax(axis=1)[:, None, :], True, axis=1)
    return decisions
