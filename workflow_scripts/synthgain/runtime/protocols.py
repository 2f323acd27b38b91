"""Protocols of a run: `protocol-<n>.json`, numbered, dated, sealed, written once each and never again.

None is the output of a rule, since Snakemake deletes outputs before a job runs again.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

from synthgain.runtime.differences import differences
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, write_json
from synthgain.runtime.ledger import DeclaredComparison, Mark, read_ledger, sha256_of

_FILE = re.compile(r"protocol-([1-9]\d*)\.json")


# What a look must agree with (`statistics/standing.py`).
Declared = TypedDict(
    "Declared",
    {
        "comparisons": list[DeclaredComparison],
        "looks": list[int],
        "alpha": float,
        "margin": float,
        "alternative": str,
        "threshold policy": str,
    },
)


class LookEnds(TypedDict):
    """Share of studies that end at a look, without a difference and with one of one margin."""

    replicates: int
    level: float
    ends_without: float
    ends_with: float


Means = TypedDict("Means", {"without": float, "with": float})


class Power(TypedDict):
    """What a plan can find (`statistics/protocol_power.py`).

    seed_sd, patient_sd: as in comparisons.csv; patients: tested; source: of these three.
    primary, equivalent: powers; false_equivalent: share of *equivalent* at a true difference of one margin; detectable:
    the difference found with 80 % power; controls: {arm: power}; replicates: means without and with a difference.
    """

    seed_sd: float
    patient_sd: float
    patients: int
    primary: float
    equivalent: float
    false_equivalent: float
    detectable: float | None
    looks: list[LookEnds]
    replicates: Means
    controls: dict[str, float]
    source: NotRequired[str]


class NoPower(TypedDict):
    """Why no power was computed."""

    note: str


class Content(TypedDict):
    """What a protocol says. study: resolved; data: {what: SHA-256}; code: {rule: digest}; said: it all in words."""

    study: Mapping[str, object]
    data: Mapping[str, str]
    code: Mapping[str, str]
    declared: Declared
    power: Power | NoPower
    said: Sequence[tuple[str, Sequence[tuple[str, str]]]]


class _File(TypedDict):
    """protocol-<n>.json."""

    protocol: int
    written: str
    results: int
    ledger: list[dict[str, object]]
    content: Content
    sha256: NotRequired[str]


@dataclass(frozen=True)
class Protocol:
    """One protocol of a run.

    written: when (ISO, UTC). results: how many files of predictions lay in the run's folder then; with 0 it is older
    than any result. marks: the lines of the ledger of which there was a trace then. content: study, data, code, what is
    declared, and what is said of it. sha256: of all of this file but itself.
    """

    number: int
    written: str
    results: int
    marks: tuple[Mark, ...]
    content: Content
    sha256: str

    @property
    def declared(self) -> Declared:
        """What a look must agree with (`statistics/standing.py`)."""
        return self.content["declared"]

    @property
    def hash(self) -> str:
        """SHA-256 of study, data and code: equal for protocols that declare the same."""
        return sha256_of({"study": self.content["study"], "data": self.content["data"], "code": self.content["code"]})

    def deviations(self, later: "Protocol") -> list[str]:
        """Return line by line what a later protocol of the run has otherwise: keys of the study, data, code."""
        before, now = self.content, later.content
        rules = sorted(
            rule for rule in {*before["code"], *now["code"]} if before["code"].get(rule) != now["code"].get(rule)
        )
        return [
            *differences(before["study"], now["study"]),
            *(f"data set {line}" for line in differences(before["data"], now["data"])),
            *([f"code of {', '.join(rules)}"] if rules else []),
        ]


def path_of(folder: Path, number: int) -> Path:
    """Return the file of a protocol of a run."""
    return folder / f"protocol-{number}.json"


def page_of(folder: Path, number: int) -> Path:
    """Return the page of a protocol of a run."""
    return path_of(folder, number).with_suffix(".html")


def read_protocols(folder: Path) -> tuple[list[Protocol], list[str]]:
    """Return a run's protocols by number, and what is wrong with their files: changed, damaged, gone."""
    found, problems, numbers = [], [], numbers_of(folder)
    for number in range(1, max(numbers, default=0) + 1):
        path = path_of(folder, number)
        if number not in numbers:
            problems.append(f"{path}: is gone, though a later one is there")
            continue
        try:
            fields = read_json(path)
            marks = tuple(Mark(**mark) for mark in fields["ledger"])
            protocol = Protocol(
                number, fields["written"], fields["results"], marks, fields["content"], fields["sha256"]
            )
            same = fields["protocol"] == number and protocol.sha256 == _seal(fields)
        except (SynthGainError, KeyError, TypeError):
            problems.append(f"{path}: is damaged")
            continue
        if not same:
            problems.append(f"{path}: was changed after it was written")
        found.append(protocol)
    return found, problems


def write_protocol(folder: Path, content: Content, results: int, marks: list[Mark]) -> Protocol:
    """Write a run's next protocol, or return the last one where that has the same study, data and code."""
    found, _ = read_protocols(folder)
    numbers = numbers_of(folder)
    number = max(numbers, default=0) + 1
    fields: _File = {
        "protocol": number,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "results": results,
        "ledger": [vars(mark) for mark in marks],
        "content": content,
    }
    fields["sha256"] = _seal(fields)
    made = Protocol(number, fields["written"], results, tuple(marks), content, fields["sha256"])
    if found and found[-1].number == number - 1 and found[-1].hash == made.hash:
        return found[-1]
    write_json(path_of(folder, number), fields)
    return made


def marks_of(folder: Path) -> Iterator[tuple[str, Mark]]:
    """Yield (who names it, line) of every line of the ledger that statistics or protocols of a run rest on."""
    for path in sorted((folder / "statistics").rglob("manifest.json")):
        try:
            named = read_json(path).get("ledger", [])
        except (SynthGainError, AttributeError):
            continue
        for mark in named:
            yield path.parent.relative_to(folder).as_posix(), Mark(**mark)
    for protocol in read_protocols(folder)[0]:
        for kept in protocol.marks:
            yield path_of(folder, protocol.number).name, kept


def tampered(folder: Path) -> list[str]:
    """Return what is wrong with the protocols and the ledger of a run, a line each."""
    return [*read_protocols(folder)[1], *read_ledger(folder, marks_of(folder)).problems]


def numbers_of(folder: Path) -> list[int]:
    """Return the numbers of a run's protocols, whatever their files hold."""
    return [int(match[1]) for path in folder.glob("protocol-*.json") if (match := _FILE.fullmatch(path.name))]


def _seal(fields: Mapping[str, object]) -> str:
    return sha256_of({key: value for key, value in fields.items() if key != "sha256"})
