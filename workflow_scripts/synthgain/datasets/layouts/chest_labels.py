"""What the chest film sets share: names of findings, what uncertain and blank labels become, race, DICOM dates."""

import difflib
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from synthgain.datasets.layout_options import LayoutOptions
from synthgain.datasets.layouts.companions import same_release, words_of
from synthgain.runtime.errors import SynthGainError

# The 14 of CheXpert's labeler (Irvin et al., arXiv:1901.07031, table 1), in the order of its files.
CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
NO_FINDING, DEVICES = "no_finding", "support_devices"
UNCERTAIN = "uncertain"  # level of a label whose uncertain cells are a class of their own
RACES = ("asian", "black", "other", "white")
# Parts of the words that hospitals use, in the order in which they are looked for; other words are unknown.
_RACES = (
    ("asian", ("asian", "chinese", "korean", "indian -")),
    ("black", ("black", "african")),
    ("white", ("white", "portuguese")),
    ("other", ("other", "native", "pacific", "hispanic", "latino", "south american", "multiple")),
)


def snake(name: str) -> str:
    """Return `Pleural Effusion` as `pleural_effusion`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def findings_of(labels: pd.DataFrame, options: LayoutOptions) -> pd.DataFrame:
    """Return labels of CheXpert's kind (1, 0, −1, blank, as text in any spelling) as "1", "0", "" or "uncertain".

    blank `zero_if_no_finding`: blanks become 0 where No Finding is 1 (it never stands with another positive or
    uncertain label), but for Support Devices, which may. A cell that is none of these is left, so that its row is
    quarantined.
    """
    text = labels.fillna("").astype(str).apply(lambda cells: cells.str.strip())
    numbers = text.apply(pd.to_numeric, errors="coerce")
    found = text.copy()
    unsure = {"unknown": "", "zero": "0", "one": "1", "own_class": UNCERTAIN}[options.labels.uncertain]
    for value, written in ((1, "1"), (0, "0"), (-1, unsure)):
        found = found.mask(numbers == value, written)
    blank = text == ""
    if options.labels.blank == "zero":
        found = found.mask(blank, "0")
    elif options.labels.blank == "zero_if_no_finding" and NO_FINDING in found:
        clear = numbers[NO_FINDING] == 1
        for name in found.columns.difference([DEVICES, NO_FINDING]):
            found.loc[clear & blank[name], name] = "0"
    return found


def findings_at(labels: pd.DataFrame, keys: pd.Series, options: LayoutOptions, file: object, what: str) -> pd.DataFrame:
    """Return `findings_of` the rows of `labels` that `keys` (studies, films: `what`) name, in their order.

    A key that the table does not name has unknown labels, whatever blanks become. SynthGainError where it names none.
    """
    same_release(list(labels.index), keys, file, what)
    found = findings_of(labels.reindex(keys).reset_index(drop=True), options)
    unnamed = ~keys.isin(labels.index).to_numpy()
    return found.mask(pd.Series(unnamed, index=found.index), "")


def renamed_or_error(
    table: pd.DataFrame, known: Sequence[str], keys: Sequence[str], file: object, release: str
) -> None:
    """Raise SynthGainError where a label column is missing and another that is not known stands there: it was renamed.

    known: label columns, of which a release may lack some; keys: other columns that it may have.
    """
    lacking = [name for name in known if name not in table.columns]
    other = [str(name) for name in table.columns if name not in (*known, *keys)]
    if lacking and other:
        wanted = difflib.get_close_matches(other[0], lacking, n=1, cutoff=0.0)[0]
        raise SynthGainError(
            f"{file}: no column {wanted!r}, but {other[0]!r}, which {release} has not; name it so or take it out"
        )


def targets_of(names: Sequence[str], options: LayoutOptions) -> dict[str, dict[str, object]]:
    """Return the `targets` of these findings for the table reader."""
    if options.labels.uncertain == "own_class":
        return {name: {"column": name, "kind": "category", "levels": ["0", "1", UNCERTAIN]} for name in names}
    return {name: {"column": name, "kind": "binary"} for name in names}


def race_of(cells: pd.Series) -> pd.Series:
    """Return asian, black, other, white, or "" (unknown, declined, none given) of a hospital's words."""
    found = pd.Series("", index=cells.index, dtype=object)
    words = cells.fillna("").astype(str).str.lower()
    for race, parts in reversed(_RACES):
        found = found.mask(words.apply(lambda word, p=parts: any(part in word for part in p)), race)
    return found


def columns_or_error(table: pd.DataFrame, wanted: Sequence[str], file: object, release: str) -> None:
    """Raise SynthGainError in one line where a table lacks columns of the release that this layout knows."""
    lacking = [name for name in wanted if name not in table.columns]
    if lacking:
        has = ", ".join(map(str, table.columns[:8]))
        raise SynthGainError(
            f"{file}: no column {lacking[0]!r}; is it of {release}? It has {has} …; another release "
            "needs `adapter: table`"
        )


SEX: Mapping[str, str] = {
    "female": "F", "male": "M", "f": "F", "m": "M", **dict.fromkeys(("unknown", "u", "other", "o", "?"), ""),
}  # fmt: skip


def sex_of(cells: pd.Series, file: object) -> pd.Series:
    """Return F, M, or "" (unknown, other, blank); SynthGainError for another word, which would lose the column."""
    return words_of(cells.fillna("").astype(str).str.lower(), SEX, file)


COVARIATES: dict[str, dict[str, object]] = {
    "sex": {"column": "sex", "kind": "category", "levels": ["F", "M"]},
    "age": {"column": "age", "kind": "continuous", "range": [1, 120]},
}
