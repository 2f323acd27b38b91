"""Planned looks: at which p each of them may decide, and what a plan of looks costs and finds.

All looks of a study share their test patients, so that the information of a look does not grow with its replicates: the
more of the variance is the patients', the more alike two looks are. The boundaries are those of replicates alone (no
patient variance, independent increments), which is when looks are least alike and most can go wrong; with more alike
looks the same boundaries err less often. Spending: O'Brien–Fleming's, as Lan & DeMets 1983; crossing probabilities by
the recursion of Armitage, McPherson & Rowe 1969.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, special

NODES = 201  # of Gauss–Legendre between two boundaries: seven digits of a level
CHUNK = 20_000  # studies simulated at a time


@cache
def look_levels(alpha: float, looks: tuple[int, ...]) -> tuple[float, ...]:
    """Return the two-sided p below which each look decides, so that all of them together err in `alpha` at most.

    looks: replicates at each, rising; one look is tested at alpha.
    """
    if len(looks) < 2:
        return (alpha,) * len(looks)
    shares = [count / looks[-1] for count in looks]
    critical: list[float] = []
    for place, share in enumerate(shares):

        def excess(value: float, place: int = place, share: float = share) -> float:
            return _crossed([*critical, value], shares[: place + 1]) - _spent(alpha, share)

        critical.append(float(optimize.brentq(excess, 0.1, 20.0, xtol=1e-10)))
    return tuple(float(2 * special.ndtr(-value)) for value in critical)


def _spent(alpha: float, share: float) -> float:
    """Level spent after a share of the replicates: 4 − 4Φ(z(1 − alpha/4)/√share)."""
    return float(4 * special.ndtr(special.ndtri(alpha / 4) / np.sqrt(share)))


def _crossed(critical: Sequence[float], shares: Sequence[float]) -> float:
    """Probability that a Brownian motion was outside ±critical·√share at one of the shares of its way."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    total, before = 0.0, 0.0
    place, mass = np.zeros(1), np.ones(1)
    for value, share in zip(critical, shares, strict=True):
        step, edge = np.sqrt(share - before), value * np.sqrt(share)
        total += float(mass @ (special.ndtr((-edge - place) / step) + special.ndtr((place - edge) / step)))
        here = nodes * edge
        density = np.exp(-((here[:, None] - place) ** 2) / (2 * step**2)) / (np.sqrt(2 * np.pi) * step)
        place, mass, before = here, weights * edge * (density @ mass), share
    return total


@dataclass(frozen=True)
class Design:
    """A plan of looks and what it meets, in any one unit of the metric.

    looks: replicates at each; difference: the true one; margin: 0 for no test of equivalence; seed_variance: of one
    replicate's difference; patient_variance: of the difference, what replicates do not lower (`Contrast`'s names).
    patient_df: degrees of freedom with which the latter is estimated.
    """

    looks: tuple[int, ...]
    difference: float
    margin: float
    seed_variance: float
    patient_variance: float
    alpha: float = 0.05
    patient_df: int = 100

    def correlation(self) -> float:
        """Of the estimates at the first and the last look."""
        first, last = (self.patient_variance + self.seed_variance / n for n in (self.looks[0], self.looks[-1]))
        return float(np.sqrt(last / first)) if first > 0 else 1.0


@dataclass(frozen=True)
class Rates:
    """Shares of simulated studies by their verdict, mean replicates, and the share that ends at each look."""

    better: float
    worse: float
    equivalent: float
    replicates: float
    ends: tuple[float, ...]

    @property
    def rejected(self) -> float:
        """Share with a significant difference, either way."""
        return self.better + self.worse


def simulated_rates(design: Design, runs: int, random: np.random.Generator) -> Rates:
    """Simulate studies that look as planned and stop at the first verdict; in its order (`equivalence.verdict`).

    The difference of each replicate is the true one, plus what these patients add in every replicate, plus its own;
    tests are Obuchowski–Rockette–Hillis' with the patient variance as estimated.
    """
    levels = look_levels(design.alpha, design.looks)
    counts = np.zeros((len(levels), 4))
    done = 0
    while done < runs:
        size = min(CHUNK, runs - done)
        done += size
        counts += _ended(design, levels, size, random)
    shares = counts / runs
    better, worse, equivalent = (float(shares[:, kind].sum()) for kind in (1, 2, 3))
    ends = shares.sum(axis=1)
    replicates = float(ends @ np.array(design.looks))
    return Rates(better, worse, equivalent, replicates, tuple(float(end) for end in ends))


def _ended(design: Design, levels: Sequence[float], size: int, random: np.random.Generator) -> np.ndarray:
    """(looks, 4) counts of studies that end at each look: undecided, better, worse, equivalent."""
    patients = np.sqrt(design.patient_variance) * random.standard_normal((size, 1))
    own = np.sqrt(design.seed_variance) * random.standard_normal((size, design.looks[-1]))
    values = design.difference + patients + own
    estimated = design.patient_variance * random.chisquare(design.patient_df, size) / design.patient_df
    found, open_ = np.zeros((len(levels), 4)), np.ones(size, dtype=bool)
    for place, (count, level) in enumerate(zip(design.looks, levels, strict=True)):
        seen = values[:, :count]
        mean, seeds = seen.mean(axis=1), seen.var(axis=1, ddof=1)
        se = np.sqrt(seeds / count + estimated)
        df = (seeds + count * estimated) ** 2 / (seeds**2 / (count - 1))
        half = se * special.stdtrit(df, 1 - level)
        same = (np.abs(mean) + half < design.margin) & (design.margin > 0)
        p = 2 * special.stdtr(df, -np.abs(mean) / se)
        verdict = np.where(same, 3, np.where(p < level, np.where(mean > 0, 1, 2), 0))
        ending = open_ & ((verdict > 0) | (place == len(levels) - 1))
        found[place] = np.bincount(verdict[ending], minlength=4)
        open_ &= ~ending
    return found
