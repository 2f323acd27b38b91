"""Resampling of patients: one draw for all arms and seeds, so that differences stay paired."""

import numpy as np

LEAST_DEFINED = 0.5  # share of the draws below which a covariance means nothing
MAX_JACKKNIFE_GROUPS = 200  # beyond it patients are left out in groups; the variance estimate hardly changes


def patient_sums(values: np.ndarray, codes: np.ndarray, patients: int) -> np.ndarray:
    """Sum the columns of (R, N) values by patient code (N,) in 0 … patients-1: (R, P) float64."""
    if patients == 1:
        return values.sum(axis=1, keepdims=True, dtype=np.float64)
    sums = np.zeros((len(values), patients))
    if len(codes):
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        sums[:, present] = np.add.reduceat(values[:, order].astype(np.float64), starts, axis=1)
    return sums


def bootstrap_weights(patients: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """(draws, patients) float64: how often each patient occurs in each resample of `patients` with replacement."""
    return random.multinomial(patients, np.full(patients, 1 / patients), size=draws).astype(np.float64)


def jackknife_weights(patients: int, random: np.random.Generator) -> np.ndarray:
    """(groups, patients) in {0, 1}: each row leaves one group of patients out (one patient where there are few)."""
    groups = min(patients, MAX_JACKKNIFE_GROUPS)
    membership = random.permutation(np.arange(patients) % groups)
    return (membership[None, :] != np.arange(groups)[:, None]).astype(np.float64)


def bootstrap_covariance(draws: np.ndarray) -> np.ndarray:
    """Covariance (R, R) of bootstrap draws (B, R); draws with an undefined value are left out.

    A run that is undefined in more than half of them is NaN, and does not touch the others.
    """
    matrix = np.full((draws.shape[1], draws.shape[1]), np.nan)
    known = np.isfinite(draws).mean(axis=0) >= LEAST_DEFINED
    whole = draws[:, known][np.isfinite(draws[:, known]).all(axis=1)]
    if known.any() and len(whole) >= LEAST_DEFINED * len(draws):
        matrix[np.ix_(known, known)] = np.atleast_2d(np.cov(whole, rowvar=False))
    return matrix


def jackknife_covariance(left_out: np.ndarray) -> np.ndarray:
    """Covariance (R, R) from leave-one-group-out values (G, R): (G − 1)/G · Σ of squared deviations."""
    groups = len(left_out)
    deviations = left_out - left_out.mean(axis=0)
    result: np.ndarray = (groups - 1) / groups * deviations.T @ deviations
    return result


def jackknife_influence(left_out: np.ndarray) -> np.ndarray:
    """Influence (R, G) of each group: its outer product is `jackknife_covariance`; left_out: (G, R)."""
    groups = len(left_out)
    result: np.ndarray = np.sqrt((groups - 1) / groups) * (left_out.mean(axis=0) - left_out).T
    return result


def ratio_influence(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Influence (R, P) of each patient on a mean of ratios of patient sums (R, P): (above − ratio·below)/Σ below."""
    found = np.zeros(parts[0][0].shape)
    for above, below in parts:
        total = below.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            found += (above - above.sum(axis=1, keepdims=True) / total * below) / total
    return found / len(parts)


def ratio_draws(parts: list[tuple[np.ndarray, np.ndarray]], weights: np.ndarray) -> np.ndarray:
    """Mean over parts of Σ numerator / Σ denominator under each row of patient weights.

    parts: pairs of (R, P) patient sums; weights: (B, P). Returns (B, R), NaN where a denominator is 0.
    """
    total = np.zeros((len(weights), parts[0][0].shape[0]))
    for numerator, denominator in parts:
        below = weights @ denominator.T
        with np.errstate(divide="ignore", invalid="ignore"):
            total += np.where(below > 0, weights @ numerator.T / below, np.nan)
    return total / len(parts)


def percentile_interval(draws: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile bootstrap interval of (B,) draws, those that are not defined (NaN) left out; NaN where none is."""
    tail, known = (1 - confidence) / 2, draws[~np.isnan(draws)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
