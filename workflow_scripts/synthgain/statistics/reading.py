"""Real or synthetic: how well readers tell, whether that is chance, and how large a study must be to show it."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtri

from synthgain.statistics.delong import components, covariance
from synthgain.statistics.obuchowski_rockette import Contrast, one_arm, t_quantile

CHANCE = 0.5
BOUND = 0.1  # AUROCs nearer to chance count as equivalent to it: our declared value
READER_SD = 0.03  # of the AUROC between readers, and correlation of two readers on the same images: planning values
READER_CORRELATION = 0.3


@dataclass(frozen=True)
class Telling:
    """How well readers tell synthetic from real images. values: AUROC per reader; pooled: over readers and patients.

    One reader: a statement about this reader alone, with patients random (DeLong).
    equivalence_p: p of both one-sided tests (TOST) that the AUROC lies within CHANCE ± BOUND.
    """

    values: np.ndarray
    pooled: Contrast
    low: float
    high: float
    equivalence_p: float

    @property
    def auroc(self) -> float:
        """The mean over readers."""
        return self.pooled.difference


def telling(synthetic: np.ndarray, answers: np.ndarray, patient: np.ndarray) -> Telling:
    """Analyse R readers who saw the same N images: readers and patients are both random (OR–Hillis).

    synthetic: (N,) 0/1; answers: (R, N), higher is surer that the image is synthetic; patient: (N,) any values.
    Raises ValueError where images of one kind only were shown.
    """
    codes, patients = pd.factorize(patient)
    parts = components(synthetic.astype(float), answers, codes, len(patients))
    spread = covariance([parts])
    pooled = one_arm(parts.auroc, spread)
    if len(answers) == 1:
        own = float(spread[0, 0])
        pooled = replace(pooled, se=own**0.5, df=float("inf"), seed_variance=0.0, patient_variance=own)
    low, high = pooled.interval(0.95)
    above = pooled.p_value("greater", null=CHANCE - BOUND)
    below = pooled.p_value("less", null=CHANCE + BOUND)
    return Telling(parts.auroc, pooled, low, high, max(above, below))


@dataclass(frozen=True)
class Leaning:
    """How readers lean. hits, false_alarms: (R,) share of synthetic and of real images called synthetic; bias: (R,)."""

    hits: np.ndarray
    false_alarms: np.ndarray
    bias: np.ndarray

    def mean_bias(self) -> tuple[float, float, float]:
        """Return the mean over readers with its 95 % t-interval, NaN for one reader."""
        count, mean = len(self.bias), float(self.bias.mean())
        if count < 2:
            return mean, float("nan"), float("nan")
        half = t_quantile(0.975, count - 1) * float(self.bias.std(ddof=1)) / count**0.5
        return mean, mean - half, mean + half


def leaning(synthetic: np.ndarray, answers: np.ndarray, middle: float) -> Leaning:
    """Return how R readers lean to one of two answers. synthetic: (N,) 0/1; answers: (R, N); middle: of the scale.

    Answers in the very middle count half. bias is (z(hits) + z(false alarms)) / 2, minus the criterion c of signal
    detection: above 0 where too much is called synthetic. Half a count is added, so that no share is 0 or 1
    (Hautus 1995, "Corrections for extreme proportions").
    """
    called = (np.sign(answers - middle) + 1) / 2
    of_synthetic, of_real = called[:, synthetic == 1], called[:, synthetic != 1]
    rates = [(part.sum(axis=1) + 0.5) / (part.shape[1] + 1) for part in (of_synthetic, of_real)]
    return Leaning(of_synthetic.mean(axis=1), of_real.mean(axis=1), (ndtri(rates[0]) + ndtri(rates[1])) / 2)


def power_of_equivalence(readers: int, images: int) -> float:
    """Return the power of the TOST at 5 % with `images` real and as many synthetic images, where the AUROC is chance.

    Variance of one reader's AUROC at chance: (m + n + 1) / (12 m n) (Mann & Whitney 1947).
    """
    from scipy import stats

    one = (2 * images + 1) / (12 * images**2)
    variance = READER_SD**2 / readers + one * (1 + (readers - 1) * READER_CORRELATION) / readers
    if readers == 1:
        variance = one  # a statement about this reader alone
    quantile = t_quantile(0.95, np.inf)
    return max(0.0, 2 * float(stats.norm.cdf(BOUND / np.sqrt(variance) - quantile)) - 1)


def planning_table(target: float = 0.8) -> pd.DataFrame:
    """Return per number of readers the images of each kind that give `target` power: readers, images, power."""
    rows = []
    for readers in (1, 2, 3, 4, 5, 6, 8, 10):
        images = next((n for n in range(10, 2001, 5) if power_of_equivalence(readers, n) >= target), None)
        power = np.nan if images is None else power_of_equivalence(readers, images)
        rows.append({"readers": readers, "images_of_each_kind": images, "power": power})
    return pd.DataFrame(rows)
