"""The memorisation gate: is the pool nearer to its training images than new patients are?

Rules after Dar et al. (arXiv 2402.01054), Akbar et al. 2025 and Carlini et al. 2023 (arXiv 2301.13188). Every
threshold comes from real images, and every rate stands beside the same rate on held-out real images: these
checks detect copying, they do not certify privacy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from synthgain.evaluation.nearest import Neighbours
from synthgain.evaluation.resampling import rate_difference

COLUMNS = (
    "space", "rule", "threshold", "n", "flagged", "rate", "null_n", "null_rate", "excess", "low", "high",
    "adjusted_low", "note",
)  # fmt: skip
PIXEL_QUANTILE = 0.999  # of validation → nearest training similarities
FEATURE_QUANTILE = 0.95  # of training → nearest validation similarities (Dar et al.)
ALPHA = 0.5  # Carlini et al.: nearer than half of the usual distance to the 50 nearest
NEAR_EXACT = 1 / 3  # nearer than a third of it: the same picture up to noise and a shift
LIMIT = 0.01


@dataclass(frozen=True)
class Rates:
    """One rule on the pool and on its null.

    flags, null_flags: bool per image; patients, null_patients: the patient (or parent) of each.
    """

    space: str
    rule: str
    threshold: float
    flags: np.ndarray
    patients: np.ndarray
    null_flags: np.ndarray
    null_patients: np.ndarray

    def row(self, rules: int) -> dict[str, Any]:
        """The CSV row; `adjusted_low` is the lower bound with alpha shared by `rules` rules."""
        data = (self.flags, self.patients, self.null_flags, self.null_patients)
        excess, low, high = rate_difference(*data)
        adjusted = rate_difference(*data, z=float(norm.ppf(1 - 0.025 / rules)))[1]
        return {
            "space": self.space, "rule": self.rule, "threshold": self.threshold,
            "n": len(self.flags), "flagged": int(self.flags.sum()), "rate": float(self.flags.mean()),
            "null_n": len(self.null_flags), "null_rate": float(self.null_flags.mean()),
            "excess": excess, "low": low, "high": high, "adjusted_low": adjusted, "note": "",
        }  # fmt: skip


def rules_of_space(
    space: str,
    synthetic: Neighbours,
    null: Neighbours,
    calibration: np.ndarray,
    quantile: float,
    patients: np.ndarray,
    null_patients: np.ndarray,
) -> list[Rates]:
    """The rules "nearest" (similarity above a quantile of `calibration`) and "distance ratio" of one space.

    synthetic, null: neighbours among the training images of the pool and of held-out test images.
    calibration: similarities between different real patients, of images that are not in `null`.
    """
    threshold = float(np.quantile(calibration, quantile))
    return [
        Rates(
            space, "nearest", threshold, synthetic.nearest > threshold, patients,
            null.nearest > threshold, null_patients,
        ),
        Rates(
            space, "distance ratio", ALPHA, synthetic.distance_ratio() < ALPHA, patients,
            null.distance_ratio() < ALPHA, null_patients,
        ),
    ]  # fmt: skip


def near_exact(neighbours: Neighbours) -> np.ndarray:
    """(n,) bool: the same picture as its nearest neighbour, up to a flip, a small shift, contrast and noise."""
    return neighbours.distance_ratio() < NEAR_EXACT


def judge(rows: Sequence[dict[str, Any]], limit: float, barred: Sequence[str]) -> dict[str, Any]:
    """The gate: exceeded where a rule's excess is above `limit` and its adjusted lower bound above 0.

    Returns {excess, low, high, limit, exceeded, state, rule, flagged, images, barred_sets, sentence} of the rule
    that decides: the largest excess among those beyond noise, else the largest of all. state is "exceeded",
    "within limit" (the whole interval is) or "undecided" (too few held-out images to tell).
    """
    proven = [row for row in rows if row["adjusted_low"] > 0]
    worst = max(proven or rows, key=lambda row: row["excess"])
    exceeded = bool(proven) and worst["excess"] > limit
    undecided = not exceeded and max(row["high"] for row in rows) > limit
    state = "exceeded" if exceeded else "undecided" if undecided else "within limit"
    return {
        "excess": worst["excess"], "low": worst["low"], "high": worst["high"], "limit": limit,
        "exceeded": exceeded, "state": state, "rule": f"{worst['rule']} in {worst['space']}",
        "flagged": worst["flagged"], "images": worst["n"], "barred_sets": list(barred),
        "sentence": _sentence(worst, limit, state, barred),
    }  # fmt: skip


def _sentence(worst: dict[str, Any], limit: float, state: str, barred: Sequence[str]) -> str:
    found = (
        f"{_percent(worst['rate'])} of the synthetic images are nearer to a training image than the threshold, "
        f"against {_percent(worst['null_rate'])} of held-out real images ({worst['rule']} in {worst['space']}): "
        f"excess {_percent(worst['excess'])}, 95 % interval {_percent(worst['low'])} to {_percent(worst['high'])}"
    )
    if state == "exceeded":
        text = f"Memorisation warning: {found}, above the limit of {_percent(limit)}."
    elif state == "undecided":
        text = f"No copying beyond chance was found, but an excess above {_percent(limit)} is not excluded: {found}."
    else:
        text = f"No copying above the limit of {_percent(limit)} was found: {found}."
    if barred:
        text += f" The pool holds copies of images of {', '.join(barred)}: no verdict may be given on these."
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
