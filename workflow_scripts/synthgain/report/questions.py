"""The two questions after the effect: may I believe it, and are the samples safe? Answers from alarms and gates."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthgain.report.blocks import interval, number
from synthgain.report.evidence import Evidence, Measured

MEMORISATION = "memorisation"  # the alarm that has a banner of its own
UNREACHED = "unreached"  # a check of the workflow itself: it counts only where it fails
# How a control's state (statistics/guards.py) is said; those that are not "passed" are no support.
STATES = {
    "alarm": "✗ alarm",
    "passed": "✓ no alarm",
    "open": "? not shown to be beaten",
    "no gain": "– no gain to compare",
    "not informative": "– not informative (significantly worse than the baseline itself)",
    "not estimable": "– not estimable",
    "not checked": "– not checked (no such arm)",
}
SHORT = {"open": "not beaten", "no gain": "without a gain to compare"}
GOOD, BAD, OPEN = "good", "bad", "open"
WITHIN, UNDECIDED, COPIES_FOUND = "within limit", "undecided", "copies found"  # states of a gate
LEAKING = ("leak", "red")


def answers(verdict: Mapping[str, Any], evidence: Evidence, arm: str | None) -> list[tuple[str, str, str]]:
    """Return (question, tone, answer); tone is good, bad or open."""
    return [("May I believe it?", *_belief(verdict)), ("Are the samples safe?", *_safety(evidence, arm))]


def _belief(verdict: Mapping[str, Any]) -> tuple[str, str]:
    alarms = {name: alarm for name, alarm in (verdict.get("alarms") or {}).items() if name != MEMORISATION}
    if not (alarms.get(UNREACHED) or {}).get("raised"):
        alarms.pop(UNREACHED, None)
    raised = [name for name, alarm in alarms.items() if alarm.get("raised")]
    checked = [name for name, alarm in alarms.items() if alarm.get("checked")]
    passed = [name for name in checked if alarms[name].get("state") == "passed"]
    pilot = f" A pilot only: {verdict.get('replicates')} replicates." if verdict.get("pilot") else ""
    if raised:
        return BAD, f"✗ Not as it stands: {len(raised)} of {_controls(len(checked))} raised an alarm.{pilot}"
    if not checked:
        return OPEN, f"? Unknown: no control could be checked.{pilot}"
    others = Counter(str(alarm.get("state")) for name, alarm in alarms.items() if name not in passed)
    rest = "".join(f"; {count} {SHORT.get(state, state)}" for state, count in others.items())
    if not passed:
        return OPEN, f"? Unknown: no control gave support{rest}.{pilot}"
    return (OPEN if pilot else GOOD), f"✓ No alarm from {_controls(len(passed))}{rest}.{pilot}"


def _controls(count: int) -> str:
    return f"{count} control{'s' if count != 1 else ''}"


def _safety(evidence: Evidence, arm: str | None) -> tuple[str, str]:
    pool = _pool_of(evidence, arm or "")
    searched = [m for m in evidence.memorisation if m.gate]
    found = [m for m in searched if m.pool == pool] or searched
    if not found:
        return OPEN, "? Unknown: no pool was searched for copies."
    copying = [m for m in searched if m.gate.get("exceeded") or m.gate.get("barred_sets")]
    if any(measured in found for measured in copying):
        return BAD, f"✗ No: {_pools(copying)} copies of real images. Do not use or share before you have looked."
    clean = all(m.gate.get("state") == WITHIN and _none_found(m) for m in found)
    if copying:
        other = f"{'None beyond chance' if clean else 'Not decided'} in {_names(found)}, which the verdict is about."
        return BAD, f"✗ Not all of them: {_pools(copying)} copies of real images. {other}"
    leaking = [m for m in found if (m.gate.get("membership") or {}).get("leak") in LEAKING]
    if leaking:
        seen = "no copies beyond chance, but training" if clean else "training"
        return BAD, f"✗ Not clear: {seen} images leak through the loss ({_names(leaking)})."
    doubtful = [m for m in found if not _none_found(m)]
    if doubtful:
        return OPEN, f"? Not decided for {_names(doubtful)}: see section Memorisation."
    if not clean:
        few = [m for m in found if m.gate.get("state") != WITHIN]
        return OPEN, f"? No copies beyond chance were found, but too few images to exclude them ({_names(few)})."
    return GOOD, f"✓ No copying beyond chance ({_names(found)}). That is no certificate of privacy."


def _none_found(measured: Measured) -> bool:
    """True if the gate computed all its rules and saw no near-exact copy: else nothing reassuring may be said."""
    return bool(measured.gate.get("none_found")) and measured.gate.get("state") in (WITHIN, UNDECIDED)


def gate_answer(evidence: Evidence) -> str:
    """What stands beside the memorisation control where no alarm was raised."""
    searched = [m for m in evidence.memorisation if m.gate]
    if not all(_none_found(m) for m in searched):
        return "? not decided: see section Memorisation"
    if any(m.gate.get("state") == UNDECIDED for m in searched):
        return "? no copies found, too few images to exclude them"
    return "✓ no alarm"


def _pool_of(evidence: Evidence, arm: str) -> str | None:
    """Return the pool that an arm trains on."""
    pool = ((evidence.config.get("arms") or {}).get(arm) or {}).get("synthetic")
    return None if pool is None else str(pool)


def _names(found: Iterable[Measured]) -> str:
    names = dict.fromkeys(measured.pool for measured in found)
    return f"pool{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _pools(found: Iterable[Measured]) -> str:
    names = _names(found)
    return f"{names} {'hold' if names.startswith('pools') else 'holds'}"


def banners(evidence: Evidence) -> list[tuple[str, str]]:
    """Return (title, text) of what must be seen before the verdict: copying beyond the limit, copied test images."""
    if evidence.rehearsal:
        return []
    found: dict[tuple[str, str], None] = {}
    for model in evidence.models:
        verdict = model.facts.get("verdict") or {}
        rows = ((verdict.get("alarms") or {}).get(MEMORISATION) or {}).get("rows") or []
        by_pool: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:  # one for each arm; arms of one pool say the same
            by_pool.setdefault(_pool_of(evidence, str(row["arm"])) or f"of arm {row['arm']}", []).append(row)
        found |= {_banner(pool, same): None for pool, same in by_pool.items()}
    for measured in evidence.memorisation:
        if sets := measured.gate.get("barred_sets"):
            text = f"Pool {measured.pool} holds copies of images of {', '.join(sets)}: no verdict on that test set."
            found["Copied test images.", text] = None
    return list(found)


def _banner(pool: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    row, arms = rows[0], f"trained on by {', '.join(str(row['arm']) for row in rows)}"
    if not row.get("exceeded"):
        return "Copied test images.", f"Pool {pool} ({arms}) holds copies of test images."
    warning = "Do not share these images or the generator as they are."
    if row.get("state") == COPIES_FOUND:
        count = f"{row['copies']} of {row['images']} images of pool {pool} ({arms})"
        return "Copies of training images.", f"{count} are near-exact copies of training images. {warning}"
    share, limit = number(100 * float(row["excess"]), 1), number(100 * float(row["limit"]), 1)
    ends = interval(100 * float(row["low"]), 100 * float(row["high"]), 1)
    text = (
        f"In pool {pool} ({arms}), {share} % more images than chance explains are near copies of training "
        f"images (95 % interval {ends} %; limit {limit} %). {warning}"
    )
    return "Copies of training images.", text
