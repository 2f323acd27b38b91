"""The two questions after the effect: may I believe it, and are the samples safe? Answers from alarms and gates."""

from collections.abc import Iterable, Mapping
from typing import Any

from synthgain.report.blocks import interval, number
from synthgain.report.evidence import Evidence, Measured

MEMORISATION = "memorisation"  # the alarm that has a banner of its own
GOOD, BAD, OPEN = "good", "bad", "open"
LEAKING = ("leak", "red")


def answers(verdict: Mapping[str, Any], evidence: Evidence, arm: str | None) -> list[tuple[str, str, str]]:
    """Return (question, tone, answer); tone is good, bad or open."""
    return [("May I believe it?", *_belief(verdict)), ("Are the samples safe?", *_safety(evidence, arm))]


def _belief(verdict: Mapping[str, Any]) -> tuple[str, str]:
    alarms = {name: alarm for name, alarm in (verdict.get("alarms") or {}).items() if name != MEMORISATION}
    raised = [name for name, alarm in alarms.items() if alarm.get("raised")]
    checked = [name for name, alarm in alarms.items() if alarm.get("checked")]
    pilot = f" A pilot only: {verdict.get('replicates')} replicates." if verdict.get("pilot") else ""
    if raised:
        return BAD, f"✗ Not as it stands: {len(raised)} of {_controls(len(checked))} raised an alarm.{pilot}"
    if not checked:
        return OPEN, f"? Unknown: no control could be checked.{pilot}"
    left = len(alarms) - len(checked)
    missing = f"; {left} could not be checked" if left else ""
    return (OPEN if pilot else GOOD), f"✓ {_controls(len(checked))} passed{missing}.{pilot}"


def _controls(count: int) -> str:
    return f"{count} control{'s' if count != 1 else ''}"


def _safety(evidence: Evidence, arm: str | None) -> tuple[str, str]:
    pool = ((evidence.config.get("arms") or {}).get(arm or "") or {}).get("synthetic")
    found = [m for m in evidence.memorisation if m.gate and m.pool == pool]
    found = found or [m for m in evidence.memorisation if m.gate]
    if not found:
        return OPEN, "? Unknown: no pool was searched for copies."
    copying = [m for m in found if m.gate.get("exceeded") or m.gate.get("barred_sets")]
    if copying:
        return BAD, f"✗ No: {_pools(copying)} copies of real images. Do not use or share before you have looked."
    leaking = [m for m in found if (m.gate.get("membership") or {}).get("leak") in LEAKING]
    if leaking:
        return (
            BAD,
            f"✗ Not clear: no copies beyond chance, but training images leak through the loss ({_names(leaking)}).",
        )
    undecided = [m for m in found if m.gate.get("state") == "undecided"]
    if undecided:
        return OPEN, f"? No copies beyond chance were found, but too few images to exclude them ({_names(undecided)})."
    return GOOD, f"✓ No copying beyond chance ({_names(found)}). That is no certificate of privacy."


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
        for row in ((verdict.get("alarms") or {}).get(MEMORISATION) or {}).get("rows") or []:
            found[_banner(row)] = None
    for measured in evidence.memorisation:
        if sets := measured.gate.get("barred_sets"):
            text = f"Pool {measured.pool} holds copies of images of {', '.join(sets)}: no verdict on that test set."
            found["Copied test images.", text] = None
    return list(found)


def _banner(row: Mapping[str, Any]) -> tuple[str, str]:
    if not row.get("exceeded"):
        return "Copied test images.", f"The pool of arm {row['arm']} holds copies of test images."
    share, limit = number(100 * float(row["excess"]), 1), number(100 * float(row["limit"]), 1)
    ends = interval(100 * float(row["low"]), 100 * float(row["high"]), 1)
    text = (
        f"In the pool of arm {row['arm']}, {share} % more images than chance explains are near copies of training "
        f"images (95 % interval {ends} %; limit {limit} %). Do not share these images or the generator as they are."
    )
    return "Copies of training images.", text
