"""Equivalence, non-inferiority, and the verdict in its fixed order.

What cannot be estimated (`estimability.py`) has no SE, and so is neither equivalent nor significant: inconclusive.
"""

from dataclasses import dataclass

import numpy as np

from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.obuchowski_rockette import Contrast
from synthgain.statistics.units import Design, mean_influence, units_of

EQUIVALENT, HELPS, HARMS, INCONCLUSIVE = "equivalent", "helps", "harms", "inconclusive"
VERDICTS = (HELPS, HARMS, EQUIVALENT, INCONCLUSIVE)
NO_VERDICT = "no verdict"  # too few units: numbers without a word
# A margin may be this share of what the better arm leaves to the end of the scale. At ±.02 and an AUROC of .97 one
# margin is two thirds of all errors: `equivalent` then rests on a few patients, and comes out wrongly in .08 to .14.
MOST_OF_HEADROOM = 0.4


@dataclass(frozen=True)
class Rules:
    """What was declared. margin None: no margin for this metric, so *equivalent* cannot be said.

    alternative: two-sided, greater or less, of the metric's value.
    ends: where the metric ends (0 and 1; a distance 0 and infinity).
    """

    alpha: float
    margin: float | None
    higher_is_better: bool = True
    alternative: str = "two-sided"
    ends: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Judgement:
    """One comparison judged. reason: why there is no stronger word, else ""."""

    verdict: str
    reason: str
    p: float
    contrast: Contrast


def is_equivalent(contrast: Contrast, margin: float | None, alpha: float) -> bool:
    """Two one-sided tests at alpha: the whole (1 − 2·alpha) interval lies strictly inside ±margin.

    Without any variance there is no test: no difference among things that do not vary is no evidence.
    """
    low, high = contrast.interval(1 - 2 * alpha)
    return margin is not None and contrast.varies and -margin < low and high < margin


def is_noninferior(contrast: Contrast, margin: float | None, alpha: float, higher_is_better: bool = True) -> bool:
    """One-sided at alpha: the arm is worse than its baseline by less than the margin."""
    low, high = contrast.interval(1 - 2 * alpha)
    return margin is not None and contrast.varies and (low > -margin if higher_is_better else high < margin)


def at_ceiling(means: tuple[float, float], rules: Rules) -> str:
    """Why *equivalent* may not be said of arms with these means, "" where it may."""
    low, high = rules.ends
    left = min(high - max(means), min(means) - low)
    if rules.margin is None or rules.margin <= MOST_OF_HEADROOM * left:
        return ""
    end = "the best" if (high - max(means) <= min(means) - low) == rules.higher_is_better else "the worst"
    return (
        f"ceiling: the margin of {rules.margin:g} is more than 40 % of the {left:.3g} that is left to {end} value, so "
        "equivalent cannot be told here; declare a smaller margin"
    )


def verdict(
    contrast: Contrast,
    p_adjusted: float,
    alpha: float,
    margin: float | None,
    higher_is_better: bool = True,
    copies: bool = False,
) -> str:
    """equivalent, else helps / harms where the adjusted p is below alpha, else inconclusive.

    margin None: no margin was declared for this metric, so *equivalent* cannot be said.
    copies: predictions of declared copies of the same training images, equal to the bit, need no test.
    """
    if (copies and margin is not None) or is_equivalent(contrast, margin, alpha):
        return EQUIVALENT
    if contrast.varies and p_adjusted < alpha:  # False for NaN
        return HELPS if (contrast.difference > 0) == higher_is_better else HARMS
    return INCONCLUSIVE


def judge(
    contrast: Contrast,
    means: tuple[float, float],
    rules: Rules,
    too_few: str = "",
    reason: str = "",
    p_adjusted: float | None = None,
    copies: bool = False,
) -> Judgement:
    """The verdict in its order: too few units, not estimable, equivalent, helps or harms, inconclusive.

    means: of the arm and of its baseline. too_few: why the units carry no verdict word (`Units.too_few`).
    reason: why the contrast is not estimable. p_adjusted: within its family; default its own p.
    """
    p = contrast.p_value(rules.alternative)
    used = p if p_adjusted is None else p_adjusted
    ceiling = "" if copies else at_ceiling(means, rules)
    word = verdict(contrast, used, rules.alpha, None if ceiling else rules.margin, rules.higher_is_better, copies)
    if too_few:
        return Judgement(NO_VERDICT, too_few if not reason or copies else reason, p, contrast)
    if ceiling and is_equivalent(contrast, rules.margin, rules.alpha):
        return Judgement(INCONCLUSIVE, reason or ceiling, p, contrast)
    return Judgement(word, reason, p, contrast)


def judge_runs(
    arm: np.ndarray,
    baseline: np.ndarray,
    covariance: np.ndarray,
    rules: Rules,
    design: Design,
    replicates: np.ndarray | None = None,
    influence: np.ndarray | None = None,
) -> Judgement:
    """Verdict and p of one comparison from its runs.

    arm, baseline: (S,) metric per replicate. covariance: (2S, 2S) of (arm…, baseline…) over patients. replicates: (S,)
    numbers, default 0 … S−1. influence: (2S, P) of the same runs, for the small-sample corrections.
    """
    units = units_of(np.arange(len(arm)) if replicates is None else replicates, design)
    blocks = np.kron(np.eye(2), units.averaging)
    first, second = units.averaging @ arm, units.averaging @ baseline
    of_units = None if influence is None else blocks @ influence
    contrast = orh.compare(
        first, second, blocks @ covariance @ blocks.T, units.strata, mean_influence(of_units, units.strata), rules.ends
    )
    reason = "" if contrast.varies else "neither units nor patients vary"
    return judge(contrast, (float(first.mean()), float(second.mean())), rules, units.too_few, reason)
