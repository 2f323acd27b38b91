"""What a score is worth: the weight of each drawn sample in further training.

Reward-weighted denoising: the loss on sample i is multiplied by w_i. `match` takes importance weights, so that the
weighted samples' scores are distributed like real ones; `maximise` takes exponentiated scores (Peters and Schaal 2007,
"Reinforcement learning by reward-weighted regression for operational space control").
"""

import numpy as np

BINS = 12
LARGEST = 5.0  # weights above are cut, so that no sample is learned by heart
TEMPERATURE = 0.3


def match_weights(own: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return p_real(s) / p_own(s) for samples' scores `own` (N,), by bins; one condition at a time.

    real: (M,) scores of real images. The bins are quantiles of both together, so that neither side leaves
    most of them empty; one is added to each count. (N,) float64 from 0 to LARGEST.
    """
    edges = np.unique(np.quantile(np.concatenate([own, real]), np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, own, side="right")
    share_real, share_own = (_shares(edges, scores) for scores in (real, own))
    return np.minimum(share_real / share_own, LARGEST)[place]


def maximise_weights(scores: np.ndarray) -> np.ndarray:
    """Return exp((s − max) / TEMPERATURE) over its mean, for scores (N,) in 0 … 1; (N,) float64 up to LARGEST."""
    raw = np.exp((scores - scores.max()) / TEMPERATURE)
    return np.minimum(raw / raw.mean(), LARGEST)


def effective(weights: np.ndarray) -> float:
    """Return of how many samples the weights (N,) leave the information: (Σw)² / Σw² (Kish 1965, "Survey sampling")."""
    total = float((weights**2).sum())
    return float(weights.sum()) ** 2 / total if total else 0.0


def _shares(edges: np.ndarray, scores: np.ndarray) -> np.ndarray:
    counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1) + 1.0
    return np.asarray(counts / counts.sum())
