"""What this design could have found, and whether more seeds or more patients would help."""

import numpy as np
from scipy import stats

from synthgain.statistics.obuchowski_rockette import Contrast

POWER = 0.8
PILOT_SD_LIMIT = 0.8  # plan with the upper 80 % limit of a standard deviation estimated from few seeds
SEED_GRID = (3, 5, 7, 10, 15, 20, 30)
PATIENT_FACTORS = (0.5, 1.0, 2.0, 4.0)


def standard_error(seed_variance: float, patient_variance: float, seeds: int, patient_factor: float = 1.0) -> float:
    """SE of the difference: sqrt(seed_variance/S + patient_variance/factor); factor 1 is today's test set."""
    return float(np.sqrt(seed_variance / seeds + patient_variance / patient_factor))


def hillis_df(seed_variance: float, patient_variance: float, seeds: int) -> float:
    """Hillis' degrees of freedom from the two components of the variance of the difference."""
    if seed_variance <= 0:
        return float("inf")
    return float((seed_variance + seeds * patient_variance) ** 2 / (seed_variance**2 / (seeds - 1)))


def detectable_effect(se: float, df: float, alpha: float, power: float = POWER) -> float:
    """Smallest true difference found with this power by the two-sided t-test (noncentral t, to 1e-6 of se)."""
    if not np.isfinite(se) or se <= 0:
        return float("nan")
    if np.isinf(df):
        return float(se * (stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)))
    critical = stats.t.ppf(1 - alpha / 2, df)

    low, high = 0.0, critical + 10.0
    while stats.nct.sf(critical, df, high) < power:
        high *= 2
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if stats.nct.sf(critical, df, middle) < power else (low, middle)
    return float(se * high)


def upper_seed_variance(seed_variance: float, seeds: int) -> float:
    """Upper 80 % limit of a variance estimated from S seeds (chi-square)."""
    return float(seed_variance * (seeds - 1) / stats.chi2.ppf(1 - PILOT_SD_LIMIT, seeds - 1))


def power_report(contrast: Contrast, patients: int, alpha: float, margin: float, reason: str = "") -> dict[str, object]:
    """`power.json` of one comparison: components, minimum detectable effect, and what would lower it.

    reason: why the comparison is not estimable.

    limits: "patients" where the patient part of SE² is the larger one, else "seeds".
    """
    if not contrast.varies:
        why = reason or "needs two replicates and an estimable metric"
        return {"seeds": contrast.seeds, "patients": patients, "note": f"not estimable: {why}"}
    seed, patient = contrast.seed_variance, contrast.patient_variance
    planned = upper_seed_variance(seed, contrast.seeds)
    grid = [
        {
            "seeds": seeds,
            "patients": round(patients * factor),
            "se": standard_error(planned, patient, seeds, factor),
            "detectable": detectable_effect(
                standard_error(planned, patient, seeds, factor), hillis_df(planned, patient / factor, seeds), alpha
            ),
        }
        for seeds in SEED_GRID
        for factor in PATIENT_FACTORS
    ]
    enough = [entry for entry in grid if entry["detectable"] <= margin]
    limits = "patients" if patient > seed / contrast.seeds else "seeds"
    return {
        "seeds": contrast.seeds,
        "patients": patients,
        "seed_sd": float(np.sqrt(seed)),
        "patient_sd": float(np.sqrt(patient * patients)),
        "seed_share_of_variance": float(seed / contrast.seeds / contrast.se**2) if contrast.se > 0 else None,
        "limits": limits,
        "se": contrast.se,
        "power": POWER,
        "detectable": detectable_effect(contrast.se, contrast.df, alpha),
        "floor_with_endless_seeds": detectable_effect(float(np.sqrt(patient)), float("inf"), alpha),
        "grid": grid,
        "enough_for_margin": min(enough, key=lambda entry: entry["seeds"] * entry["patients"]) if enough else None,
        "advice": _advice(limits),
    }


def _advice(limits: str) -> str:
    if limits == "patients":
        return "The finite test set limits this comparison: more test patients would help, more seeds hardly."
    return "Training noise limits this comparison: more seeds would help, more test patients hardly."
