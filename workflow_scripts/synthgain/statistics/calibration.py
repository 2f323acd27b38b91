"""Calibration of probabilities, before and after correction for the training prevalence."""

import numpy as np
import pandas as pd

from synthgain.statistics.predictions import Panel

ECE_BINS = 10  # equally filled, so that no bin is empty at low prevalence
NEWTON_STEPS = 50
FLOOR_DRAWS = 20
MAX_SLOPE = 50.0  # beyond it the classes are separated and no finite slope exists
CLIP = 1e-6  # probabilities of exactly 0 or 1 have no logit
KEYS = ["arm", "ratio", "dataset", "label", "correction"]
MEASURED = ["brier", "slope", "intercept", "ece", "ece_floor", "shift"]
COLUMNS = [*KEYS, "replicates", *MEASURED]


def logit(probability: np.ndarray) -> np.ndarray:
    """Log odds of (N,) probabilities, clipped away from 0 and 1."""
    clipped = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1 - CLIP)
    return np.log(clipped / (1 - clipped))


def sigmoid(value: np.ndarray) -> np.ndarray:
    """Inverse of `logit`."""
    return 1 / (1 + np.exp(-value))


def recalibration(truth: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Calibration slope (logistic regression of truth on logit(score)) and intercept (slope fixed at 1).

    A perfect model has slope 1 and intercept 0; a slope below 1 means overconfidence. truth, score: (N,).
    NaN where the classes are separated.
    """
    x = logit(score)
    _, slope = _newton(np.stack([np.ones_like(x), x]), truth, np.zeros_like(x))
    return slope, intercept_at_slope_one(truth, x)


def intercept_at_slope_one(truth: np.ndarray, log_odds: np.ndarray) -> float:
    """Shift of the log odds after which the mean probability equals the prevalence (calibration in the large)."""
    return _newton(np.ones((1, len(log_odds))), truth, log_odds)[0]


def expected_calibration_error(truth: np.ndarray, score: np.ndarray, bins: int = ECE_BINS) -> float:
    """Mean |observed share − mean probability| over equally filled bins of the score; truth, score: (N,)."""
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(float(truth[part].mean()) - float(score[part].mean())) for part in parts]
    return float(sum(gaps) / len(truth))


def calibration_error_floor(score: np.ndarray, bins: int = ECE_BINS) -> float:
    """ECE that a perfectly calibrated model of these scores (N,) shows by chance: truths drawn from the scores.

    It is far above 0 in small sets (.07 with 200 images), so that an ECE says nothing without it. Images are taken as
    independent: with several per patient the floor is higher still.
    """
    random = np.random.default_rng(0)
    draws = random.random((FLOOR_DRAWS, len(score))) < score
    return float(np.mean([expected_calibration_error(draw.astype(np.float64), score, bins) for draw in draws]))


def prior_shift(target_prevalence: float, training_prevalence: float) -> float:
    """b = logit(π_target) − logit(π_train): the shift of log odds that moves a model to another prevalence."""
    return float(logit(np.array(target_prevalence)) - logit(np.array(training_prevalence)))


def calibration_table(panel: Panel, labels: list[int], validation: dict[str, Panel]) -> pd.DataFrame:
    """`calibration.csv`: means over replicates, per arm, ratio, label, without and with prior correction.

    The correction shifts the log odds so that the mean probability on the arm's real validation part equals the
    prevalence there: it undoes a training prevalence moved by synthesis, and is frozen before the test set is read.
    """
    rows = []
    for run, (arm, ratio, replicate) in enumerate(panel.runs.itertuples(index=False)):
        own = validation[arm]
        at = own.runs.index[(own.runs["ratio"] == ratio) & (own.runs["replicate"] == replicate)][0]
        for label in labels:
            name = panel.labels[label]
            place = own.labels.index(name)
            known = ~np.isnan(own.truth[place])
            shift = intercept_at_slope_one(own.truth[place][known], logit(own.scores[at, place][known]))
            known = ~np.isnan(panel.truth[label])
            truth, score = panel.truth[label][known].astype(np.float64), panel.scores[run, label][known]
            for correction, moved in (("none", 0.0), ("prior", shift)):
                probability = sigmoid(logit(score) + moved)
                slope, intercept = recalibration(truth, probability)
                rows.append(
                    {
                        "arm": arm,
                        "ratio": ratio,
                        "dataset": panel.dataset,
                        "label": name,
                        "correction": correction,
                        "replicates": replicate,
                        "brier": float(np.mean((probability - truth) ** 2)),
                        "slope": slope,
                        "intercept": intercept,
                        "ece": expected_calibration_error(truth, probability),
                        "ece_floor": calibration_error_floor(probability),
                        "shift": moved,
                    }
                )
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    measured = {name: (name, "mean") for name in MEASURED}
    grouped = pd.DataFrame(rows).groupby(KEYS, sort=False)
    return grouped.agg(replicates=("replicates", "size"), **measured).reset_index()[COLUMNS]


def _newton(design: np.ndarray, truth: np.ndarray, offset: np.ndarray) -> list[float]:
    """Coefficients of a logistic regression by Newton's method; design: (K, N). NaN where they do not stay finite."""
    coefficients = np.zeros(len(design))
    if not ((truth == 1).any() and (truth == 0).any()):
        return [float("nan")] * len(design)
    for _ in range(NEWTON_STEPS):
        probability = sigmoid(np.clip(design.T @ coefficients + offset, -700, 700))
        gradient = design @ (truth - probability)
        information = (design * (probability * (1 - probability))) @ design.T
        try:
            step = np.linalg.solve(information, gradient)
        except np.linalg.LinAlgError:
            return [float("nan")] * len(design)
        # A bounded step keeps the iteration from overshooting where probabilities are near 0 or 1.
        coefficients += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    else:
        return [float("nan")] * len(design)
    return [float(c) if abs(c) < MAX_SLOPE else float("nan") for c in coefficients]
