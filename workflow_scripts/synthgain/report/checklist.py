"""The reporting checklist: what the workflow knows is filled in, the rest says "not done"."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from synthgain.report.blocks import Column, Facts, Section, make_table
from synthgain.report.checklist_facts import known_facts
from synthgain.report.evidence import Evidence

DATA_FILES = ("templates/checklist.json",)
ITEMS = Path(__file__).parent / "templates" / "checklist.json"
NOT_DONE = "not done"
NOT_APPLICABLE = "not applicable, because "
STANDARDS = ("CLAIM 2024", "TRIPOD+AI", "STARD-AI")


@dataclass(frozen=True)
class Item:
    """One line of the checklist. state is done, not applicable or not done."""

    number: int
    part: str
    text: str
    standards: tuple[str, ...]
    value: str

    @property
    def state(self) -> str:
        """Done, not applicable, or not done."""
        if self.value == NOT_DONE:
            return NOT_DONE
        return "not applicable" if self.value.startswith(NOT_APPLICABLE) else "done"


def fill(facts: Mapping[str, str | None]) -> list[Item]:
    """Return every item with its value from `facts` (by the item's key), or "not done"."""
    entries: list[dict[str, Any]] = json.loads(ITEMS.read_text(encoding="utf-8"))
    return [
        Item(
            place,
            entry["part"],
            entry["text"],
            tuple(entry["standards"]),
            facts.get(entry["key"]) or NOT_DONE,
        )
        for place, entry in enumerate(entries, start=1)
    ]


def completeness(items: list[Item], standard: str) -> tuple[int, int]:
    """Return (filled, applicable) items of a standard."""
    own = [item for item in items if standard in item.standards and item.state != "not applicable"]
    return sum(item.state == "done" for item in own), len(own)


def checklist_section(evidence: Evidence) -> Section:
    """Return the checklist with a completeness score per standard."""
    items = fill(known_facts(evidence))
    scores = []
    for standard in STANDARDS:
        filled, applicable = completeness(items, standard)
        scores.append((standard, f"{filled} of {applicable} applicable items filled by the workflow"))
    rows = [(i.number, i.part, i.text, i.value, ", ".join(i.standards)) for i in items]
    table = pd.DataFrame(rows, columns=["number", "part", "item", "value", "standards"])
    columns = [
        Column("number", "No.", "count"),
        Column("part", "Part"),
        Column("item", "Item"),
        Column("value", "Value"),
        Column("standards", "Asked for by"),
    ]
    lead = "Items that the three guidelines ask for, in our words and order. A filled item still needs a reader's eye."
    note = "CONSORT-AI and SPIRIT-AI are for trials: not applicable."
    return Section(
        "checklist",
        "Reporting checklist",
        [Facts(scores), make_table("Checklist", table, columns, "checklist.csv", note=note)],
        lead,
    )
