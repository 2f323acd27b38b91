"""The memorisation gate: is the pool nearer to its training images than new patients are?

Rules after Dar et al. (arXiv 2402.01054), Akbar et al. 2025 and Carlini et al. 2023 (arXiv 2301.13188). Every
threshold comes from real images, and every rate stands beside the same rate on held-out real images: these
checks detect copying, they do not certify privacy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthgain.evaluation.matched_rates import Flagged, matched_excess
from synthgain.evaluation.nearest import Neighbours

COLUMNS = (
    "space", "rule", "threshold", "n", "flagged", "rate", "null_n", "null_rate", "excess", "low", "high",
    "p_adjusted", "note",
)  # fmt: skip
PIXEL_QUANTILE = 0.999  # of validation → nearest training similarities
FEATURE_QUANTILE = 0.95  # of training → nearest validation similarities (Dar et al.)
ALPHA = 0.5  # Carlini et al.: nearer than half of the usual distance to the 50 nearest
NEAR_EXACT = 1 / 3  # nearer than a third of it: the same picture up to noise and a shift
LIMIT = 0.01
LEVEL = 0.025  # of the one-sided p, adjusted for the number of rules


@dataclass(frozen=True)
class Rates:
    """One rule on the images of the pool and on held-out real images."""

    space: str
    rule: str
    threshold: float
    pool: Flagged
    null: Flagged

    def row(self, rules: int, rng: np.random.Generator) -> dict[str, Any]:
        """The CSV row; `null_rate` is that of held-out images of the pool's kinds, `p_adjusted` Bonferroni's."""
        found = matched_excess(self.pool, self.null, rng)
        return {
            "space": self.space, "rule": self.rule, "threshold": self.threshold,
            "n": len(self.pool.flags), "flagged": int(self.pool.flags.sum()), "rate": found.rate,
            "null_n": len(self.null.flags), "null_rate": found.null_rate,
            "excess": found.excess, "low": found.low, "high": found.high,
            "p_adjusted": min(1.0, rules * found.p), "note": "",
        }  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """Images under a rule. neighbours: among the training images; patients, kinds: (n,) str."""

    neighbours: Neighbours
    patients: np.ndarray
    kinds: np.ndarray

    def above(self, threshold: float) -> Flagged:
        """The images nearer to a training image than `threshold`, a similarity."""
        return Flagged(self.neighbours.nearest > threshold, self.patients, self.kinds)

    def near(self) -> Flagged:
        """The images whose distance ratio is below ALPHA."""
        return Flagged(self.neighbours.distance_ratio() < ALPHA, self.patients, self.kinds)


def nearest_rule(space: str, pool: Compared, null: Compared, calibration: np.ndarray, quantile: float) -> Rates:
    """The rule "nearest": similarity above a quantile of `calibration`.

    calibration: similarities between different real patients, of images that are not in `null`.
    """
    threshold = float(np.quantile(calibration, quantile))
    return Rates(space, "nearest", threshold, pool.above(threshold), null.above(threshold))


def pixel_rules(pool: Compared, test: Compared, validation: Compared) -> list[Rates]:
    """The rules "nearest" and "distance ratio" in pixels.

    The ratio's threshold is fixed, so validation images are a null for it too.
    """
    ratios = [test.near(), validation.near()]
    null = Flagged(
        *(np.concatenate([getattr(side, name) for side in ratios]) for name in ("flags", "patients", "kinds"))
    )
    return [
        nearest_rule("pixels", pool, test, validation.neighbours.nearest, PIXEL_QUANTILE),
        Rates("pixels", "distance ratio", ALPHA, pool.near(), null),
    ]


def near_exact(neighbours: Neighbours) -> np.ndarray:
    """(n,) bool: the same picture as its nearest neighbour, up to a flip, a small shift, contrast and noise."""
    return neighbours.distance_ratio() < NEAR_EXACT


def judge(rows: Sequence[dict[str, Any]], limit: float, barred: Sequence[str]) -> dict[str, Any]:
    """The gate: exceeded where a rule's excess is above `limit` and its adjusted p below LEVEL.

    Returns {excess, low, high, limit, exceeded, state, rule, flagged, images, barred_sets, sentence} of the rule
    that decides: the largest excess among those beyond noise, else the largest of all. state is "exceeded",
    "within limit" (the whole interval is) or "undecided" (too few held-out images to tell).
    """
    proven = [row for row in rows if row["p_adjusted"] < LEVEL]
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
        f"against {_percent(worst['null_rate'])} of held-out real images of the same kinds "
        f"({worst['rule']} in {worst['space']}): excess {_percent(worst['excess'])}, "
        f"95 % interval {_percent(worst['low'])} to {_percent(worst['high'])}"
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
