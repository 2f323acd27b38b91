"""What the data sets of a study share: films, by name and by pixels, and patients. No test on them is external."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import pandas as pd

from synthgain.datasets.audit import LEARNED_FROM, LISTED, AuditedSet
from synthgain.datasets.shared_films import SharedFilm, shared_films
from synthgain.datasets.source import SourceFacts
from synthgain.datasets.values import id_key
from synthgain.runtime.errors import SynthGainError

MOST_SHARED = 0.01  # of a test set's films: above it others are of the same patients, too, though nothing shows which
# How the files of published collections are named. Other sets hold them, too: TBX11K those of Montgomery and Shenzhen.
FILM_NAMES = {
    "nih": re.compile(r"(?<!\d)\d{8}_\d{3}(?!\d)"),
    "chexpert": re.compile(r"patient\d{5}[/-]study\d+[/-]view\d+"),
    "mimic": re.compile(r"(?<![0-9a-f-])[0-9a-f]{8}(?:-[0-9a-f]{8}){4}(?![0-9a-f-])"),
    "montgomery": re.compile(r"MCUCXR_\d{4}_[01]"),
    "shenzhen": re.compile(r"CHNCXR_\d{4}_[01]"),
}
Rows = np.ndarray


@dataclass(frozen=True)
class Between:
    """What two data sets share. Pairs are (n, 2) row numbers of the first and the second.

    equal: the same pixels; near: the same film though changed, None where too few images say what is alike;
    named: the same name in a published collection. patients: ids in both. collection: what both have films of, or "".
    """

    first: AuditedSet
    second: AuditedSet
    equal: Rows
    near: list[SharedFilm] | None
    named: Rows
    patients: list[str]
    collection: str

    @property
    def one_collection(self) -> bool:
        """Whether equal patient ids mean the same patients: both sets name theirs as one collection does."""
        return bool(self.collection) and _by_patient(self.first) and _by_patient(self.second)

    def pairs(self) -> Rows:
        """Return (n, 2): all films that are in both."""
        near = np.array([[film.first, film.second] for film in self.near or []], np.int64).reshape(-1, 2)
        return np.unique(np.concatenate([self.equal, near, self.named]), axis=0)

    def facts(self) -> dict[str, object]:
        """Return JSON values for the audit: counts, and the first of each kind."""
        ids, others = (one.table["image_id"].to_numpy() for one in (self.first, self.second))
        near = sorted(self.near or [], key=lambda film: -film.similarity)
        return {
            "first": self.first.name,
            "second": self.second.name,
            "collection": self.collection,
            "exact_duplicates": len(self.equal),
            "exact_listed": [[ids[row], others[other]] for row, other in self.equal[:LISTED]],
            "near_duplicates": None if self.near is None else len(near),
            "near_listed": [
                {
                    "first": ids[film.first],
                    "second": others[film.second],
                    "similarity": film.similarity,
                    "how": film.how,
                }
                for film in near[:LISTED]
            ],
            "equal_names": len(self.named),
            "shared_patient_ids": len(self.patients),
            "shared_patients_listed": self.patients[:LISTED],
        }


def audit_between(first: AuditedSet, second: AuditedSet) -> Between:
    """Compare two data sets: pixels, names and patients."""
    hashes, others = (one.table["sha256"].to_numpy() for one in (first, second))
    equal = _joined(hashes, others)
    near = shared_films(first.data.images, second.data.images)
    if near is not None:
        near = [film for film in near if hashes[film.first] != others[film.second]]
    names, other_names = _film_names(first), _film_names(second)
    collections = sorted(_collections(first, names) & _collections(second, other_names))
    patients = shared_ids(first.table["patient_id"], second.table["patient_id"])
    named = _joined(names, other_names)
    return Between(first, second, equal, near, named, patients, collections[0] if collections else "")


def _joined(first: Rows, second: Rows) -> Rows:
    """Return (n, 2) row numbers at which both hold the same text; "" is none."""
    own, other = (pd.DataFrame({"key": keys, "row": np.arange(len(keys))})[keys != ""] for keys in (first, second))
    found = own.merge(other, on="key")
    return found[["row_x", "row_y"]].to_numpy(np.int64).reshape(-1, 2)


def _film_names(one: AuditedSet) -> Rows:
    """Return (N,) `collection:name` of each image that is named as a published collection's films are, else ""."""
    return np.array([_film_name(str(name)) for name in one.table["image_id"]], dtype=object)


def _film_name(image_id: str) -> str:
    for collection, pattern in FILM_NAMES.items():
        found = pattern.search(image_id)
        if found:
            return f"{collection}:{found[0].replace('/', '-')}"
    return ""


def _collections(one: AuditedSet, names: Rows) -> set[str]:
    return ({one.films} | {name.split(":")[0] for name in names}) - {""}


def shared_ids(first: pd.Series, second: pd.Series) -> list[str]:
    """Return the ids that stand in both, sorted; `7 / 007` where they differ in spelling."""
    own, other = ({id_key(cell): str(cell) for cell in cells} for cells in (first, second))
    return sorted(own[key] if own[key] == other[key] else f"{own[key]} / {other[key]}" for key in own.keys() & other)


@dataclass
class Overlap:
    """Test films of one set that another set holds: `shared` of its `images` test images, and what may not be tested.

    unknown: both have films of one collection, and one of them names no patients, so that nobody can tell.
    """

    tested: AuditedSet
    learned: AuditedSet
    images: int
    shared: int
    by: dict[str, int] = field(default_factory=dict)
    unknown: str = ""


def overlaps(between: list[Between]) -> tuple[list[Overlap], dict[str, list[str]]]:
    """Return where a test set shares films with a set that models learn from, and {data set: ids of its test images}.

    The ids are left out of all tests: films that are equal or nearly equal to one in another set's training or
    validation part, or have its name, and all others of their patients.
    """
    found, excluded = list[Overlap](), dict[str, list[str]]()
    for pair in between:
        for turn in permutations((0, 1)):
            overlap, ids = _one_way(pair, *turn)
            if ids:
                known = excluded.setdefault(overlap.tested.name, [])
                known += [name for name in ids if name not in set(known)]
            if overlap.shared or overlap.unknown:
                found.append(overlap)
    return found, {name: sorted(ids) for name, ids in excluded.items()}


def _one_way(pair: Between, tested: int, learned: int) -> tuple[Overlap, list[str]]:
    """Return what the test part of one of a pair shares with the other, and its images that may not be tested."""
    sets = (pair.first, pair.second)
    test, other = sets[tested], sets[learned]
    in_test, seen = test.parts == "test", np.isin(other.parts, LEARNED_FROM)
    overlap = Overlap(test, other, int(in_test.sum()), 0)
    if not seen.any():
        return overlap, []
    pairs = pair.pairs()
    shared, barred = (np.zeros(len(test.table), bool) for _ in range(2))
    shared[pairs[:, tested]] = True
    barred[pairs[seen[pairs[:, learned]], tested]] = True
    patients, others = (one.table["patient_id"].map(id_key).to_numpy() for one in (test, other))
    if pair.one_collection:
        shared |= np.isin(patients, others)
        barred |= np.isin(patients, others[seen])
    if _by_patient(test):
        barred = np.isin(patients, patients[barred])
    kinds = {"equal pixels": pair.equal, "nearly equal pixels": pair.near, "equal names": pair.named}
    overlap.by = {kind: len(rows) for kind, rows in kinds.items() if rows is not None and len(rows)}
    if pair.one_collection and pair.patients:
        overlap.by["equal patient ids"] = len(pair.patients)
    overlap.shared = int((shared & in_test).sum())
    overlap.unknown = "" if pair.one_collection else pair.collection
    return overlap, list(test.table["image_id"].to_numpy()[barred & in_test])


def _by_patient(one: AuditedSet) -> bool:
    return SourceFacts.model_validate(one.data.manifest).split_unit == "patient"


def check_overlaps(found: list[Overlap], page: str) -> Iterator[str]:
    """Yield a sentence for each overlap that the report should know of.

    Raises SynthGainError for a test set of which another set, that models learn from, holds more than MOST_SHARED of
    the films, or whose patients may be the same: the study does not say why it is wanted (`shares_films`).
    """
    for one in found:
        name, other = one.tested.name, one.learned.name
        text = f"{one.shared} of the {one.images} test images of {name!r} are films or patients of {other!r} too"
        text += f" ({', '.join(f'{kind} {count}' for kind, count in one.by.items())})" if one.by else ""
        if one.unknown and not one.shared:
            text = f"{name!r} and {other!r} both have films of {one.unknown}, and not both of them name its patients"
        too_many = one.shared > MOST_SHARED * one.images or bool(one.unknown)
        if too_many and one.tested.tested and not one.tested.accepted:
            raise SynthGainError(
                f"audit: {text}, so it is no external test; take another set, or say why in "
                f"datasets.{name}.shares_films; see {page}"
            )
        yield text
