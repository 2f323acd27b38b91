"""Equivalence, non-inferiority, and the verdict in its fixed order.

What cannot be estimated (`estimability.py`) has no SE, and so is neither equivalent nor significant: inconclusive.
"""

from synthgain.statistics.obuchowski_rockette import Contrast

EQUIVALENT, HELPS, HARMS, INCONCLUSIVE = "equivalent", "helps", "harms", "inconclusive"
VERDICTS = (HELPS, HARMS, EQUIVALENT, INCONCLUSIVE)


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
