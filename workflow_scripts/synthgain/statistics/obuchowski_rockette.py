"""Obuchowski–Rockette–Hillis analysis with training seeds in the role of readers.

Random readers, random cases. Source of the formulas: Obuchowski & Rockette 1995; Hillis 2007 (degrees of
freedom); the same as in RJafroc and MRMCaov. Seeds and patients are both random, so the statement is about
a training procedure on a population of patients.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

NO_SPREAD = 1e-12  # a standard error below it is rounding


@dataclass(frozen=True)
class Contrast:
    """A difference of two arms (or the mean of one) with both sources of variation.

    difference: mean over seeds, metric units. se, df: standard error and Hillis' degrees of freedom.
    seeds: number of units S. seed_variance: Var over seeds of the per-seed difference; patient_variance: the
    part due to the finite test set. se² = seed_variance / S + patient_variance, exactly.
    """

    difference: float
    se: float
    df: float
    seeds: int
    seed_variance: float
    patient_variance: float

    @property
    def varies(self) -> bool:
        """True if there is more variance than rounding leaves: without it nothing can be tested."""
        return bool(self.se > NO_SPREAD)  # False for NaN

    def p_value(self, alternative: str = "two-sided", null: float = 0.0) -> float:
        """p of the t-test against `null`; 1 where nothing varies and nothing differs, NaN where only that fails."""
        shift = self.difference - null
        if np.isnan(self.se) or (self.se == 0 and shift != 0):
            return float("nan")
        statistic = 0.0 if self.se == 0 else shift / self.se
        if alternative == "two-sided":
            return 2 * t_cdf(-abs(statistic), self.df)
        if alternative not in ("greater", "less"):
            raise ValueError(f"alternative must be two-sided, greater or less, got {alternative!r}")
        return t_cdf(-statistic if alternative == "greater" else statistic, self.df)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided t interval of the given confidence."""
        if np.isnan(self.se):
            return float("nan"), float("nan")
        half = self.se * t_quantile(0.5 + confidence / 2, self.df)
        return self.difference - half, self.difference + half


def t_cdf(value: float, df: float) -> float:
    """P(t ≤ value); the normal limit for infinite df. (scipy.stats.t gives the same, fifty times slower.)"""
    return float(special.ndtr(value) if np.isinf(df) else special.stdtr(df, value))


def t_quantile(share: float, df: float) -> float:
    """Quantile of Student's t; the normal limit for infinite df."""
    return float(special.ndtri(share) if np.isinf(df) else special.stdtrit(df, share))


def compare(arm: np.ndarray, baseline: np.ndarray, covariance: np.ndarray) -> Contrast:
    """Compare two arms over the same S seeds and patients.

    arm, baseline: (S,) metric per seed. covariance: (2S, 2S) of (arm…, baseline…) under resampling of patients.
    With one seed, or an undefined value, se is NaN: nothing can be said about other seeds.
    """
    seeds = len(arm)
    if len(baseline) != seeds or covariance.shape != (2 * seeds, 2 * seeds):
        raise ValueError(f"got {seeds} and {len(baseline)} seeds and a covariance of shape {covariance.shape}")
    differences = np.asarray(arm, dtype=np.float64) - baseline
    if seeds < 2 or not (np.isfinite(differences).all() and np.isfinite(covariance).all()):
        return Contrast(float(differences.mean()), np.nan, np.nan, seeds, np.nan, np.nan)
    within = (_mean_off_diagonal(covariance[:seeds, :seeds]) + _mean_off_diagonal(covariance[seeds:, seeds:])) / 2
    across = covariance[:seeds, seeds:]
    between = (_mean_off_diagonal(across) + _mean_off_diagonal(across.T)) / 2
    return from_covariances(differences, within, between)


def from_covariances(differences: np.ndarray, cov2: float, cov3: float) -> Contrast:
    """The same from Cov2 (different seeds, same arm) and Cov3 (different seeds, different arms).

    MS_TR = var(d)/2; V = MS_TR + S·max(Cov2 − Cov3, 0); SE² = 2V/S; df = V²/(MS_TR²/(S−1)).
    """
    differences = np.asarray(differences, dtype=np.float64)
    seeds = len(differences)
    mean_square = float(differences.var(ddof=1)) / 2
    if mean_square < np.finfo(np.float64).eps ** 2:  # equal differences: what is left is rounding
        mean_square = 0.0
    patients = max(cov2 - cov3, 0.0)
    return _contrast(float(differences.mean()), mean_square, patients, seeds, arms=2)


def one_arm(values: np.ndarray, covariance: np.ndarray) -> Contrast:
    """The mean of one arm over S seeds: V = MS_R + S·max(Cov2, 0), SE² = V/S (Hillis' single-treatment form)."""
    values = np.asarray(values, dtype=np.float64)
    seeds = len(values)
    if seeds < 2 or not (np.isfinite(values).all() and np.isfinite(covariance).all()):
        return Contrast(float(values.mean()), np.nan, np.nan, seeds, np.nan, np.nan)
    patients = max(_mean_off_diagonal(covariance), 0.0)
    return _contrast(float(values.mean()), float(values.var(ddof=1)), patients, seeds, arms=1)


def _contrast(mean: float, mean_square: float, patients: float, seeds: int, arms: int) -> Contrast:
    total = mean_square + seeds * patients
    # No seed variance: infinite degrees of freedom, the normal (DeLong) limit.
    df = total**2 / (mean_square**2 / (seeds - 1)) if mean_square > 0 else np.inf
    return Contrast(mean, float(np.sqrt(arms * total / seeds)), df, seeds, arms * mean_square, arms * patients)


def _mean_off_diagonal(square: np.ndarray) -> float:
    size = len(square)
    return float((square.sum() - np.trace(square)) / (size * (size - 1)))
