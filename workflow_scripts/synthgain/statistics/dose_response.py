"""Dose–response over supplementation ratios: slopes, tested over seeds and patients, and which curve fits the means."""

from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

from synthgain.statistics.best_ratio import BestRatio
from synthgain.statistics.obuchowski_rockette import Contrast

MIN_RATIOS_FOR_CURVES = 5  # the zero ratio included; fewer points cannot tell a power law from a line
CURVE_DRAWS = 200
# error = floor + amplitude · (1 + r/100)^(−exponent): bounds keep floor and exponent meaningful
POWER_LAW_BOUNDS = ([0.0, -1.0, 0.01], [1.0, 1.0, 5.0])


def dose(ratios: np.ndarray) -> np.ndarray:
    """log2(1 + ratio/100): 0 at 0 %, 1 at 100 %, 2 at 300 %."""
    return np.log2(1 + np.asarray(ratios, dtype=np.float64) / 100)


def slope_weights(ratios: np.ndarray) -> np.ndarray:
    """(K,) weights of the values at each ratio that give their least-squares slope on `dose`, per doubling."""
    x = dose(ratios)
    centred = x - x.mean()
    result: np.ndarray = centred / (centred @ centred)
    return result


class Slope(TypedDict):
    """Slope of the metric per unit of dose (`dose`). violations: neighbouring ratios where the mean falls."""

    slopes: list[float]
    mean: float
    low: float
    high: float
    df: float
    p: float
    violations: int


class Curve(TypedDict):
    """A fitted curve."""

    parameters: list[float]
    aicc: float


class Curves(TypedDict):
    """The curves of one arm by name; best: the name of the one to be read."""

    best: str
    models: dict[str, Curve]


class DoseFit(TypedDict):
    """An entry of dose_response.json."""

    arm: str
    dataset: str
    label: str
    metric: str
    ratios: list[int]
    replicates: int
    slope: Slope
    picked: NotRequired[BestRatio]
    curves: NotRequired[Curves]
    intervals: NotRequired[dict[str, list[float]]]


def slope_test(per_unit: np.ndarray, contrast: Contrast, means: np.ndarray, confidence: float = 0.95) -> Slope:
    """Test of the mean slope, with seeds and patients random (Obuchowski–Rockette–Hillis on slopes).

    per_unit: (S,) slopes. contrast: `obuchowski_rockette.linear` of them. means: (K,) of the metric by rising ratio.
    """
    low, high = contrast.interval(confidence)
    known = contrast.varies
    return {
        "slopes": per_unit.tolist(),
        "mean": contrast.difference,
        "low": low if known else np.nan,
        "high": high if known else np.nan,
        "df": contrast.df if known else np.nan,
        "p": contrast.p_value() if known else np.nan,
        "violations": int((np.diff(means) < 0).sum()),
    }


def power_law(ratios: np.ndarray, floor: float, amplitude: float, exponent: float) -> np.ndarray:
    """Error at each ratio (percent): floor + amplitude · (1 + ratio/100)^(−exponent)."""
    result: np.ndarray = floor + amplitude * (1 + np.asarray(ratios) / 100) ** (-exponent)
    return result


def aicc(residuals: np.ndarray, parameters: int) -> float:
    """Akaike's criterion for small samples, Gaussian errors; `parameters` counts the variance."""
    count = len(residuals)
    if count - parameters - 1 <= 0:
        return float("inf")
    variance = max(float(np.mean(residuals**2)), 1e-16)
    return count * np.log(variance) + 2 * parameters + 2 * parameters * (parameters + 1) / (count - parameters - 1)


def fit_curves(ratios: np.ndarray, values: np.ndarray) -> Curves:
    """Fit constant, log-linear and bounded power law to 1 − metric and compare them by AICc.

    ratios (K,) with 0; values (S, K). Differences between replicates are taken out first (they shift a whole
    curve), so residuals are of S·K points. {best, models: {name: {parameters, aicc}}}. Residuals know nothing of the
    patients that all points share, so a curve is only read where the slope is significant (`slope_test`).
    """
    errors = 1 - np.asarray(values, dtype=np.float64)
    centred = errors - errors.mean(axis=1, keepdims=True) + errors.mean()
    x = np.tile(np.asarray(ratios, dtype=np.float64), len(errors))
    y = centred.ravel()
    shifts = len(errors) - 1  # parameters spent on centring
    line = np.polyfit(dose(x), y, 1)
    models: dict[str, Curve] = {
        "constant": {"parameters": [float(y.mean())], "aicc": aicc(y - y.mean(), 2 + shifts)},
        "log_linear": {"parameters": [float(p) for p in line], "aicc": aicc(y - np.polyval(line, dose(x)), 3 + shifts)},
    }
    fitted = _fit_power_law(x, y)
    if fitted is not None:
        models["power_law"] = {
            "parameters": fitted.tolist(),
            "aicc": aicc(y - power_law(x, *fitted), 4 + shifts),
        }
    best = min(models, key=lambda name: models[name]["aicc"])
    return {"best": best, "models": models}


def curve_intervals(
    ratios: np.ndarray,
    values: np.ndarray,
    covariance: np.ndarray,
    random: np.random.Generator,
    confidence: float = 0.95,
) -> dict[str, list[float]]:
    """Intervals of the power law's parameters, resampling replicates and perturbing all cells over patients.

    covariance: (K, K) of the seed-mean metric per ratio under resampling of patients.
    """
    root = np.linalg.cholesky(covariance + 1e-14 * np.eye(len(covariance)))
    fits = []
    for _ in range(CURVE_DRAWS):
        chosen = values[random.integers(0, len(values), len(values))].mean(axis=0)
        moved = chosen + root @ random.normal(size=len(chosen))
        fitted = _fit_power_law(np.asarray(ratios, dtype=np.float64), 1 - moved)
        if fitted is not None:
            fits.append(fitted)
    if len(fits) < CURVE_DRAWS / 2:
        return {}
    tail = (1 - confidence) / 2
    low, high = np.quantile(fits, [tail, 1 - tail], axis=0)
    names = ("floor", "amplitude", "exponent")
    return {name: [float(a), float(b)] for name, a, b in zip(names, low, high, strict=True)}


def point_rows(endpoint_key: dict[str, str], arm: str, ratios: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """`dose_response.csv`: one row per replicate and ratio (0 is the baseline); values (S, K)."""
    replicates, count = values.shape
    return pd.DataFrame(
        {
            "arm": arm,
            **endpoint_key,
            "ratio": np.tile(ratios, replicates),
            "replicate": np.repeat(np.arange(replicates), count),
            "value": values.ravel(),
            "difference": (values - values[:, :1]).ravel(),
        }
    )


def _fit_power_law(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    start = [float(np.clip(y.min(), 0, 1)), float(np.clip(y[0] - y.min(), -0.9, 0.9)), 1.0]
    try:
        return np.asarray(curve_fit(power_law, x, y, p0=start, bounds=POWER_LAW_BOUNDS, max_nfev=2000)[0])
    except (RuntimeError, ValueError):
        return None
