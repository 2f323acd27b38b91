"""A look at results: what it may claim, read from ledger and protocols beforehand, and its lines in the ledger.

The line is written before the results are, so that nobody sees a result of which the ledger knows nothing.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

import pandas as pd

from synthgain.runtime.ledger import Comparison, DeclaredComparison, Facts, Line, Mark, append, read_ledger
from synthgain.runtime.protocols import Declared, Protocol, marks_of, read_protocols
from synthgain.statistics.documents import Judged
from synthgain.statistics.equivalence import EQUIVALENT, HARMS, HELPS
from synthgain.statistics.looks import look_levels
from synthgain.statistics.standing import Standing, both, predictions_of, standing_of

DECIDES = (HELPS, HARMS, EQUIVALENT)


class _Thresholds(TypedDict):
    primary: str


class _Analysis(TypedDict):
    primary: list[Comparison]
    alpha: float
    margin: float
    alternative: str
    thresholds: _Thresholds


class _Replicates(TypedDict):
    count: int
    looks: NotRequired[list[int] | None]


class _Arm(TypedDict):
    baseline: str


class LookSlice(TypedDict):
    """What a look reads of compare_arms' slice."""

    analysis: _Analysis
    arms: Mapping[str, _Arm]
    replicates: _Replicates


class LookFacts(TypedDict):
    """`look` of verdict.json."""

    number: int
    of: int
    planned: list[int]
    levels: list[float]
    alpha: float
    standing: list[dict[str, object]]


class Looking:
    """The look that a job of compare_arms takes at the declared comparisons of its model; `run` is the run's folder."""

    def __init__(self, run: Path, job_slice: LookSlice, predictions: Mapping[str, pd.DataFrame]) -> None:
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

    def facts(self) -> LookFacts:
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

    def record(self, verdicts: list[Judged], level: float) -> list[Mark]:
        """Add the line of each declared comparison to the ledger. verdicts: `comparisons` of verdict.json."""
        lines = zip(self.declared["comparisons"], self.made, self.standings, verdicts, strict=True)
        return [append(self.run, self._line(*line, level)) for line in lines]

    def _line(
        self, entry: DeclaredComparison, made: list[str], standing: Standing, found: Judged, level: float
    ) -> Facts:
        last, row = self.protocols[-1] if self.protocols else None, found["primary"]
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": standing.kind,
            "look": self.look,
            "unplanned": standing.unplanned,
            "protocol": {"number": last.number, "sha256": last.sha256} if last is not None else None,
            "comparison": entry,
            "replicates": len(made),
            "predictions": made,
            "difference": _known(row["difference"]) if row else None,
            "low": _known(row["low"]) if row else None,
            "high": _known(row["high"]) if row else None,
            "p": _known(row["p"]) if row else None,
            "level": level,
            "verdict": found["verdict"],
            "decided": not standing.unplanned and found["verdict"] in DECIDES,
        }


def declared_of(job_slice: LookSlice) -> Declared:
    """Return what compare_arms' slice declares of a model, as a protocol has it (`study/stages/protocol.py`)."""
    analysis, replicates = job_slice["analysis"], job_slice["replicates"]
    entries = analysis["primary"]
    return {
        "comparisons": [{**entry, "baseline": job_slice["arms"][entry["arm"]]["baseline"]} for entry in entries],
        "looks": replicates.get("looks") or [replicates["count"]],
        "alpha": analysis["alpha"],
        "margin": analysis["margin"],
        "alternative": analysis["alternative"],
        "threshold policy": analysis["thresholds"]["primary"],
    }


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _look(replicates: _Replicates) -> int:
    looks = replicates.get("looks")
    return looks.index(replicates["count"]) + 1 if looks else 0


def _identities(entry: DeclaredComparison, predictions: Mapping[str, pd.DataFrame]) -> list[str]:
    arm, baseline = predictions[entry["arm"]], predictions[entry["baseline"]]
    ratio = entry["ratio"] if (baseline["ratio"] == entry["ratio"]).any() else int(baseline["ratio"].min())
    return both(
        predictions_of(arm, entry["ratio"], entry["test_set"]), predictions_of(baseline, ratio, entry["test_set"])
    )


def _first(protocols: list[Protocol], entries: tuple[Line, ...]) -> tuple[Declared | None, list[str]]:
    """Return what the protocol of the ledger's first line declared, and what is wrong with that."""
    named = entries[0]["protocol"] if entries else None
    if named is None:
        return None, []
    for protocol in protocols:
        if protocol.number == named["number"]:
            same = protocol.sha256 == named["sha256"]
            return protocol.declared, [] if same else [f"protocol {protocol.number} is not the one of the first look"]
    return None, [f"protocol {named['number']}, by which was first looked, is not there any more"]
