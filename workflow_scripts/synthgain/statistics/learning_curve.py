"""Real-image equivalents: how many more real patients would have given the same gain."""

from typing import Any

import numpy as np

from synthgain.statistics.paired import NO_SPREAD


def log_linear_curve(fractions: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of the metric on log2(fraction of the real training patients); intercept is at 100 %."""
    slope, intercept = np.polyfit(np.log2(np.asarray(fractions, dtype=np.float64)), means, 1)
    return float(intercept), float(slope)


MOST = 100.0  # times the real patients: a larger number says that the curve is flat, and no more
NO_SLOPE = "not estimable: no positive slope, more real patients do not raise the metric here"
TOO_FLAT = f"not estimable: more than {MOST:g} times the real patients, far beyond the measured curve"


def equivalent_fraction(fractions: np.ndarray, values: np.ndarray, supplemented: np.ndarray, at: float) -> np.ndarray:
    """Fraction of real patients whose expected metric equals that of the supplemented arm, per replicate.

    fractions (K,), values (S, K) of the real-only arms, supplemented (S,) of an arm with fraction `at` of the real
    patients. The gain over the real arm at the same fraction is inverted on the slope common to all replicates, so that
    a replicate's own level cancels. NaN where real data do not help either (slope ≤ 0): no exchange rate exists.
    Infinite above MOST: computed as logarithms, since a nearly flat curve gives fractions that no number holds.
    """
    _, slope = log_linear_curve(fractions, np.asarray(values).mean(axis=0))
    if slope <= NO_SPREAD:
        return np.full(len(supplemented), np.nan)
    position = int(np.flatnonzero(np.isclose(fractions, at))[0])
    gain = np.asarray(supplemented) - np.asarray(values)[:, position]
    doublings = np.log2(at) + gain / slope
    result: np.ndarray = np.where(doublings > np.log2(MOST), np.inf, 2.0 ** np.minimum(doublings, np.log2(MOST)))
    return result


def real_equivalents(
    fractions: np.ndarray, values: np.ndarray, supplemented: np.ndarray, at: float, patients: int | None
) -> dict[str, Any]:
    """{slope_per_doubling, fraction, low, high, extra_patients, extrapolated, note} of one supplemented cell.

    low, high: range over replicates (min, max); high is infinite where a replicate's fraction is above MOST.
    `patients`: real training patients at 100 %, for `extra_patients`. `extrapolated`: beyond the largest real
    fraction measured; the number is then no more than a direction. note: why fraction, low and high are NaN, else "".
    """
    equivalents = equivalent_fraction(fractions, values, supplemented, at)
    centre = float(np.median(equivalents))
    _, slope = log_linear_curve(fractions, np.asarray(values).mean(axis=0))
    note = NO_SLOPE if np.isnan(centre) else "" if np.isfinite(centre) else TOO_FLAT
    known = {"fraction": centre, "low": float(equivalents.min()), "high": float(equivalents.max())}
    return {
        "slope_per_doubling": slope,
        **(dict.fromkeys(known, np.nan) if note else known),
        "extra_patients": None if patients is None or note else round((centre - at) * patients),
        "extrapolated": bool(centre > fractions.max()),
        "note": note,
    }
