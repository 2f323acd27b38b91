"""What the memorisation gate says of arms that use a pool: a warning in the sentence, a bar on a copied test set."""

from collections.abc import Mapping, Sequence

import pandas as pd

from synthgain.statistics.analysis import Analysis
from synthgain.statistics.documents import CopyAlarm, Copying, Filtered, Gate, rows_of

BARRED = "barred"  # in place of a verdict: the pool holds copies of the test set's images
Gates = Mapping[str, Sequence[Gate]]


def apply_gates(table: pd.DataFrame, gates: Gates, analysis: Analysis) -> tuple[pd.DataFrame, CopyAlarm]:
    """Return the comparisons, barred where a pool of either arm holds copies of the test set, and the alarm.

    gates: arm → the gate.json of each draw of its pool (evaluation stage), in their order. One draw with copies is
    enough: an exceeded one speaks, of these the one with the most near-exact copies, then the largest excess.
    The alarm's rows: {arm, excess, low, high, limit, state, copies, images, sentence, barred_sets of all draws,
    filtered: {arm, ratio, dataset, …} of the arm that trains on the pool without the flagged samples, on every
    declared endpoint}.
    """
    barred = {arm: {name for gate in found for name in gate["barred_sets"]} for arm, found in gates.items()}
    hit = [
        any(f"{dataset}/{part}" in barred.get(arm, ()) for arm in pair for part in ("validation", "test"))
        for *pair, dataset in zip(table["arm"], table["baseline"], table["dataset"], strict=True)
    ]
    judged = table.assign(verdict=table["verdict"].mask(pd.Series(hit, index=table.index, dtype=bool), BARRED))
    rows: list[Copying] = []
    for arm, found in gates.items():
        worst = max(found, key=_badness)
        if worst["exceeded"] and analysis.arms[arm].cleaned:  # what is left of it are copies of test images
            worst = {**max(found, key=lambda gate: len(gate["barred_sets"])), "exceeded": False}
        if worst["exceeded"] or barred[arm]:
            rows.append(
                {
                    "arm": arm,
                    "excess": worst["excess"],
                    "low": worst.get("low"),
                    "high": worst.get("high"),
                    "limit": worst.get("limit"),
                    "state": worst.get("state"),
                    "copies": worst.get("copies"),
                    "images": worst.get("images"),
                    "sentence": _sentence(found, worst),
                    "exceeded": worst["exceeded"],
                    "barred_sets": sorted(barred[arm]),
                    "filtered": _without_flagged(judged, arm, analysis),
                }
            )
    return judged, {"checked": bool(gates), "raised": bool(rows), "rows": rows}


def _badness(gate: Gate) -> tuple[bool, int, int, float]:
    excess = gate["excess"]
    return gate["exceeded"], gate.get("copies", 0), len(gate["barred_sets"]), -1.0 if excess is None else excess


def _sentence(found: Sequence[Gate], worst: Gate) -> str:
    """The worst draw's sentence, and where there are several draws which one it is and how many are like it."""
    if len(found) == 1:
        return str(worst["sentence"])
    above = sum(bool(gate["exceeded"]) for gate in found)
    which = next(number for number, gate in enumerate(found) if gate["sentence"] == worst["sentence"])
    return (
        f"In draw {which}, the worst of {len(found)} draws of the pool ({above} above the limit): {worst['sentence']}"
    )


def _without_flagged(table: pd.DataFrame, arm: str, analysis: Analysis) -> list[Filtered]:
    """Rows of the arm's filtered twin against its own baseline, on the declared endpoints."""
    twin = analysis.arms[arm].filtered
    if twin is None:
        return []
    chosen = table[(table["arm"] == twin) & (table["baseline"] == analysis.arms[twin].baseline)]
    wanted = analysis.primary_endpoints()
    return [
        {
            "arm": row["arm"],
            "ratio": row["ratio"],
            "dataset": row["dataset"],
            "label": row["label"],
            "metric": row["metric"],
            "difference": row["difference"],
            "low": row["low"],
            "high": row["high"],
            "verdict": row["verdict"],
        }
        for row in rows_of(chosen)
        if (row["dataset"], row["label"], row["metric"]) in wanted
    ]
