"""What the columns of a table, or the names of folders and files, probably mean: each guess with its reason."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from synthgain.datasets.folder import IMAGE_ID, patients_of
from synthgain.datasets.folder_layout import CLASS, MASK
from synthgain.datasets.reading import DICOM_SUFFIXES, FORMATS
from synthgain.datasets.values import part_of

PATIENT = ("patient", "subject", "participant", "person", "individual", "mrn", "pid", "case")
TARGET = (
    "label", "target", "class", "diagnosis", "dx", "finding", "pathology", "outcome", "disease", "category", "y",
)  # fmt: skip
SITE = ("site", "hospital", "center", "centre", "institution", "clinic")
SEX, AGE, VIEW = ("sex", "gender"), ("age", "patientage"), ("view", "viewposition", "projection", "position")
PART = ("split", "part", "set", "subset", "partition", "fold")
POSITIVE = ("1", "true", "yes", "y", "positive", "pos", "abnormal", "malignant", "present", "sick", "disease", "case")
NEGATIVE = (
    "0", "false", "no", "n", "negative", "neg", "normal", "healthy", "benign", "absent", "none", "control", "nofinding",
)  # fmt: skip
FLAGS = {"0", "1", "-1", "0.0", "1.0", "-1.0", "true", "false"}
MOST_LEVELS, MOST_LABELS, FEWEST_IMAGES = 12, 8, 20
# Words before a number that name a patient in a file's or folder's name; the number is the patient's.
_IN_PATH = r"(?:^|[/ _-])((?:patient|person|subject|participant|pat|subj|sub|case|pid|pt)[ _-]?\d+)"
LEAST_MATCHED = 0.95  # of the paths


@dataclass(frozen=True)
class Label:
    """A target: its name in the study, the column, its kind (binary, category), how values are mapped, and why."""

    name: str
    column: str
    kind: str
    why: str
    map: dict[str, int] = field(default_factory=dict)
    levels: list[str] = field(default_factory=list)
    uncertain: str | None = None


@dataclass(frozen=True)
class Covariate:
    """A covariate: its name in the study, its column, its kind (category, continuous)."""

    name: str
    column: str
    kind: str


@dataclass
class Guesses:
    """All guesses. patient: a column, or a pattern for the path (patient_pattern), with why; questions stay open."""

    patient: str | None = None
    patient_pattern: str | None = None
    patient_why: str = ""
    labels: list[Label] = field(default_factory=list)
    findings: tuple[str, str, list[str]] | None = None  # column, delimiter, labels
    covariates: list[Covariate] = field(default_factory=list)
    site: str | None = None
    split: str | None = None
    split_values: dict[str, str] = field(default_factory=dict)
    masks: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


def guess(rows: pd.DataFrame, image: str) -> Guesses:
    """Return what the columns of a text table mean; `image` is that of the paths."""
    found = Guesses()
    taken = {image, IMAGE_ID, "found", "described"}
    columns = [name for name in map(str, rows) if name not in taken]
    _patient(found, rows, columns, image)
    found.site = _first(columns, SITE)
    _split(found, rows, columns)
    found.masks = [name for name in columns if _holds_masks(name, rows[name])]
    taken |= {name for name in (found.patient, found.site, found.split, *found.masks) if name}
    for name, words in (("sex", SEX), ("age", AGE), ("view", VIEW)):
        column = _first([one for one in columns if one not in taken], words)
        kind = "continuous" if name == "age" else "category"
        if column and (kind == "continuous" or 1 < len(_levels(rows[column])) <= MOST_LEVELS):
            found.covariates.append(Covariate(name, column, kind))
            taken.add(column)
    _labels(found, rows, [name for name in columns if name not in taken])
    return found


def named(text: str, used: Iterable[str] = ()) -> str:
    """Return a name that a study takes: small letters, digits and _, starting with a letter, and not used yet."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:50]
    plain = plain if plain[:1].isalpha() else f"x_{plain}".rstrip("_")
    reserved = {"image_id", "patient_id", "site", "origin", "sha256", "x", *used}
    return next(one for one in (plain, *(f"{plain}_{n}" for n in range(2, 100))) if one not in reserved)


def images_each(patients: Iterable[str]) -> str:
    """Return "682 patients, 1 to 12 images each, half have 1" of the patient of each image."""
    counts = sorted(Counter(patients).values())
    if counts[-1] == 1:
        return f"{len(counts):,} patients, one image each"
    return (
        f"{len(counts):,} patients with {counts[0]} to {counts[-1]} images each, the median is {int(np.median(counts))}"
    )


def _word(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())


def _first(columns: Sequence[str], words: Sequence[str], more: str = "") -> str | None:
    """Return the column that is called by the first of the words, or by it and an ending of `more`."""
    for word in words:
        for column in columns:
            if re.fullmatch(f"{word}(?:{more})?", _word(column)):
                return column
    return None


def _patient(found: Guesses, rows: pd.DataFrame, columns: Sequence[str], image: str) -> None:
    column = _first(columns, PATIENT, "id|ids|no|nr|number|name|code|key|index")
    if column is not None and (rows[column] != "").any():
        found.patient = column
        found.patient_why = f"by its name; {images_each(v for v in rows[column] if v)}"
        return
    paths = rows[IMAGE_ID] if IMAGE_ID in rows else rows[image]
    patients = patients_of(paths, f"(?i){_IN_PATH}")
    matched = [one for one in patients if one]
    if len(matched) >= LEAST_MATCHED * len(paths) and len(set(matched)) > 1:
        found.patient_pattern = f"(?i){_IN_PATH}"
        found.patient_why = f"a word and a number in the paths, such as {matched[0]!r}; {images_each(matched)}"
    elif matched and len(set(matched)) > 1:
        found.questions.append(
            f"patient_id: {len(matched):,} of {len(paths):,} paths hold a word and a number such as {matched[0]!r} "
            f"({images_each(matched)}). Is that the patient, and what are the others?"
        )


def _split(found: Guesses, rows: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in [one for one in columns if _word(one) in PART]:
        values = _levels(rows[column])
        if values and all(map(part_of, values)) and (rows[column] != "").all():
            found.split, found.split_values = column, {value: part for value in values if (part := part_of(value))}
            return


def _holds_masks(name: str, cells: pd.Series) -> bool:
    filled = [cell for cell in cells if cell]
    pictures = sum(cell.lower().endswith((*FORMATS, *DICOM_SUFFIXES)) for cell in filled)
    return (
        bool(filled)
        and pictures >= len(filled) / 2
        and ("mask" in name.lower() or "seg" in name.lower() or name == MASK)
    )


def _levels(cells: pd.Series) -> list[str]:
    return sorted({cell for cell in cells if cell})


def _labels(found: Guesses, rows: pd.DataFrame, columns: list[str]) -> None:
    several = [name for name in columns if _word(name).startswith(TARGET) and _delimited(rows[name])]
    usable = [name for name in columns if name not in several and 2 <= len(_levels(rows[name])) <= MOST_LEVELS]
    flags = [name for name in usable if set(_levels(rows[name])) <= FLAGS]
    column = CLASS if CLASS in usable else _first(usable, TARGET, "s|id|name|label|es")
    if column is not None:
        why = "the class folders" if column == CLASS and IMAGE_ID in rows else "by its name"
        found.labels = [_label(rows[column], column, why, found.questions)]
    elif several:
        found.findings = _findings(rows[several[0]], several[0])
    elif len(flags) > 0:
        found.labels = [
            _label(rows[name], name, "holds 0 and 1 alone", found.questions) for name in flags[:MOST_LABELS]
        ]
    elif usable:
        found.labels = [_label(rows[usable[0]], usable[0], "a guess: it has few values", found.questions)]
        others = f" Others with few values: {', '.join(usable[1:8])}." if usable[1:] else ""
        found.questions.append(f"targets: is {usable[0]!r} what a classifier should predict?{others}")


def _delimited(cells: pd.Series) -> bool:
    parts = {part for cell in cells for part in cell.split("|")}
    return any("|" in cell for cell in cells) and len(parts) <= len(_levels(cells))


def _findings(cells: pd.Series, column: str) -> tuple[str, str, list[str]]:
    counts = Counter(part.strip() for cell in cells for part in cell.split("|"))
    kept = [name for name, n in counts.most_common() if n >= FEWEST_IMAGES and _word(name) not in NEGATIVE and name]
    return column, "|", kept[:MOST_LABELS]


def _label(cells: pd.Series, column: str, why: str, questions: list[str]) -> Label:
    levels = _levels(cells)
    numbers = {"-1", "-1.0"} & set(levels)
    if numbers and set(levels) - numbers <= {"0", "1", "0.0", "1.0"}:
        return Label(named(column), column, "binary", why, uncertain=min(numbers))
    if len(levels) != 2:
        return Label(named(column), column, "category", why, levels=levels)
    if set(levels) <= {"0", "1"} or set(levels) <= {"true", "false"}:
        return Label(named(column), column, "binary", why)
    positive = _positive(levels)
    if positive is None:
        positive = levels[1]
        questions.append(f"targets: 1 stands for {positive!r} and 0 for {levels[0]!r}. Is it the other way round?")
    other = next(level for level in levels if level != positive)
    generic = column == CLASS or _word(positive) in POSITIVE
    name = named(column if generic and column != CLASS else positive)
    return Label(name, column, "binary", why, map={other: 0, positive: 1})


def _positive(levels: Sequence[str]) -> str | None:
    """Return which of two levels is the finding."""
    first, second = levels
    for one, other in ((first, second), (second, first)):
        if _word(one) in POSITIVE or _word(other) in NEGATIVE:
            return one
    return None
