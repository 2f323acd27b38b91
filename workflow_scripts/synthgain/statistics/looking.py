"""A look at results: what it may claim, read from ledger and protocols beforehand, and its lines in the ledger.

The line is written before the results are, so that nobody sees a result of which the ledger knows nothing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from synthgain.runtime.ledger import Mark, append, read_ledger
from synthgain.runtime.protocols import Protocol, marks_of, read_protocols
from synthgain.statistics.equivalence import EQUIVALENT, HARMS, HELPS
from synthgain.statistics.looks import look_levels
from synthgain.statistics.standing import COMPARISON, Standing, both, predictions_of, standing_of
from synthgain.statistics.tables import plain

DECIDES = (HELPS, HARMS, EQUIVALENT)
SHOWN = ("difference", "low", "high", "p")  # of a comparison's row


class Looking:
    """The look that a job of compare_arms takes at the declared comparisons of its model; `run` is the run's folder."""

    def __init__(self, run: Path, job_slice: Mapping[str, Any], predictions: Mapping[str, pd.DataFrame]) -> None:
        self.run, self.declared = run, declared_of(job_slice)
        self.protocols, damaged = read_protocols(run)
        ledger = read_ledger(run, marks_of(run))
        first, lost = _first(self.protocols, ledger.entries)
        broken = [*ledger.broken, *damaged, *lost]
        self.made = [_identities(entry, predictions) for entry in self.declared["comparisons"]]
        self.standings = [
            standing_of(ledger.entries, entry, made, self.declared, first or self.declared, broken[0] if broken else "")
            for entry, made in zip(self.declared["comparisons"], self.made, strict=True)
        ]
        self.look = _look(job_slice["replicates"]) if self.declared["comparisons"] else 0

    @property
    def unplanned(self) -> tuple[str, ...]:
        """Why the look at each declared comparison was not planned; "" where it was."""
        return tuple(standing.unplanned for standing in self.standings)

    def facts(self) -> dict[str, Any]:
        """Return what `verdict.json` says of the look."""
        looks = self.declared["looks"]
        return {
            "number": self.look,
            "of": len(looks),
            "planned": looks,
            "levels": list(look_levels(self.declared["alpha"], tuple(looks))),
            "alpha": self.declared["alpha"],
            "standing": [vars(standing) for standing in self.standings],
        }

    def notes(self, level: float) -> list[str]:
        """Return what every reader must know of the look, where several are planned."""
        looks = self.declared["looks"]
        if not self.look:
            return []
        place = f"Look {self.look} of {len(looks)}, at {looks[self.look - 1]} replicates"
        more = "" if self.look == len(looks) else ", and the study goes on where it is undecided"
        return [f"{place}: it decides where p is below {level:.2g} (alpha {self.declared['alpha']:g} over all){more}."]

    def record(self, verdicts: list[Mapping[str, Any]], level: float) -> list[Mark]:
        """Add the line of each declared comparison to the ledger. verdicts: `comparisons` of verdict.json."""
        lines = zip(self.declared["comparisons"], self.made, self.standings, verdicts, strict=True)
        return [append(self.run, plain(self._line(*line, level))) for line in lines]

    def _line(
        self, entry: Mapping[str, Any], made: list[str], standing: Standing, found: Mapping[str, Any], level: float
    ) -> dict[str, Any]:
        last, row = self.protocols[-1] if self.protocols else None, found["primary"] or {}
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": standing.kind,
            "look": self.look,
            "unplanned": standing.unplanned,
            "protocol": {"number": last.number, "sha256": last.sha256} if last is not None else None,
            COMPARISON: dict(entry),
            "replicates": len(made),
            "predictions": made,
            **{key: row.get(key) for key in SHOWN},
            "level": level,
            "verdict": found["verdict"],
            "decided": not standing.unplanned and found["verdict"] in DECIDES,
        }


def declared_of(job_slice: Mapping[str, Any]) -> dict[str, Any]:
    """Return what compare_arms' slice declares of a model, as a protocol has it (`study/stages/protocol.py`)."""
    analysis, replicates = job_slice["analysis"], job_slice["replicates"]
    entries = analysis.get("primary") or []
    return {
        "comparisons": [{**entry, "baseline": job_slice["arms"][entry["arm"]]["baseline"]} for entry in entries],
        "looks": replicates.get("looks") or [replicates["count"]],
        "alpha": analysis["alpha"],
        "margin": analysis["margin"],
        "alternative": analysis["alternative"],
        "threshold policy": analysis["thresholds"]["primary"],
    }


def _look(replicates: Mapping[str, Any]) -> int:
    looks = replicates.get("looks")
    return looks.index(replicates["count"]) + 1 if looks else 0


def _identities(entry: Mapping[str, Any], predictions: Mapping[str, pd.DataFrame]) -> list[str]:
    arm, baseline = predictions[entry["arm"]], predictions[entry["baseline"]]
    ratio = entry["ratio"] if (baseline["ratio"] == entry["ratio"]).any() else int(baseline["ratio"].min())
    return both(
        predictions_of(arm, entry["ratio"], entry["test_set"]), predictions_of(baseline, ratio, entry["test_set"])
    )


def _first(
    protocols: list[Protocol], entries: tuple[Mapping[str, Any], ...]
) -> tuple[Mapping[str, Any] | None, list[str]]:
    """Return what the protocol of the ledger's first line declared, and what is wrong with that."""
    if not entries or not entries[0]["protocol"]:
        return None, []
    named = entries[0]["protocol"]
    for protocol in protocols:
        if protocol.number == named["number"]:
            same = protocol.sha256 == named["sha256"]
            return protocol.declared, [] if same else [f"protocol {protocol.number} is not the one of the first look"]
    return None, [f"protocol {named['number']}, by which was first looked, is not there any more"]
