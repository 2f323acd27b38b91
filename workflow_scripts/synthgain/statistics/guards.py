"""Guards: controls that can take a *helps* back, or say that the instrument is broken."""

from typing import Any

import numpy as np
import pandas as pd

from synthgain.statistics.analysis import Analysis
from synthgain.statistics.comparisons import EXPLORATORY, higher_is_better
from synthgain.statistics.equivalence import HARMS, HELPS, INCONCLUSIVE

Alarm = dict[str, Any]
_PLACE = ["arm", "ratio", "baseline", "dataset", "label", "metric"]
_SHOWN = [*_PLACE, "difference", "low", "high", "p", "p_adjusted", "verdict"]


def guard(table: pd.DataFrame, analysis: Analysis) -> tuple[pd.DataFrame, dict[str, Alarm]]:
    """Return the comparisons with guarded verdicts, and the alarms.

    A synthetic arm's *helps* becomes *inconclusive* where its baseline is under-trained (`real_long` beats it), or,
    under `match: epochs`, where `repeated` at the same ratio is not beaten too. The other alarms only speak.
    """
    controls = table[table["family"] != EXPLORATORY]
    alarms = {
        "a_a": _role_alarm(controls, analysis, "repeated", (HELPS, HARMS), match="steps"),
        "under_trained": _role_alarm(controls, analysis, "real_long", (HELPS,)),
        "negative_control": _role_alarm(controls, analysis, "negative_control", (HELPS,)),
    }
    under_trained = {row["baseline"] for row in alarms["under_trained"]["rows"]}
    guarded, unbeaten = table.copy(), []
    for position, row in table.iterrows():
        if row["verdict"] != HELPS or not analysis.is_synthetic(row["arm"]):
            continue
        needs_repeated = analysis.arms[row["arm"]].get("match") == "epochs"
        beaten = not needs_repeated or _beats_repeated(table, row, analysis)
        if not beaten:
            unbeaten.append(row)
        if row["baseline"] in under_trained or not beaten:
            guarded.loc[position, "verdict"] = INCONCLUSIVE
    alarms["step_matched_control"] = {
        "checked": any(arm.get("match") == "epochs" for arm in analysis.arms.values()),
        "raised": bool(unbeaten),
        "rows": _records(pd.DataFrame(unbeaten, columns=table.columns)),
    }
    alarms["strong_augmentation"] = _strong_augmentation(controls, analysis)
    return guarded, alarms


def _role_alarm(
    controls: pd.DataFrame, analysis: Analysis, role: str, words: tuple[str, ...], match: str | None = None
) -> Alarm:
    """Alarm where a control against its own baseline has one of these verdicts."""
    pairs = zip(controls["arm"], controls["baseline"], strict=True)
    own = np.array([analysis.arms[arm].get("baseline") == baseline for arm, baseline in pairs], dtype=bool)
    rows = controls[(controls["role"] == role) & own]
    if match is not None:
        rows = rows[np.array([analysis.arms[arm].get("match", match) == match for arm in rows["arm"]], dtype=bool)]
    raised = rows[rows["verdict"].isin(words)]
    return {"checked": bool(len(rows)), "raised": bool(len(raised)), "rows": _records(raised)}


def _beats_repeated(table: pd.DataFrame, row: pd.Series, analysis: Analysis) -> bool:
    """Is the arm better than `repeated` at its ratio on this endpoint? Both tests at alpha, so nothing is adjusted."""
    repeated = [arm for arm in analysis.arms if analysis.role(arm) == "repeated"]
    same = table[
        (table["arm"] == row["arm"])
        & (table["ratio"] == row["ratio"])
        & (table["dataset"] == row["dataset"])
        & (table["label"] == row["label"])
        & (table["metric"] == row["metric"])
        & table["baseline"].isin(repeated)
    ]
    better = (same["difference"] > 0) == higher_is_better(row["metric"])
    return bool(((same["p"] < analysis.alpha) & better).any())


def _strong_augmentation(controls: pd.DataFrame, analysis: Analysis) -> Alarm:
    """Heavier classical augmentation beside each declared comparison: raised where it gained as much."""
    rows = []
    for primary in analysis.primaries:
        for arm in [name for name in analysis.arms if analysis.role(name) == "real_strong"]:
            strong = _find(controls, arm, 0, primary)
            gain = _find(controls, primary.arm, primary.ratio, primary)
            if strong is None or gain is None or strong["baseline"] != gain["baseline"]:
                continue
            sign = 1 if higher_is_better(primary.metric) else -1
            head_to_head = _find(controls, primary.arm, primary.ratio, primary, baseline=arm) or {}
            rows.append(
                {
                    "arm": primary.arm,
                    "ratio": primary.ratio,
                    "real_strong": arm,
                    "gain": gain["difference"],
                    "real_strong_gain": strong["difference"],
                    "difference": head_to_head.get("difference"),
                    "low": head_to_head.get("low"),
                    "high": head_to_head.get("high"),
                    # Without a gain there is nothing that cheaper ways could have reached as well.
                    "as_much": bool(sign * strong["difference"] >= sign * gain["difference"] > 0),
                    "beaten": bool(
                        head_to_head.get("p", 1.0) < analysis.alpha and sign * head_to_head["difference"] > 0
                    ),
                }
            )
    return {"checked": bool(rows), "raised": any(row["as_much"] for row in rows), "rows": rows}


def _find(controls: pd.DataFrame, arm: str, ratio: int, primary: Any, baseline: str | None = None) -> dict | None:
    """The row of an arm at the primary endpoint against its own baseline, or against `baseline`."""
    chosen = controls[
        (controls["arm"] == arm)
        & (controls["ratio"] == ratio)
        & (controls["dataset"] == primary.test_set)
        & (controls["label"] == primary.labels)
        & (controls["metric"] == primary.metric)
    ]
    rows = chosen.to_dict("records")
    if baseline is not None:
        rows = [row for row in rows if row["baseline"] == baseline]
    return rows[0] if rows else None


def _records(rows: pd.DataFrame) -> list[dict]:
    return [{name: row[name] for name in _SHOWN} for row in rows.to_dict("records")]
