"""What a look at results may claim: was it planned before any was looked at, and is it the first of its kind?"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgain.runtime.ledger import DeclaredComparison, Facts
from synthgain.runtime.protocols import Declared

LOOK, REANALYSIS = "look", "reanalysis"
UNPLANNED = "unplanned look"  # in place of a verdict word
SHORT = 16  # hex digits of an identity


@dataclass(frozen=True)
class Standing:
    """What a look may claim.

    kind: a look (new replicates, or new predictions of the declared comparison) or a reanalysis of the predictions of
    an earlier one. number, of: which planned look; 0 for none of them. unplanned: why it was not planned, "" where it
    was: then no verdict word is given. others: unplanned looks made before.
    """

    kind: str
    number: int
    of: int
    unplanned: str
    others: int


def predictions_of(table: pd.DataFrame, ratio: int, test_set: str) -> dict[int, str]:
    """Return the identity of the test predictions of each replicate (16 hex digits).

    table: the predictions of one arm. Equal predictions have equal identities whatever made them.
    """
    own = table[(table["ratio"] == ratio) & (table["dataset"] == test_set) & (table["part"] == "test")]
    return {int(str(replicate)): _identity(run) for replicate, run in own.groupby("replicate", sort=True)}


def _identity(run: pd.DataFrame) -> str:
    rows = run.sort_values(["label", "image_id"], kind="stable")
    found = hashlib.sha256("\0".join(rows["label"].astype(str) + "\t" + rows["image_id"].astype(str)).encode())
    for name in rows.columns[[kind.kind in "fb" for kind in rows.dtypes]]:
        found.update(f"\n{name}".encode() + np.ascontiguousarray(rows[name].to_numpy(dtype=np.float32)).tobytes())
    return found.hexdigest()[:SHORT]


def both(arm: Mapping[int, str], baseline: Mapping[int, str]) -> list[str]:
    """Return one identity for each replicate that both arms of a comparison have, in order."""
    shared = sorted(arm.keys() & baseline.keys())
    return [hashlib.sha256(f"{arm[n]} {baseline[n]}".encode()).hexdigest()[:SHORT] for n in shared]


def standing_of(
    lines: Sequence[Facts],
    comparison: DeclaredComparison,
    predictions: Sequence[str],
    now: Declared,
    first: Declared,
    broken: str = "",
) -> Standing:
    """Return what a look may claim, from the lines before it.

    comparison: what is compared; predictions: identity of each of its replicates. now, first: what is declared, by the
    present protocol and by that of the first line (the last one written before anybody had looked); {comparisons,
    looks, and how they are judged}. broken: what is wrong with ledger or protocols, "" for nothing.
    """
    looks = first["looks"]
    own = [line for line in lines if line["comparison"] == comparison]
    before = [line for line in own if line["kind"] == LOOK]
    same = [line for line in before if line["predictions"] == list(predictions)]
    others = sum(bool(line["unplanned"]) for line in before if line not in same)
    number = looks.index(len(predictions)) + 1 if len(predictions) in looks else 0
    reason = broken or ("" if number else _no_look(len(predictions), looks)) or _otherwise(comparison, now, first)
    if same:
        reason = reason or same[0]["unplanned"]
    elif not reason:
        reason = _against(before, predictions)
    return Standing(REANALYSIS if same else LOOK, 0 if reason else number, len(looks), reason, others)


def without_words(table: pd.DataFrame, reasons: Mapping[tuple[str, str, str, str], str]) -> pd.DataFrame:
    """Return comparisons without verdict words where the look at them was not planned; the numbers stay.

    reasons: {(arm, dataset, label, metric): why}; all ratios of the arm lose theirs. `reason` says why.
    """
    found = table.copy()
    for position, row in table.iterrows():
        why = reasons.get((row["arm"], row["dataset"], row["label"], row["metric"]), "")
        if why and row["verdict"]:
            found.loc[position, ["verdict", "reason"]] = UNPLANNED, why
    return found


def _otherwise(comparison: DeclaredComparison, now: Declared, first: Declared) -> str:
    """Return what is declared otherwise than before anybody had looked."""
    if comparison not in first["comparisons"]:
        return "another comparison was declared before the first look"
    present: Mapping[str, object] = now
    for key, value in first.items():
        if key != "comparisons" and present.get(key) != value:
            return f"{key} was {_words(value)} before the first look, and is {_words(present.get(key))}"
    return ""


def _no_look(count: int, looks: Sequence[int]) -> str:
    planned = " and ".join([", ".join(map(str, looks[:-1])), str(looks[-1])] if len(looks) > 1 else map(str, looks))
    return f"{count} replicates, where {'looks were' if len(looks) > 1 else 'one look was'} planned at {planned}"


def _against(before: Iterable[Facts], predictions: Sequence[str]) -> str:
    """Return why new predictions do not continue the earlier looks."""
    for line in before:
        earlier = line["predictions"]
        if len(earlier) >= len(predictions):
            return f"the comparison was looked at before, with {len(earlier)} replicates and other predictions"
        if list(predictions[: len(earlier)]) != list(earlier):
            return f"replicates that an earlier look had ({len(earlier)}) predict otherwise now"
        if line["unplanned"]:
            return "an earlier look was not planned"
    return ""


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
