"""Obuchowski–Rockette–Hillis analysis with training seeds in the role of readers.

Random readers, random cases. Source of the formulas: Obuchowski & Rockette 1995; Hillis 2007 (degrees of
freedom); the same as in RJafroc and MRMCaov. Seeds and patients are both random, so the statement is about
a training procedure on a population of patients.

Two corrections for small samples stand on top, both found by simulation (docs/statistics.md) and both one-sided: an
interval is never shorter than the plain one. `small_sample_df`: few seeds. `Contrast.interval`: few patients.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

NO_SPREAD = 1e-12  # a standard error below it is rounding
# Hillis' df takes the seed variance to the power 2. Where few seeds agree by chance, SE is too small and df too large
# at once: a null is rejected in .064 with 4 seeds, .076 with 3. Power 2 − FEW_SEEDS/S keeps it at .06 from 4 seeds on.
FEW_SEEDS = 1.5
# Third cumulants of few draws are too small where the tail is long: intervals of 20 positive patients at an AUROC of
# .97 to .99 cover .90 with the plain ones, .93 with this factor and `drift`.
LONG_TAIL = 1.5


@dataclass(frozen=True)
class Contrast:
    """A difference of two arms (the mean of one, a slope …) with both sources of variation.

    difference: mean over seeds, metric units. se: its standard error; df: degrees of freedom (`small_sample_df`);
    hillis_df: those of Hillis 2007. seeds: number of units S. seed_variance: Var over seeds of the per-seed difference;
    patient_variance: the part due to the finite test set. se² = seed_variance / S + patient_variance, exactly.
    skew: third cumulant of the difference over patients (0: symmetric, or not known). drift: how the variance would
    grow with the true difference, were each arm's in proportion to its errors (0: alike, or not known).
    """

    difference: float
    se: float
    df: float
    seeds: int
    seed_variance: float
    patient_variance: float
    skew: float = 0.0
    hillis_df: float = float("nan")
    drift: float = 0.0

    @property
    def varies(self) -> bool:
        """True if there is more variance than rounding leaves: without it nothing can be tested."""
        return bool(self.se > NO_SPREAD)  # False for NaN

    def p_value(self, alternative: str = "two-sided", null: float = 0.0) -> float:
        """p of the t-test against `null`; 1 where nothing varies and nothing differs, NaN where only that fails."""
        shift = self.difference - null
        if np.isnan(self.se) or (self.se == 0 and shift != 0):
            return float("nan")
        statistic = 0.0 if self.se == 0 else shift / self._se_at(shift)
        if alternative == "two-sided":
            return 2 * t_cdf(-abs(statistic), self.df)
        if alternative not in ("greater", "less"):
            raise ValueError(f"alternative must be two-sided, greater or less, got {alternative!r}")
        return t_cdf(-statistic if alternative == "greater" else statistic, self.df)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided t interval of the given confidence: all true differences that `p_value` does not reject.

        Near the end of a metric few patients err, and where by chance fewer err than should, the difference and its
        variance are too small at once. At another true difference x the variance is V + (x − difference)·slope, as in a
        score test. The slope is skew/V (the regression of a variance on its mean; for a count of errors exactly that)
        times LONG_TAIL, or `drift`, whichever gives more: the few patients of a long tail may not have been drawn.
        """
        if np.isnan(self.se):
            return float("nan"), float("nan")
        t = t_quantile(0.5 + confidence / 2, self.df)
        falling, rising = self._slopes()
        plain = self.se * t
        low = max(plain, (np.hypot(t * t * falling, 2 * plain) - t * t * falling) / 2)
        high = max(plain, (np.hypot(t * t * rising, 2 * plain) + t * t * rising) / 2)
        return float(self.difference - low), float(self.difference + high)

    def _slopes(self) -> tuple[float, float]:
        """How the variance grows with the true difference, below the estimate and above it."""
        slopes = (LONG_TAIL * self.skew / self.se**2 if self.varies else 0.0, self.drift)
        return min(slopes), max(slopes)

    def _se_at(self, shift: float) -> float:
        """Standard error where the truth is `shift` below the estimate, never below the plain one."""
        falling, rising = self._slopes()
        return float(np.sqrt(self.se**2 + max(-shift * (rising if shift < 0 else falling), 0.0)))


def t_cdf(value: float, df: float) -> float:
    """P(t ≤ value); the normal limit for infinite df. (scipy.stats.t gives the same, fifty times slower.)"""
    return float(special.ndtr(value) if np.isinf(df) else special.stdtr(df, value))


def t_quantile(share: float, df: float) -> float:
    """Quantile of Student's t; the normal limit for infinite df."""
    return float(special.ndtri(share) if np.isinf(df) else special.stdtrit(df, share))


def compare(
    arm: np.ndarray,
    baseline: np.ndarray,
    covariance: np.ndarray,
    strata: np.ndarray | None = None,
    influence: np.ndarray | None = None,
    ends: tuple[float, float] | None = None,
) -> Contrast:
    """Compare two arms over the same S seeds and patients.

    arm, baseline: (S,) metric per seed. covariance: (2S, 2S) of (arm…, baseline…) under resampling of patients.
    strata, influence: see `linear`. ends: where the metric ends (0 and 1; a distance 0 and infinity), None: unknown.
    With one seed, or an undefined value, se is NaN: nothing can be said about other seeds.
    """
    seeds = len(arm)
    if len(baseline) != seeds or covariance.shape != (2 * seeds, 2 * seeds):
        raise ValueError(f"got {seeds} and {len(baseline)} seeds and a covariance of shape {covariance.shape}")
    across = covariance[:seeds, seeds:]
    of_differences = covariance[:seeds, :seeds] + covariance[seeds:, seeds:] - across - across.T
    found = linear(np.asarray(arm, dtype=np.float64) - baseline, of_differences, strata, influence)
    if ends is None or not found.varies:
        return found
    sides = [
        linear(np.asarray(values, dtype=np.float64), covariance[at, at], strata)
        for values, at in ((arm, slice(seeds)), (baseline, slice(seeds, None)))
    ]
    return replace(found, drift=_drift(sides[0], sides[1], found.se**2, ends))


def _drift(arm: Contrast, baseline: Contrast, variance: float, ends: tuple[float, float]) -> float:
    """Slope of the variance of a difference on the difference, were variances in proportion to errors.

    Errors e are what is left to the nearer end; a variance over patients is as e·(1 − e), as that of a share (e where
    the other end is infinite), so that c = (Vₐ + V_b)/(eₐ + e_b)·(1 − 2e)/(1 − e) is the variance of one more error, e
    the mean of both. Then Vₐ − V_b is c·(eₐ − e_b), and the covariance of the difference with its variance, as between
    the two kinds of discordant pairs in McNemar's test, c²·(eₐ − e_b). At most √(c·v), v the same of the variance of
    the difference: errors that both arms share by degrees, and not all or none, say less about it.
    """
    low, high = ends
    left = [(side.difference - low, high - side.difference) for side in (arm, baseline)]
    at_high = left[0][1] + left[1][1] < left[0][0] + left[1][0]
    first, second = (pair[at_high] for pair in left)
    total = first + second
    if min(first, second) < 0 or total <= 0:
        return 0.0
    mean = total / 2 / (high - low)  # 0 where the scale has no other end
    shape = (1 - 2 * mean) / (1 - mean) / total
    one = (arm.patient_variance + baseline.patient_variance) * shape
    slope = min(one**2 * abs(first - second) / variance, float(np.sqrt(one * variance * shape)))
    return float(np.sign(first - second) * slope * (-1 if at_high else 1))


def from_covariances(differences: np.ndarray, cov2: float, cov3: float) -> Contrast:
    """The same from Cov2 (different seeds, same arm) and Cov3 (different seeds, different arms).

    MS_TR = var(d)/2; V = MS_TR + S·max(Cov2 − Cov3, 0); SE² = 2V/S; df = V²/(MS_TR²/(S−1)).
    """
    seeds = len(differences)
    return linear(np.asarray(differences, dtype=np.float64), np.full((seeds, seeds), 2 * (cov2 - cov3)))


def one_arm(values: np.ndarray, covariance: np.ndarray) -> Contrast:
    """The mean of one arm over S seeds: V = MS_R + S·max(Cov2, 0), SE² = V/S (Hillis' single-treatment form)."""
    return linear(np.asarray(values, dtype=np.float64), covariance)


def linear(
    values: np.ndarray,
    covariance: np.ndarray,
    strata: np.ndarray | None = None,
    influence: np.ndarray | None = None,
) -> Contrast:
    """The mean over seeds of one number per seed: a difference, a slope, a level.

    values: (S,). covariance: (S, S) of these numbers under resampling of patients; only that of different seeds counts.
    strata: (S,) codes of the generators within which seeds vary: the mean is then that of the strata's means, and the
    claim is about these very strata. influence: (K,) first-order change of the mean per unit of weight on a patient.
    """
    seeds = len(values)
    strata = np.zeros(seeds, dtype=np.int64) if strata is None else np.asarray(strata)
    member = (strata[None, :] == np.unique(strata)[:, None]).astype(np.float64)
    means = member / member.sum(axis=1, keepdims=True)
    weights = means.mean(axis=0)
    free = seeds - len(member)
    mean = float(weights @ values)
    if free < 1 or not (np.isfinite(values).all() and np.isfinite(covariance).all()):
        return Contrast(mean, np.nan, np.nan, seeds, np.nan, np.nan)
    variance = float(((values - member.T @ (means @ values)) ** 2).sum() / free)
    if variance < 2 * np.finfo(np.float64).eps ** 2:  # equal differences: what is left is rounding
        variance = 0.0
    same = strata[None, :] == strata[:, None]
    patients = 0.0
    for chosen in (same, ~same):
        pairs = chosen & ~np.eye(seeds, dtype=bool)
        if pairs.any():
            patients += float(covariance[pairs].mean()) * float(np.outer(weights, weights)[chosen].sum())
    patients = max(patients, 0.0)
    of_seeds = variance * float((weights**2).sum())
    total = of_seeds + patients
    # No seed variance: infinite degrees of freedom, the normal (DeLong) limit.
    hillis = total**2 / (of_seeds**2 / free) if of_seeds > 0 else np.inf
    informative, skew = _of_patients(influence)
    df = small_sample_df(of_seeds, patients, free, informative)
    return Contrast(mean, float(np.sqrt(total)), df, seeds, of_seeds * seeds, patients, skew, float(hillis))


def small_sample_df(of_seeds: float, of_patients: float, free: int, informative: float = np.inf) -> float:
    """Degrees of freedom of a variance that is a sum of a part from few seeds and a part from few patients.

    Satterthwaite's V²/(A²/free + B²/(2·informative)), with A² made larger for few seeds (FEW_SEEDS). Without seed
    variance it is that of the patients; for many seeds and patients it is Hillis' V²/(A²/(S−1)).
    """
    total = of_seeds + of_patients
    if total <= 0:
        return float("inf")
    power = 2 - FEW_SEEDS / (free + 1)
    spent = (of_seeds / total) ** power / free + (of_patients / total) ** 2 / (2 * informative)
    return float(1 / spent) if spent > 0 else float("inf")


def _of_patients(influence: np.ndarray | None) -> tuple[float, float]:
    """How many patients carry the variance, were their influences normal (3·(Σu²)²/Σu⁴), and its third cumulant Σu³."""
    if influence is None or not len(influence) or not np.isfinite(influence).all():
        return float("inf"), 0.0
    squares, fourth = float((influence**2).sum()), float((influence**4).sum())
    return (3 * squares**2 / fourth if fourth > 0 else float("inf")), float((influence**3).sum())
