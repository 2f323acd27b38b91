"""A shift of the operating point told from a gain in ranking.

A synthetic set of other prevalence moves the scores of all images alike: at a threshold of 0.5 sensitivity rises and
specificity falls, though no positive is ranked higher above the negatives than before (0.02/0.99 to 0.59/0.71 of
Huijben et al. 2024 is what that looks like). So AUROC, which no shift moves, stands next to both rates at the fixed
threshold, and next to both at the one that is fitted anew for each arm.
"""

from collections.abc import Hashable, Mapping
from typing import TypedDict

import numpy as np
import pandas as pd

from synthgain.statistics.analysis import Analysis
from synthgain.statistics.comparisons import CONTROL
from synthgain.statistics.readings import GAIN, GAIN_AND_SHIFT, LOSS, LOSS_AND_SHIFT, NEITHER, SHIFT, UNKNOWN
from synthgain.statistics.thresholds import FIXED

RANKING = "auroc"
RATES = ("sensitivity", "specificity")
READINGS = {(1, True): GAIN_AND_SHIFT, (1, False): GAIN, (-1, True): LOSS_AND_SHIFT, (-1, False): LOSS}
READINGS |= {(0, True): SHIFT, (0, False): NEITHER}
COLUMNS = [
    *("arm", "ratio", "baseline", "dataset", "label", "auroc", "auroc_low", "auroc_high", "auroc_p", "equal", "fitted"),
    *("sensitivity", "sensitivity_low", "sensitivity_high", "specificity", "specificity_low", "specificity_high"),
    *("fitted_sensitivity", "fitted_sensitivity_low", "fitted_sensitivity_high"),
    *("fitted_specificity", "fitted_specificity_low", "fitted_specificity_high", "reading"),
]


class Change(TypedDict):
    """A difference from the baseline with its interval; NaN where not estimable."""

    difference: float
    low: float
    high: float


def shift_or_gain(comparisons: pd.DataFrame, thresholds: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """`shift_or_gain.csv`: a row per arm, ratio, test set and label, controls left out.

    comparisons: `comparisons.csv`, whose adjusted p decides of AUROC; thresholds: `thresholds.csv`. Rates without a
    prefix are those at 0.5, `fitted_` those under the policy `fitted`. equal: AUROC is shown to be equal (verdict).
    A threshold that was not analysed, as in a multi-class set, leaves no row.
    """
    if FIXED not in analysis.policies or not len(thresholds):
        return pd.DataFrame(columns=COLUMNS)
    fitted = analysis.policy if analysis.policy != FIXED else next((p for p in analysis.policies if p != FIXED), FIXED)
    at = {
        (row["arm"], row["ratio"], row["dataset"], row["label"], row["policy"], row["metric"]): row
        for row in thresholds.to_dict("records")
    }
    rows = []
    ranked = comparisons[(comparisons["metric"] == RANKING) & (comparisons["family"] != CONTROL)]
    for row in ranked.to_dict("records"):
        place = (row["arm"], row["ratio"], row["dataset"], row["label"])
        if not all((*place, FIXED, rate) in at for rate in RATES):
            continue
        changes = {
            prefix + rate: _change(at[(*place, policy, rate)])
            for prefix, policy in (("", FIXED), ("fitted_", fitted))
            for rate in RATES
            if (*place, policy, rate) in at
        }
        found: dict[str, object] = {name: row[name] for name in ("arm", "ratio", "baseline", "dataset", "label")}
        found |= {"auroc": row["difference"], "auroc_low": row["low"], "auroc_high": row["high"]}
        found |= {"auroc_p": row["p_adjusted"], "equal": row["verdict"] == "equivalent", "fitted": fitted}
        for name, change in changes.items():
            found |= {name: change["difference"], f"{name}_low": change["low"], f"{name}_high": change["high"]}
        reading = reading_of(
            row["difference"], row["p_adjusted"], changes["sensitivity"], changes["specificity"], analysis.alpha
        )
        rows.append(found | {"reading": reading})
    return pd.DataFrame(rows, columns=COLUMNS)


def reading_of(auroc: float, p: float, sensitivity: Change, specificity: Change, alpha: float) -> str:
    """What the changes say together; the rates are those at the fixed threshold, p is that of AUROC.

    Ranking has changed where p < alpha. The operating point has shifted where one rate rose and the other fell, each
    interval without 0: a change of ranking alone moves both the same way.
    """
    if np.isnan(p):
        return UNKNOWN
    ranking = int(np.sign(auroc)) if p < alpha else 0
    return READINGS[ranking, _side(sensitivity) * _side(specificity) == -1]


def _side(change: Change) -> int:
    """1 where the whole interval is above 0, −1 where it is below, else 0."""
    return int(change["low"] > 0) - int(change["high"] < 0)


def _change(row: Mapping[Hashable, float]) -> Change:
    return {"difference": float(row["difference"]), "low": float(row["low"]), "high": float(row["high"])}
