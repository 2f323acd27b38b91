"""Can a difference be estimated at all? If not, the verdict is *inconclusive*, and this is why."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.analysis import Analysis
from synthgain.statistics.information import Kinds, too_few
from synthgain.statistics.metric_registry import MACRO
from synthgain.statistics.obuchowski_rockette import Contrast
from synthgain.statistics.pairs import Pair
from synthgain.statistics.predictions import Panel
from synthgain.statistics.units import Units, mean_influence

# Scores whose spread is this small beside their size differ by rounding only (predictions are float32).
SCORE_ROUNDING = 8 * float(np.finfo(np.float32).eps)
_ENDS = ((np.min, np.inf), (np.max, -np.inf))
COPIES = "predictions are equal to the bit, as those of copies of the same training images must be"
NO_SPREAD = "neither seeds nor patients vary"
UNREACHED = "the images did not reach the model"


class Estimated(Protocol):
    """What an endpoint has, and a metric within a group."""

    @property
    def label(self) -> str:
        """Name of the label, or MACRO."""

    @property
    def values(self) -> np.ndarray:
        """(R,) per run."""

    @property
    def covariance(self) -> np.ndarray:
        """(R, R) over patients."""

    @property
    def information(self) -> Kinds:
        """Who shows an error, who a success."""

    @property
    def influence(self) -> np.ndarray | None:
        """(R, K) of each patient, None where not known."""

    @property
    def ends(self) -> tuple[float, float] | None:
        """Where the metric's scale ends, None where its variance does not follow from that."""


def look_at(pairs: Sequence[Pair], panel: Panel, labels: Sequence[int], analysis: Analysis) -> list[Pair]:
    """Return the pairs with what their predictions show: equal ones, flat ones; labels: the estimable ones."""
    flat, prints = _flat(panel), [_fingerprint(panel, run) for run in range(len(panel.runs))]
    names = {panel.labels[label]: np.array([label]) for label in labels} | {MACRO: np.array(labels, dtype=np.int64)}
    seen = []
    for pair in pairs:
        sides = ((pair.baseline, pair.baseline_runs), (pair.arm, pair.arm_runs))
        still = {name: [arm for arm, runs in sides if flat[np.ix_(runs, at)].all()] for name, at in names.items()}
        still = {name: found for name, found in still.items() if found}
        equal = [prints[a] == prints[b] for a, b in zip(pair.arm_runs, pair.baseline_runs, strict=True)]
        moving = [bool(same) and not flat[run].all() for same, run in zip(equal, pair.arm_runs, strict=True)]
        one = [arm for arm, runs in sides if len(runs) > 1 and len({prints[run] for run in runs}) == 1]
        copies = bool(equal) and all(equal) and same_training(pair.arm, pair.baseline, analysis)
        unreached = 0 if same_training(pair.arm, pair.baseline, analysis) else sum(moving)
        seen.append(replace(pair, flat=still, unreached=unreached, copied="".join(one[:1]), copies=copies))
    return seen


def same_training(arm: str, other: str, analysis: Analysis) -> bool:
    """True if both arms train on the same real images, or declared copies of them, under the same augmentation."""
    first, second = analysis.arms[arm], analysis.arms[other]
    copies = [not spec.synthetic if spec.copies is None else spec.copies for spec in (first, second)]
    images = [(spec.real, spec.real_fraction, spec.augmentation) for spec in (first, second)]
    return all(copies) and images[0] == images[1]


def contrast_of(endpoint: Estimated, pair: Pair, units: Units) -> tuple[Contrast, str]:
    """The Obuchowski–Rockette–Hillis contrast of a pair and, where it says nothing, why not: then its SE is NaN.

    Predictions of declared copies that are equal to the bit have a reason too, but an SE of 0: they are equivalent.
    """
    arm, baseline = pair.arm_runs, pair.baseline_runs
    both = np.concatenate([arm, baseline])
    blocks = np.kron(np.eye(2), units.averaging)
    matrix = blocks @ endpoint.covariance[np.ix_(both, both)] @ blocks.T
    first, second = units.averaging @ endpoint.values[arm], units.averaging @ endpoint.values[baseline]
    influence = None if endpoint.influence is None else mean_influence(blocks @ endpoint.influence[both], units.strata)
    contrast = orh.compare(first, second, matrix, units.strata, influence, endpoint.ends)
    reason = _obstacle(endpoint, pair, contrast)
    if reason in ("", COPIES):
        return contrast, reason
    return replace(contrast, se=np.nan, df=np.nan), reason


def _obstacle(endpoint: Estimated, pair: Pair, contrast: Contrast) -> str:
    """In the order of what is most wrong."""
    if contrast.seeds < 2:
        return "two replicates are needed"
    if not np.isfinite(contrast.difference):
        return "the metric is not defined in every run"
    if endpoint.label in pair.flat:
        return f"the scores of {' and '.join(pair.flat[endpoint.label])} do not vary"
    if pair.copies:
        return COPIES
    if pair.unreached:
        where = f"in {pair.unreached} of {len(pair.replicates)} replicates"
        return f"{UNREACHED}: predictions equal those of {pair.baseline} {where}"
    if pair.copied:
        return f"the replicates of {pair.copied} are copies of one another"
    few = too_few(endpoint.information, pair.arm_runs, pair.baseline_runs)
    if few:
        return few
    if not np.isfinite(contrast.se):
        return "its variance over patients is not defined"
    return "" if contrast.varies else NO_SPREAD


def _flat(panel: Panel) -> np.ndarray:
    """(R, L) bool: the scores of all images are one number, but for rounding. Of masks it is the Dice."""
    scores = panel.image_scores.get("dice", panel.scores)
    known = np.isfinite(scores)
    low, high = (function(scores, axis=2, where=known, initial=start) for function, start in _ENDS)
    return known.any(axis=2) & (high - low <= SCORE_ROUNDING * np.maximum(np.abs(low), np.abs(high)))


def _fingerprint(panel: Panel, run: int) -> bytes:
    """Of a run's predictions: equal for equal bits."""
    parts = [panel.scores[run], *(panel.image_scores[name][run] for name in sorted(panel.image_scores))]
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).digest()
