"""Train, validation and test parts: whole patients and duplicate groups on one side, stratified or from a column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns, ImageSet
from synthgain.datasets.mask_area import strata_of
from synthgain.datasets.values import PART_WORDS, Lookup, id_key, part_of
from synthgain.runtime.errors import SynthGainError

PARTS = ("train", "validation", "test")
_NUMBER_BINS = 4  # continuous columns are stratified by quartile


@dataclass(frozen=True)
class SplitColumn:
    """A column that divides a data set.

    map: {value: part}, without it the usual words; on_conflict: refuse or regroup; validation: share of the training
    images to set aside where the column names no validation part.
    """

    name: str
    map: Mapping[str, str] = field(default_factory=dict)
    on_conflict: str = "refuse"
    validation: float | None = None


def label_indicators(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return (N, L) float indicators `column = level` for stratifying; unknown values have no label."""
    indicators: dict[str, np.ndarray] = {}
    for name in columns:
        values = table[name]
        numeric = pd.api.types.is_numeric_dtype(values)
        if numeric and values.nunique() > 2 * _NUMBER_BINS:
            values, numeric = pd.qcut(values, _NUMBER_BINS, labels=False, duplicates="drop"), True
        for level in sorted(values.dropna().unique()):
            shown = f"{level:g}" if numeric else level
            indicators[f"{name} = {shown}"] = (values == level).to_numpy(float)
    return pd.DataFrame(indicators, index=range(len(table)))


def area_indicators(data: ImageSet) -> pd.DataFrame:
    """Return (N, L) float indicators of the area strata of the first structure's masks; no column without masks."""
    found = strata_of(data)
    if found is None:
        return pd.DataFrame(index=range(len(data)))
    name, strata = found
    return label_indicators(pd.DataFrame({f"area of {name}": strata}), [f"area of {name}"])


def split_by_fractions(
    groups: np.ndarray, labels: pd.DataFrame, fractions: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    """Return (N,) part names: iterative stratification of whole groups.

    Sechidis et al., ECML PKDD 2011, Algorithm 1, on groups instead of rows: the label with the fewest groups left is
    dealt first, each of its groups to the part that still lacks most of it. Two changes for groups of unequal size:
    larger ones are dealt first (random among equals), and the lack counts relative to what the part is due, so that
    patients with many images spread over all parts instead of filling the largest.
    groups: (N,) int; labels: (N, L) indicators; fractions: {part: share}, summing to 1.
    """
    shares = np.array([float(fractions.get(part) or 0) for part in PARTS])
    if (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise SynthGainError(f"split fractions must be shares that sum to 1, got {dict(fractions)}")
    count = int(groups.max()) + 1
    sizes = np.bincount(groups, minlength=count).astype(float)
    matrix = np.column_stack([np.bincount(groups, labels[name], count) for name in labels.columns] + [sizes])
    assigned = np.full(count, -1)
    wanted = shares[:, None] * matrix.sum(axis=0)[None, :]  # (parts, labels + 1): the last column counts images
    due = wanted.copy()
    order = np.lexsort((rng.random(count), -sizes))
    left = np.ones(count, bool)
    while left.any():
        remaining = (matrix[left] > 0).sum(axis=0)[:-1]
        present = np.flatnonzero(remaining > 0)
        label = int(present[remaining[present].argmin()]) if len(present) else matrix.shape[1] - 1
        for group in order[left[order] & (matrix[order, label] > 0)]:
            lack = np.where(shares > 0, wanted[:, label] / np.maximum(due[:, label], 1e-12), -np.inf)
            best = np.flatnonzero(lack >= lack.max() - 1e-9)
            images = wanted[best, -1]
            best = best[images >= images.max() - 1e-9]
            part = int(best[rng.integers(len(best))])
            assigned[group], left[group] = part, False
            wanted[part] -= matrix[group]
    return np.array(PARTS, dtype=object)[assigned[groups]]


def split_from_column(
    table: pd.DataFrame, groups: np.ndarray, column: SplitColumn, labels: pd.DataFrame, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Return (N,) part names read from a column, and the number of groups moved to training.

    A patient (or duplicates) in two parts stops, or with `regroup`
    goes to training as a whole.
    """
    name = column.name
    if name not in table.columns:
        raise SynthGainError(f"split: no column {name!r}; list it under the data set's `keep`")
    mapping = Lookup(column.map)
    values = table[name].astype(str)
    known = {
        value: mapping[value] if value in mapping else None if column.map else part_of(value) for value in set(values)
    }
    unknown = values[[known[value] is None for value in values]]
    if len(unknown):
        image, listed = table["image_id"].loc[unknown.index[0]], ", ".join(column.map or PART_WORDS)
        raise SynthGainError(f"split: {name} of {image} is {unknown.iloc[0]!r}, not one of {listed}")
    parts: np.ndarray = np.array([known[value] for value in values], dtype=object)
    wrong = sorted(set(parts) - set(PARTS))
    if wrong:
        raise SynthGainError(f"split: {name} maps to {wrong[0]!r}; parts are {', '.join(PARTS)}")
    inside = pd.Series(parts).groupby(groups).nunique()
    crossing = inside.index.to_numpy()[inside.to_numpy() > 1]
    if len(crossing) and column.on_conflict != "regroup":
        raise SynthGainError(
            f"split: {_crossing_text(table, groups, parts, int(crossing[0]))} ({len(crossing)} such groups); "
            "mend the column, or set on_conflict: regroup to move them to training"
        )
    parts[np.isin(groups, crossing)] = "train"
    share = column.validation or 0
    if share and "validation" not in parts:
        rows = np.flatnonzero(parts == "train")
        within = np.unique(groups[rows], return_inverse=True)[1]
        kept = labels.iloc[rows].reset_index(drop=True)
        parts[rows] = split_by_fractions(within, kept, {"train": 1 - share, "validation": share}, rng)
    return parts, len(crossing)


def _crossing_text(table: pd.DataFrame, groups: np.ndarray, parts: np.ndarray, group: int) -> str:
    rows = np.flatnonzero(groups == group)
    for patient, inside in pd.Series(parts[rows]).groupby(table["patient_id"].to_numpy()[rows]):
        if inside.nunique() > 1:
            return f"patient {patient} stands in {' and '.join(sorted(inside.unique()))}"
    spelt = table["patient_id"].iloc[rows].map(id_key).to_numpy()
    for key, named in pd.Series(parts[rows]).groupby(spelt):
        if named.nunique() > 1:
            names = " and ".join(sorted(table["patient_id"].iloc[rows[spelt == key]].unique()))
            return f"patients {names} differ only in spelling and stand in {' and '.join(sorted(named.unique()))}"
    first, other = rows[0], next(row for row in rows if parts[row] != parts[rows[0]])
    ids = table["image_id"].to_numpy()
    return f"{ids[first]} ({parts[first]}) and {ids[other]} ({parts[other]}) are duplicates of one another"


def assert_disjoint(split: pd.DataFrame, groups: np.ndarray | None = None) -> None:
    """Raise SynthGainError naming the first patient, image or duplicate group that stands in two parts.

    split: columns `image_id, patient_id, part`; groups: (N,) duplicate groups in the same order, optional.
    """
    unknown = set(split["part"]) - set(PARTS)
    if unknown:
        raise SynthGainError(f"split: unknown part {sorted(map(str, unknown))[0]!r}; parts are {', '.join(PARTS)}")
    keys: dict[str, pd.Series] = {"patient": split["patient_id"], "image": split["image_id"]}
    if groups is not None:
        keys["duplicate group of"] = split["image_id"].groupby(groups).transform("first")
    for what, key in keys.items():
        counts = split.groupby(key.to_numpy())["part"].nunique()
        if (counts > 1).any():
            name = counts[counts > 1].index[0]
            inside = sorted(split.loc[key.to_numpy() == name, "part"].unique())
            raise SynthGainError(f"split: {what} {name} stands in {' and '.join(inside)}; no patient may cross")
    if split["image_id"].duplicated().any():
        raise SynthGainError(
            f"split: image {split.loc[split['image_id'].duplicated(), 'image_id'].iloc[0]} stands twice"
        )


def check_classes(table: pd.DataFrame, parts: np.ndarray, targets: Columns, expected: Sequence[str], name: str) -> None:
    """Raise SynthGainError where a part of `expected` is empty or lacks a class of a binary or category target.

    A target of which the whole data set knows a single class is not refused here: the tasks that need two say so.
    """
    for part in expected:
        if not (parts == part).any():
            what = "training" if part == "train" else part
            raise SynthGainError(
                f"{name}: the {what} part has no image; give it a share, or check `where` and the split"
            )
    for target, spec in targets.items():
        if spec["kind"] == "continuous":
            continue
        groups = pd.Series(table[target].to_numpy(object)).groupby(parts)
        levels = sorted({str(level) for level in table[target].dropna().unique()})
        for part in expected:
            found = {str(level) for level in groups.get_group(part).dropna().unique()}
            missing = [level for level in levels if level not in found]
            if missing and len(levels) > 1:
                patients = table.loc[table[target].astype(str) == missing[0], "patient_id"].nunique()
                raise SynthGainError(
                    f"{name}: no image with {target} = {missing[0]} in the {part} part ({patients} patients have it in "
                    "all); use other fractions or seed, merge classes with `map`, or leave the target out"
                )


def part_counts(table: pd.DataFrame, parts: np.ndarray, columns: Sequence[str]) -> dict[str, object]:
    """Return {part: {images, patients, classes: {column: {level: images}}}} for the parts that have images."""
    counts: dict[str, object] = {}
    for part in PARTS:
        rows = table[parts == part]
        if len(rows):
            classes = {name: class_counts(rows[name]) for name in columns}
            counts[part] = {"images": len(rows), "patients": int(rows["patient_id"].nunique()), "classes": classes}
    return counts


def class_counts(values: pd.Series) -> dict[str, int]:
    """Return {level: images}, unknown values under "unknown"; numbers without decimals (0, 1)."""
    shown = [
        "unknown" if pd.isna(value) else f"{value:g}" if isinstance(value, float | np.floating) else str(value)
        for value in values
    ]
    return {level: shown.count(level) for level in sorted(set(shown))}
