"""What the memorisation gate says of arms that use a pool: a warning in the sentence, a bar on a copied test set."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from synthgain.statistics.analysis import Analysis

BARRED = "barred"  # in place of a verdict: the pool holds copies of the test set's images
SHOWN = ("excess", "low", "high", "limit", "state", "copies", "images", "sentence", "exceeded")
Gates = Mapping[str, Sequence[Mapping[str, Any]]]


def apply_gates(table: pd.DataFrame, gates: Gates, analysis: Analysis) -> tuple[pd.DataFrame, dict[str, Any]]:
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
    rows = []
    for arm, found in gates.items():
        worst = max(found, key=_badness)
        if worst["exceeded"] and analysis.arms[arm].get("cleaned"):  # what is left of it are copies of test images
            worst = {**max(found, key=lambda gate: len(gate["barred_sets"])), "exceeded": False}
        if worst["exceeded"] or barred[arm]:
            kept = {name: worst.get(name) for name in SHOWN}
            kept |= {"sentence": _sentence(found, worst), "barred_sets": sorted(barred[arm])}
            rows.append({"arm": arm, **kept, "filtered": _without_flagged(judged, arm, analysis)})
    return judged, {"checked": bool(gates), "raised": bool(rows), "rows": rows}


def _badness(gate: Mapping[str, Any]) -> tuple[Any, ...]:
    excess = gate["excess"]
    return gate["exceeded"], gate.get("copies", 0), len(gate["barred_sets"]), -1.0 if excess is None else excess


def _sentence(found: Sequence[Mapping[str, Any]], worst: Mapping[str, Any]) -> str:
    """The worst draw's sentence, and where there are several draws which one it is and how many are like it."""
    if len(found) == 1:
        return str(worst["sentence"])
    above = sum(bool(gate["exceeded"]) for gate in found)
    which = next(number for number, gate in enumerate(found) if gate["sentence"] == worst["sentence"])
    return (
        f"In draw {which}, the worst of {len(found)} draws of the pool ({above} above the limit): {worst['sentence']}"
    )


def _without_flagged(table: pd.DataFrame, arm: str, analysis: Analysis) -> list[dict[str, Any]]:
    """Rows of the arm's filtered twin against its own baseline, on the declared endpoints."""
    twin = analysis.arms[arm].get("filtered")
    if twin is None:
        return []
    chosen = table[(table["arm"] == twin) & (table["baseline"] == analysis.arms[twin].get("baseline"))]
    wanted = analysis.primary_endpoints()
    places = zip(chosen["dataset"], chosen["label"], chosen["metric"], strict=True)
    shown = ["arm", "ratio", "dataset", "label", "metric", "difference", "low", "high", "verdict"]
    return [
        {name: row[name] for name in shown}
        for row, place in zip(chosen.to_dict("records"), places, strict=True)
        if place in wanted
    ]
