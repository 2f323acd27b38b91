"""What was declared, when, what was done otherwise, and every look at the results."""

from collections.abc import Sequence

import pandas as pd

from synthgain.report.blocks import Block, Column, Details, Facts, Section, Text, make_table
from synthgain.report.evidence import Evidence
from synthgain.report.figures.style import arm_label
from synthgain.runtime.ledger import Line
from synthgain.runtime.protocols import Protocol

LEAD = "Declared before anybody could look, done otherwise since, and every look at the results so far."
NOBODY = "not applicable, because nothing was declared beforehand that this run could deviate from"


def in_force(evidence: Evidence) -> Protocol | None:
    """Return the last protocol that was written before the first look; before any look, the last one."""
    entries = evidence.ledger.entries
    named = entries[0]["protocol"] if entries else None
    if named is None:
        return evidence.protocols[-1] if evidence.protocols and not entries else None
    return next((found for found in evidence.protocols if found.sha256 == named["sha256"]), None)


def established(evidence: Evidence) -> bool:
    """True where the declared comparison is known to be older than any result of this run."""
    first = in_force(evidence)
    return first is not None and first.results == 0 and not evidence.tampered


def deviations(evidence: Evidence) -> list[str] | None:
    """Return line by line what differs from the protocol in force; None where there is none to compare with."""
    first = in_force(evidence)
    return None if first is None else first.deviations(evidence.protocols[-1])


def deviations_of_checklist(evidence: Evidence) -> str:
    """Return the checklist's line on deviations."""
    found, first = deviations(evidence), in_force(evidence)
    if found is None or first is None:
        return NOBODY
    parts = [f"{len(found)} from protocol {first.number}: {'; '.join(found[:5])}{' …' if len(found) > 5 else ''}"]
    if not found:
        parts = [f"none from protocol {first.number}"]
    unplanned = _unplanned(evidence.ledger.entries)
    parts += [f"{unplanned} unplanned look{'s' if unplanned > 1 else ''}"] if unplanned else []
    parts += ["ledger or protocols were tampered with"] if evidence.tampered else []
    return f"{'; '.join(parts)}; see section Protocol and looks"


def protocol_fact(evidence: Evidence) -> str:
    """Return the first page's line on the protocol."""
    first = in_force(evidence)
    if first is None:
        return "none that is known to be older than the results"
    when = "before any prediction" if first.results == 0 else f"when {first.results} files of predictions were there"
    found = deviations(evidence) or []
    since = f"; {len(found)} deviation{'s' if len(found) > 1 else ''} since" if found else ""
    return f"{first.number}, written {first.written}, {when}{since}; SHA-256 {first.hash[:32]}"


def looks_fact(evidence: Evidence) -> str:
    """Return the first page's line on looks; "" where nobody has looked."""
    looks = [entry for entry in evidence.ledger.entries if entry["kind"] == "look"]
    if not looks:
        return ""
    first, unplanned = in_force(evidence), _unplanned(looks)
    planned = first.declared["looks"] if first is not None else evidence.study.replicates.planned
    made = f"{len(looks) - unplanned} of {len(planned)} planned"
    return f"{made}, {unplanned} unplanned" if unplanned else made


def protocol_section(evidence: Evidence) -> Section:
    """Return the section: protocol in force, deviations, looks, and what is wrong with either."""
    blocks: list[Block] = [Text(f"{problem}.", "warning") for problem in evidence.tampered]
    first = in_force(evidence)
    if first is None:
        blocks.append(Text("No protocol is known to be older than the first look at these results.", "warning"))
    else:
        if first.results:
            text = f"Protocol {first.number} was written when {first.results} files of predictions lay there already."
            blocks.append(Text(f"{text} Nothing shows that it is older than these results.", "warning"))
        blocks += _deviations(evidence, first)
        blocks += [Details(heading, [Facts([(term, text) for term, text in items])]) for heading, items in _said(first)]
    blocks += _looks(evidence)
    return Section("protocol", "Protocol and looks", blocks, LEAD)


def _said(protocol: Protocol) -> Sequence[tuple[str, Sequence[Sequence[str]]]]:
    said: Sequence[tuple[str, Sequence[Sequence[str]]]] = protocol.content["said"]
    return said


def _deviations(evidence: Evidence, first: Protocol) -> list[Block]:
    found = deviations(evidence) or []
    if not found:
        return [Text(f"The analysis is that of protocol {first.number} ({first.written}), line by line.")]
    table = pd.DataFrame({"deviation": found})
    title = f"Deviations from protocol {first.number} ({first.written})"
    return [make_table(title, table, [Column("deviation", "What is otherwise now")], "deviations.csv")]


def _looks(evidence: Evidence) -> list[Block]:
    entries = evidence.ledger.entries
    if not entries:
        return [Text("Nobody has looked at results of a declared comparison yet.", "note")]
    rows = [_row(entry) for entry in entries]
    columns = [
        Column("date", "When"),
        Column("kind", "What"),
        Column("comparison", "Comparison", optional=True),
        Column("replicates", "Replicates", "count"),
        Column("protocol", "Protocol", "count"),
        Column("difference", "Difference", "signed"),
        Column(("low", "high"), "Interval", "signed_interval"),
        Column("p", "p", "p"),
        Column("level", "Decides below", "p"),
        Column("verdict", "Verdict"),
        Column("unplanned", "Not planned, because", optional=True),
    ]
    note = "A reanalysis is of predictions that were looked at before; it is no further look."
    return [make_table("Looks", pd.DataFrame(rows), columns, "ledger.csv", note=note)]


def _row(entry: Line) -> dict[str, object]:
    place = entry["comparison"]
    kind = entry["kind"] + (f" {entry['look']}" if entry["look"] and not entry["unplanned"] else "")
    return {
        "date": entry["date"],
        "replicates": entry["replicates"],
        "difference": entry["difference"],
        "low": entry["low"],
        "high": entry["high"],
        "p": entry["p"],
        "level": entry["level"],
        "verdict": entry["verdict"],
        "unplanned": entry["unplanned"],
        "kind": kind,
        "comparison": f"{arm_label(place['arm'], place['ratio'])}, model {place['model']}",
        "protocol": entry["protocol"]["number"] if entry["protocol"] else None,
    }


def _unplanned(entries: Sequence[Line]) -> int:
    return sum(bool(entry["unplanned"]) for entry in entries if entry["kind"] == "look")
