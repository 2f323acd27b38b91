"""Secondary paired tests over seeds on one fixed test set: they say nothing about other patients."""

from dataclasses import dataclass

import numpy as np
import pingouin
from scipy import stats

pingouin.options["round.column.CI95"] = None  # by default intervals are rounded to two decimals

MAX_EXACT_SIGN_FLIPS = 1 << 16  # up to 16 replicates all sign patterns are listed, beyond it they are drawn
NO_SPREAD = 1e-12  # differences closer than this are equal but for rounding


@dataclass(frozen=True)
class PairedTest:
    """t statistic, degrees of freedom, p and interval of a paired t-test."""

    t: float
    df: float
    p: float
    low: float
    high: float


def paired_t(
    arm: np.ndarray, baseline: np.ndarray, alternative: str = "two-sided", confidence: float = 0.95
) -> PairedTest:
    """Paired t over seeds (pingouin); the interval is always two-sided. NaN with fewer than two seeds or no spread."""
    arm, baseline = np.asarray(arm, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    difference = arm - baseline
    if len(arm) < 2 or not np.isfinite(difference).all() or np.ptp(difference) < NO_SPREAD:
        return PairedTest(np.nan, np.nan, np.nan, np.nan, np.nan)
    two_sided = pingouin.ttest(arm, baseline, paired=True, confidence=confidence).iloc[0]
    low, high = two_sided[f"CI{round(100 * confidence)}"]
    p = two_sided["p_val"]
    if alternative != "two-sided":
        p = pingouin.ttest(arm, baseline, paired=True, alternative=alternative).iloc[0]["p_val"]
    return PairedTest(float(two_sided["T"]), float(two_sided["dof"]), float(p), float(low), float(high))


def sign_flip_p(differences: np.ndarray, alternative: str = "two-sided") -> float:
    """Exact sign-flip permutation p of the mean difference (S,); the smallest two-sided value is 2/2^S."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return float("nan")
    exact = 2 ** len(values) <= MAX_EXACT_SIGN_FLIPS
    result = stats.permutation_test(
        (values,),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        alternative=alternative,
        n_resamples=np.inf if exact else MAX_EXACT_SIGN_FLIPS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def corrected_resampled_t(
    differences: np.ndarray, test_patients: int, training_patients: int, confidence: float = 0.95
) -> PairedTest:
    """Corrected resampled t (Nadeau & Bengio 2003) for J replicates that redraw the split.

    t = mean / sqrt((1/J + n_test/n_train)·s²), df = J − 1. `training_patients` counts real training patients:
    synthetic images are no independent observations.
    """
    values = np.asarray(differences, dtype=np.float64)
    count = len(values)
    if count < 2 or np.ptp(values) < NO_SPREAD:
        return PairedTest(np.nan, np.nan, np.nan, np.nan, np.nan)
    error = float(np.sqrt((1 / count + test_patients / training_patients) * values.var(ddof=1)))
    mean, df = float(values.mean()), count - 1
    half = error * float(stats.t.ppf(0.5 + confidence / 2, df))
    return PairedTest(mean / error, df, float(2 * stats.t.sf(abs(mean / error), df)), mean - half, mean + half)


def standardised_difference(differences: np.ndarray) -> float:
    """d_z = mean(d)/sd(d), in standard deviations of the paired difference."""
    values = np.asarray(differences, dtype=np.float64)
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(values.mean()) / spread if spread > NO_SPREAD else float("nan")


def probability_better(differences: np.ndarray, higher_is_better: bool = True) -> float:
    """Share of replicates in which the arm is better; ties count one half (Bouthillier et al. 2021)."""
    values = np.asarray(differences, dtype=np.float64) * (1 if higher_is_better else -1)
    return float(np.mean((values > 0) + 0.5 * (values == 0)))
