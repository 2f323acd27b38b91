"""Real-image equivalents: how many more real patients would have given the same gain.

The exchange rate is a ratio, gain over slope of the real curve, and its confidence set is Fieller's (1954): over seeds
and patients jointly, and without a bound where the slope cannot be told from 0. Then the data set no limit, which is
said; a range over replicates would hide it.
"""

from dataclasses import dataclass

import numpy as np

from synthgain.statistics.obuchowski_rockette import NO_SPREAD, Contrast, t_quantile
from synthgain.statistics.readings import UNBOUNDED

MOST = 100.0  # times the real patients: a larger number says that the curve is flat, and no more
NO_SLOPE = "not estimable: no positive slope, more real patients do not raise the metric here"
TOO_FLAT = f"not estimable: more than {MOST:g} times the real patients, far beyond the measured curve"


@dataclass(frozen=True)
class Exchange:
    """Contrasts over seeds and patients of the gain, of the real curve's slope per doubling, and of gain + slope."""

    gain: Contrast
    slope: Contrast
    both: Contrast

    def doublings(self, confidence: float) -> tuple[float, float]:
        """Fieller's set of gain/slope: {x: (gain − x·slope)² ≤ t²·Var(gain − x·slope)}; (−inf, inf) if without a bound.

        NaN where nothing varies or seeds are too few.
        """
        variances = self.gain.se**2, self.slope.se**2, self.both.se**2
        if not (np.isfinite(variances).all() and min(variances[:2]) > NO_SPREAD**2):
            return float("nan"), float("nan")
        gain, slope = self.gain.difference, self.slope.difference
        t = t_quantile(0.5 + confidence / 2, min(self.gain.df, self.slope.df))
        common = (variances[2] - variances[0] - variances[1]) / 2
        square = slope**2 - t**2 * variances[1]
        middle, rest = gain * slope - t**2 * common, gain**2 - t**2 * variances[0]
        inside = middle**2 - square * rest
        if square <= 0 or inside < 0 or slope <= 0:
            return -np.inf, np.inf
        root = float(np.sqrt(inside))
        return (middle - root) / square, (middle + root) / square


def contrasts(fractions: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (K + 1,) of the real arms at `fractions` (K,), then of the supplemented arm: gain, slope, gain + slope.

    The gain is over the real arm at position `at`, the slope the least-squares one on log2(fraction).
    """
    x = np.log2(np.asarray(fractions, dtype=np.float64))
    centred = x - x.mean()
    slope = np.append(centred / (centred @ centred), 0.0)
    gain = np.zeros(len(slope))
    gain[at], gain[-1] = -1.0, 1.0
    return gain, slope, gain + slope


def times_real(doublings: float, at: float) -> float:
    """Fraction of the real patients after some doublings of `at`; infinite above MOST, for no number holds them."""
    reached = float(np.log2(at) + doublings)
    return float("inf") if reached > np.log2(MOST) else float(np.exp2(reached))


def real_equivalents(
    exchange: Exchange, at: float, largest: float, patients: int | None, confidence: float = 0.95
) -> dict[str, object]:
    """{slope_per_doubling, fraction, low, high, extra_patients, extrapolated, note} of one supplemented cell.

    at: the real fraction that was supplemented; largest: the largest measured. low, high: the confidence set, high
    infinite and low 0 where it has no bound. patients: real training patients at 100 %, for `extra_patients`.
    extrapolated: beyond the largest real fraction measured; the number is then no more than a direction.
    note: why there is no fraction, or no bound, else "".
    """
    slope = exchange.slope.difference
    centre = times_real(exchange.gain.difference / slope, at) if slope > NO_SPREAD else float("nan")
    note = NO_SLOPE if np.isnan(centre) else "" if np.isfinite(centre) else TOO_FLAT
    low, high = exchange.doublings(confidence)
    unbounded = np.isinf(high)
    return {
        "slope_per_doubling": slope,
        "fraction": np.nan if note else centre,
        "low": np.nan if note == NO_SLOPE else 0.0 if unbounded else times_real(low, at),
        "high": np.nan if note == NO_SLOPE else times_real(high, at),
        "extra_patients": None if patients is None or note else round((centre - at) * patients),
        "extrapolated": bool(centre > largest),
        "note": note or (UNBOUNDED if unbounded else ""),
    }
