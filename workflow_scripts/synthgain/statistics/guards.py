"""Guards: controls that can take a *helps* back, or say that the comparison itself is not to be trusted.

A guard looks at p, never at the margin: a control that differs significantly is seen, however small the difference.
All guards of a study share one level (Holm), so that without any fault at most alpha of studies alarm.
"""

from collections.abc import Hashable
from typing import cast

import numpy as np
import pandas as pd

from synthgain.statistics.analysis import Analysis
from synthgain.statistics.comparisons import EXPLORATORY, PRIMARY
from synthgain.statistics.documents import Alarm, Compared, Guards, Interval, Row, Tested, rows_of
from synthgain.statistics.equivalence import HELPS, INCONCLUSIVE
from synthgain.statistics.estimability import UNREACHED
from synthgain.statistics.metric_registry import higher_is_better
from synthgain.statistics.multiplicity import adjust

ALARM, PASSED, OPEN, NO_GAIN = "alarm", "passed", "open", "no gain"
NOT_INFORMATIVE, NOT_ESTIMABLE, NOT_CHECKED = "not informative", "not estimable", "not checked"
LOUDEST = (ALARM, OPEN, PASSED, NOT_ESTIMABLE, NOT_INFORMATIVE, NO_GAIN)
UNDER_TRAINED, UNBEATEN = "its baseline is under-trained", "repeated real images are not beaten"
ROLES = {"a_a": "repeated", "under_trained": "real_long", "negative_control": "negative_control"}
BESIDE = {"step_matched_control": "repeated", "strong_augmentation": "real_strong"}  # held against the declared arm
COMPETITORS = ("under_trained",)  # of ROLES: one that is worse than the baseline says nothing


def guard(table: pd.DataFrame, analysis: Analysis) -> tuple[pd.DataFrame, Guards]:
    """Return the comparisons with guarded verdicts (and `p_guard`, Holm over all guards), and the alarms.

    A synthetic arm's *helps* becomes *inconclusive* where its baseline is under-trained (`real_long` beats it), or
    where `repeated` at the same ratio is not beaten although it must be: under `match: epochs`, and where repetition
    alone gained. The other alarms are informational.
    """
    guarded = table.assign(p_guard=np.nan)
    tests = {name: _own_rows(guarded, analysis, role) for name, role in ROLES.items()}
    p = {
        at: _p(row, name)
        for name, found in tests.items()
        for at, row in zip(found, rows_of(guarded.loc[found]), strict=True)
    }
    guarded.loc[list(p), "p_guard"] = adjust(np.array(list(p.values())), "holm")
    alarms = {name: _role_alarm(guarded.loc[found], name, analysis) for name, found in tests.items()}
    under_trained = {row["baseline"] for row in alarms["under_trained"]["rows"]}
    gained = [row for row in alarms["a_a"]["rows"] if _better(row)]
    unbeaten = []
    for position, row in zip(table.index, rows_of(table), strict=True):
        if row["verdict"] != HELPS or not analysis.is_synthetic(row["arm"]):
            continue
        if _must_beat_repeated(row, gained, analysis) and not _beats_all(_heads(table, row, analysis), analysis):
            unbeaten.append(row)
            guarded.loc[position, ["verdict", "reason"]] = INCONCLUSIVE, UNBEATEN
        if row["baseline"] in under_trained:
            guarded.loc[position, ["verdict", "reason"]] = INCONCLUSIVE, UNDER_TRAINED
    alarms["step_matched_control"] = _step_matched(table, unbeaten, tests["a_a"], analysis)
    alarms["strong_augmentation"] = _strong_augmentation(table, analysis)
    same = [row for row in rows_of(table) if str(row["reason"]).startswith(UNREACHED)]
    alarms["unreached"] = {**_alarm([_shown(row, ALARM) for row in same]), "checked": bool(len(table))}
    for name in _without_rows(alarms, analysis):
        alarms[name]["state"] = NOT_ESTIMABLE
    return guarded, cast("Guards", alarms)  # the names of ROLES, and those above


def _without_rows(alarms: dict[str, Alarm], analysis: Analysis) -> list[str]:
    """Guards whose arm is in the study, though nothing of it could be compared on the declared endpoints.

    A competitor counts where it is one of the declared arm: `repeated` of all patients is none for an arm of a quarter.
    """
    roles = dict(ROLES)
    if any(arm.match == "epochs" for arm in analysis.arms.values()):
        del roles["a_a"]  # there repeated images are no A/A arm
    there = {analysis.role(arm) for arm in analysis.arms} if analysis.primaries else set()
    found = [name for name, role in roles.items() if role in there]
    beside = {analysis.arms[primary.arm].baseline for primary in analysis.primaries}
    beside_them = {analysis.role(name) for name, arm in analysis.arms.items() if arm.baseline in beside}
    found += [name for name, role in BESIDE.items() if role in beside_them]
    return [name for name in found if alarms[name]["state"] == NOT_CHECKED]


def _alarm(tested: list[Tested]) -> Alarm:
    found = {row["state"] for row in tested}
    state = next((state for state in LOUDEST if state in found), NOT_CHECKED)
    raised = [row for row in tested if row["state"] == ALARM]
    checked = bool(found & {ALARM, PASSED, OPEN})
    return {"checked": checked, "raised": bool(raised), "state": state, "rows": raised, "tested": tested}


def _own_rows(table: pd.DataFrame, analysis: Analysis, role: str) -> list[Hashable]:
    """Positions of the controls of a role against their own baselines, on the declared endpoints."""
    return [
        at
        for at, row in table.iterrows()
        if row["role"] == role
        and row["family"] != EXPLORATORY
        and analysis.arms[row["arm"]].baseline == row["baseline"]
        and not (role == "repeated" and analysis.arms[row["arm"]].match == "epochs")  # there no A/A arm
    ]


def _p(row: Row, name: str) -> float:
    """Two-sided for A/A; one-sided, for better than the baseline, for controls that must not gain."""
    half = row["p_two_sided"] / 2
    return float(2 * half if name == "a_a" else half if _better(row) else 1 - half)


def _role_alarm(rows: pd.DataFrame, name: str, analysis: Analysis) -> Alarm:
    def state(row: Row) -> str:
        if np.isnan(row["p_guard"]):
            return NOT_ESTIMABLE
        if row["p_guard"] < analysis.guard_level:
            return ALARM
        return NOT_INFORMATIVE if name in COMPETITORS and _is_worse(row, analysis) else PASSED

    return _alarm([_shown(row, state(row)) for row in rows_of(rows)])


def _better(row: Compared) -> bool:
    return bool((row["difference"] > 0) == higher_is_better(row["metric"]))


def _is_worse(row: Row, analysis: Analysis) -> bool:
    """Is a control significantly worse than its baseline? False for NaN."""
    return bool(row["p_two_sided"] < analysis.alpha) and not _better(row)


def _heads(table: pd.DataFrame, row: Row, analysis: Analysis) -> list[Row]:
    """The arm against each `repeated` at its ratio, on this endpoint."""
    repeated = [arm for arm in analysis.arms if analysis.role(arm) == "repeated"]
    against = table[(table["arm"] == row["arm"]) & table["baseline"].isin(repeated)]
    return [other for other in rows_of(against) if _beside(other) == _beside(row)]


def _must_beat_repeated(row: Row, gained: list[Tested], analysis: Analysis) -> bool:
    """True under `match: epochs` (steps grow with the set), and where repeating the real images alone gained."""
    alone = any(_place(other)[1:] == _place(row)[1:] for other in gained)
    return alone or analysis.arms[row["arm"]].match == "epochs"


def _beats_all(heads: list[Row], analysis: Analysis) -> bool:
    """True if every `repeated` is beaten. Both this and the gain must hold at alpha, so nothing is adjusted."""
    return bool(heads) and all(head["p"] < analysis.alpha and _better(head) for head in heads)


def _step_matched(table: pd.DataFrame, unbeaten: list[Row], repeats: list[Hashable], analysis: Analysis) -> Alarm:
    """The head-to-head of each declared synthetic arm against `repeated`; unbeaten: gains that were taken back."""
    needed = [_place(row) for row in unbeaten]
    own = rows_of(table.loc[repeats])
    tested, without = [], []
    for row in rows_of(table[table["family"] == PRIMARY]):
        heads = _heads(table, row, analysis)
        taken_back = _place(row) in needed
        for head in heads:
            poor = [r for r in own if (r["arm"], r["ratio"]) == (head["baseline"], row["ratio"])]
            is_poor = any(_is_worse(other, analysis) for other in poor)
            tested.append(_shown(head, _head_state(row, head, taken_back, is_poor, analysis)))
        if taken_back and not heads:
            without.append(_shown(row, ALARM))
    alarm = _alarm([*tested, *without])
    return {**alarm, "raised": bool(unbeaten), "rows": [_shown(row, ALARM) for row in unbeaten]}


def _head_state(row: Row, head: Row, taken_back: bool, is_poor: bool, analysis: Analysis) -> str:
    """State of an arm's comparison with a competitor, given its own comparison with the baseline (`row`)."""
    if taken_back and not _beats_all([head], analysis):
        return ALARM
    if is_poor:
        return NOT_INFORMATIVE
    if row["verdict"] != HELPS:
        return NO_GAIN
    if np.isnan(head["p"]):
        return NOT_ESTIMABLE
    return PASSED if _beats_all([head], analysis) else OPEN


def _strong_augmentation(table: pd.DataFrame, analysis: Analysis) -> Alarm:
    """Heavier classical augmentation beside each declared comparison: raised where it gained as much.

    tested: the control against its own baseline, with the state, gain and head-to-head of the declared arm.
    """
    tested, rows = list[Tested](), rows_of(table)
    for gain in [row for row in rows if row["family"] == PRIMARY]:
        for arm in [name for name in analysis.arms if analysis.role(name) == "real_strong"]:
            place = _place(gain)
            strong = next((row for row in rows if _place(row) == (arm, 0, *place[2:])), None)
            if strong is None:
                continue
            against = (*place[:2], arm, *place[3:])
            head = next((row for row in rows if _place(row) == against), None)
            state = _strong_state(gain, strong, head, analysis)
            found = _shown(strong, state)
            found |= {"of": gain["arm"], "of_ratio": gain["ratio"], "gain": gain["difference"]}
            tested.append({**found, "head_to_head": _interval(head)})
    return _alarm(tested)


def _strong_state(gain: Row, strong: Row, head: Row | None, analysis: Analysis) -> str:
    if not np.isfinite([strong["p_two_sided"], gain["p_two_sided"]]).all():
        return NOT_ESTIMABLE
    if _is_worse(strong, analysis):
        return NOT_INFORMATIVE
    if not _better(gain):  # without a gain there is nothing that cheaper ways could have reached as well
        return NO_GAIN
    if _better(strong) and abs(strong["difference"]) >= abs(gain["difference"]):
        return ALARM
    if head is None or np.isnan(head["p"]):
        return NOT_ESTIMABLE
    return PASSED if _beats_all([head], analysis) else OPEN


def _place(row: Compared) -> tuple[str, int, str, str, str, str]:
    return row["arm"], row["ratio"], row["baseline"], row["dataset"], row["label"], row["metric"]


def _beside(row: Compared) -> tuple[str, int, str, str, str]:
    """What comparisons with one arm at one endpoint share, whatever it is held against."""
    return row["arm"], row["ratio"], row["dataset"], row["label"], row["metric"]


def _interval(row: Row | None) -> Interval:
    if row is None:
        return {"difference": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}
    return {"difference": row["difference"], "low": row["low"], "high": row["high"], "p": row["p"]}


def _shown(row: Row, state: str) -> Tested:
    return {
        "arm": row["arm"],
        "ratio": row["ratio"],
        "baseline": row["baseline"],
        "dataset": row["dataset"],
        "label": row["label"],
        "metric": row["metric"],
        **_interval(row),
        "p_adjusted": row["p_adjusted"],
        "p_guard": row["p_guard"],
        "verdict": row["verdict"],
        "reason": row["reason"],
        "state": state,
    }
