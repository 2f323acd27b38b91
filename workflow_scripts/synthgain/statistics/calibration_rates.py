"""Does the instrument give the known answer? Rates over study seeds, each beside what is expected.

An observation says of one study, one arm on a pool of known truth, and one quantity whether it was seen; a rate
counts it over studies, with the exact binomial interval (Clopper & Pearson 1934).
"""

from typing import NamedTuple, TypedDict

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from synthgain.runtime.ledger import Comparison
from synthgain.statistics.documents import Verdict
from synthgain.statistics.equivalence import HELPS, VERDICTS

GATE = "gate exceeded"
SAME = "predictions equal repeated's"
MISSING = "no image of the dropped group"
LESS_GAIN = "gain in the dropped group below the oracle's"
MOVED = "calibration intercept further from 0 than real's"
LESS_VARIED = {metric: f"{metric} below the oracle's" for metric in ("recall", "coverage")}
ALARM = "alarm"
COLUMNS = ["arm", "kind", "quantity", "count", "studies", "share", "low", "high", "expected", "as_expected"]
CONFIDENCE = 0.95


class Expectation(NamedTuple):
    """At least, or at most, this share of the studies."""

    at_least: bool
    share: float

    def text(self, studies: int) -> str:
        """Return `at least 8 of 10`."""
        return f"{'at least' if self.at_least else 'at most'} {self.bound(studies)} of {studies}"

    def bound(self, studies: int) -> int:
        """Return the count at the bound: rounded up if it is the least, down if it is the most."""
        exact = round(self.share * studies, 9)
        return int(np.ceil(exact)) if self.at_least else int(np.floor(exact))

    def holds(self, count: int, studies: int) -> bool:
        """True if `count` of `studies` is as expected."""
        bound = self.bound(studies)
        return count >= bound if self.at_least else count <= bound


ALWAYS, MOSTLY, SELDOM = Expectation(True, 1.0), Expectation(True, 0.8), Expectation(False, 0.1)
NEVER = Expectation(False, 0.0)
NOT_COPIES = ("oracle", "noise", "label_shuffled", "wrong_prevalence", "mode_dropper")
# (kind of pool, quantity without the part after a colon) → what a working instrument shows.
EXPECTED: dict[tuple[str, str], Expectation] = {
    ("oracle", HELPS): MOSTLY,
    **{(kind, HELPS): SELDOM for kind in ("copier", "noise", "label_shuffled")},
    ("copier", SAME): ALWAYS,
    **{(kind, GATE): ALWAYS for kind in ("copier", "jittered_copier", "part_copier")},
    **{(kind, GATE): SELDOM for kind in NOT_COPIES},
    **{("mode_dropper", quantity): MOSTLY for quantity in (*LESS_VARIED.values(), LESS_GAIN)},
    ("mode_dropper", MISSING): ALWAYS,
    ("wrong_prevalence", MOVED): MOSTLY,
    **{("", f"{ALARM} {name}"): SELDOM for name in ("a_a", "under_trained", "negative_control")},
    ("", f"{ALARM} unreached"): NEVER,
}


def clopper_pearson(count: int, studies: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided interval of a binomial share (Clopper & Pearson 1934); (0, 1) without a study."""
    if studies == 0:
        return 0.0, 1.0
    interval = binomtest(count, studies).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def rates(observations: pd.DataFrame) -> pd.DataFrame:
    """Count observations (study, arm, kind, quantity, seen) over studies: a row of COLUMNS per arm and quantity."""
    rows = []
    for keys, seen in observations.groupby(["arm", "kind", "quantity"], sort=False)["seen"]:
        arm, kind, quantity = map(str, keys)
        count, studies = int(seen.sum()), len(seen)
        low, high = clopper_pearson(count, studies)
        expected = EXPECTED.get((kind, quantity.split(":")[0]))
        rows.append(
            {
                "arm": arm,
                "kind": kind,
                "quantity": quantity,
                "count": count,
                "studies": studies,
                "share": count / studies,
                "low": low,
                "high": high,
                "expected": expected.text(studies) if expected else "",
                "as_expected": expected.holds(count, studies) if expected else None,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def same_scores(first: pd.DataFrame, second: pd.DataFrame, ratio: int) -> bool:
    """True if two prediction tables hold the same images with bit-equal scores at `ratio`."""
    keys = ["replicate", "dataset", "part", "image_id", "label"]
    one, other = (
        table[table["ratio"] == ratio].sort_values(keys, ignore_index=True)[[*keys, "score"]]
        for table in (first, second)
    )
    if one.empty or not one[keys].equals(other[keys]):
        return False
    return one["score"].to_numpy().tobytes() == other["score"].to_numpy().tobytes()


class ArmVerdict(TypedDict):
    """An arm's declared comparison; null where there is none."""

    verdict: str | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None


def verdict_of_arm(verdict: Verdict, primary: Comparison) -> ArmVerdict:
    """The declared comparison of an arm in a `verdict.json`."""
    place = (primary["arm"], primary["ratio"], primary["test_set"], primary["labels"], primary["metric"])
    for entry in verdict["comparisons"]:
        row = entry["primary"]
        if row and (row["arm"], row["ratio"], row["dataset"], row["label"], row["metric"]) == place:
            return {
                "verdict": entry["verdict"],
                "difference": row["difference"],
                "low": row["low"],
                "high": row["high"],
                "p": row["p"],
            }
    return {"verdict": None, "difference": None, "low": None, "high": None, "p": None}


def seen_verdicts(word: str | None) -> dict[str, bool]:
    """{verdict word: was it this one}."""
    return {name: word == name for name in VERDICTS}


def less_varied(own: pd.DataFrame, oracle: pd.DataFrame, reference: str) -> dict[str, bool]:
    """Per feature space and metric: does the pool reach less of the real images than the oracle does?

    own, oracle: the two pools' `fidelity.csv`; reference: which real images, `held_out` or `train`.
    """
    keys = ["space", "metric"]

    def chosen(table: pd.DataFrame) -> pd.DataFrame:
        kept = (table["reference"] == reference) & (table["group"] == "all") & table["metric"].isin(LESS_VARIED)
        return table.loc[kept, [*keys, "value"]].dropna()

    pairs = chosen(own).merge(chosen(oracle), on=keys, suffixes=("_own", "_oracle"))
    less = pairs["value_own"] < pairs["value_oracle"]
    columns = zip(pairs["metric"], pairs["space"], less, strict=True)
    return {f"{LESS_VARIED[metric]}: {space}": bool(seen) for metric, space, seen in columns}


def group_is_missing(fidelity: pd.DataFrame, group: str) -> bool:
    """True if `fidelity.csv` finds no synthetic image of a group such as `sex=F`."""
    rows = fidelity[fidelity["group"] == group]
    return len(rows) > 0 and bool((rows["n"] == 0).all())


def less_gain(subgroups: pd.DataFrame, own: Comparison, oracle: str, column: str, group: str) -> dict[str, bool]:
    """Is the AUROC gained in one group smaller than the oracle arm's? Empty where either has no estimate.

    subgroups: `subgroups.csv`; own: the arm's declared comparison.
    """
    kept = subgroups[
        (subgroups["column"] == column)
        & (subgroups["group"].astype(str) == group)
        & (subgroups["metric"] == "auroc")
        & (subgroups["dataset"] == own["test_set"])
        & (subgroups["ratio"] == own["ratio"])
    ]
    gains = kept.groupby("arm")["difference"].mean().dropna()
    if not {own["arm"], oracle} <= set(gains.index):
        return {}
    return {f"{LESS_GAIN}: {column}={group}": bool(gains[own["arm"]] < gains[oracle])}


def calibration_moved(table: pd.DataFrame, own: Comparison, baseline: str) -> dict[str, bool]:
    """Is the calibration intercept before correction further from 0 than the baseline's? table: `calibration.csv`."""
    kept = table[(table["correction"] == "none") & (table["dataset"] == own["test_set"])]
    size = {
        name: kept.loc[(kept["arm"] == name) & (kept["ratio"] == ratio), "intercept"].abs().mean()
        for name, ratio in ((own["arm"], own["ratio"]), (baseline, 0))
    }
    if any(np.isnan(value) for value in size.values()):
        return {}
    return {MOVED: bool(size[own["arm"]] > size[baseline])}
