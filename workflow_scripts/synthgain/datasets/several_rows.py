"""Several rows of one image (a box each, a reader each) become one row, by a declared rule where they disagree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from synthgain.data.run_lengths import ENCODINGS, SEPARATOR
from synthgain.datasets.columns import Columns
from synthgain.datasets.masks import FILES, Structures
from synthgain.datasets.values import listed

Value = float | str | None
_RULES = {
    "refuse": "these images are left out; `several_rows` says what else may count",
    "agree": "unknown there",
    "any": "1 there, since any row counts",
    "majority": "most rows count, a tie is unknown",
}


@dataclass
class Merged:
    """What became of rows that share an image.

    folded: rows that another one stands for. conflicts: {column: image ids whose rows disagree in it}.
    """

    folded: set[int] = field(default_factory=set)
    conflicts: dict[str, list[str]] = field(default_factory=dict)


def merge_rows(
    ids: pd.Series, fixed: Mapping[str, pd.Series], columns: Columns, structures: Structures, rule: str
) -> Merged:
    """Fold all rows of an image id into its first row, in `columns` and the cells of `structures`.

    fixed: columns of text that must agree whatever the rule (patient, site, path …); so must covariates. An empty cell
    agrees with all. Run lengths are joined; targets and mask files follow `rule`. An image whose rows may not be joined
    is quarantined as one row.
    """
    merged = Merged()
    repeated = ids[ids.duplicated(keep=False) & ids.ne("")]
    for image, rows in repeated.groupby(repeated, sort=False).groups.items():
        group = [int(row) for row in rows]
        reasons = [columns.quarantined.pop(row) for row in group if row in columns.quarantined]
        merged.folded.update(group[1:])
        reasons += _fold_fixed(fixed, columns, group)
        reasons += _fold_targets(str(image), columns, group, rule, merged)
        reasons += _fold_masks(str(image), structures, group, rule, merged)
        if reasons:
            columns.quarantined[group[0]] = reasons[0]
    if merged.folded:
        columns.notes.append(f"{len(merged.folded)} more rows of images that have several were joined to the first")
    for name, images in merged.conflicts.items():
        columns.notes.append(f"{name}: rows of {len(images)} images disagree ({listed(images)}); {_RULES[rule]}")
    return merged


def _fold_fixed(fixed: Mapping[str, pd.Series], columns: Columns, group: Sequence[int]) -> list[str]:
    """Fill what is empty in the first row from the others; return the reasons where rows disagree."""
    covariates = {name: columns.values[name] for name, spec in columns.specs.items() if spec["role"] == "covariate"}
    reasons = []
    for name, cells in {**fixed, **covariates}.items():
        known = _known(cells, group)
        if len(set(known)) > 1:
            reasons.append(f"its {len(group)} rows differ in {name} ({listed(map(str, dict.fromkeys(known)))})")
        elif known:
            cells.iloc[group[0]] = known[0]
    return reasons


def _fold_targets(image: str, columns: Columns, group: Sequence[int], rule: str, merged: Merged) -> list[str]:
    reasons = []
    for name, spec in columns.specs.items():
        if spec["role"] != "target":
            continue
        cells = columns.values[name]
        known = _known(cells, group)
        if len(set(known)) > 1:
            merged.conflicts.setdefault(name, []).append(image)
            if rule == "refuse":
                shown = listed(f"{value:g}" if isinstance(value, float) else str(value) for value in known)
                reasons.append(f"its {len(group)} rows differ in {name} ({shown}); declare `several_rows`")
        if known:
            cells.iloc[group[0]] = _joined_value(known, rule, np.nan if spec["kind"] == "binary" else None)
    return reasons


def _joined_value(known: Sequence[Value], rule: str, unknown: Value) -> Value:
    if len(set(known)) == 1:
        return known[0]
    if rule == "any":
        return 1.0
    most = Counter(known).most_common(2)
    return most[0][0] if rule == "majority" and most[0][1] > most[1][1] else unknown


def _fold_masks(image: str, structures: Structures, group: Sequence[int], rule: str, merged: Merged) -> list[str]:
    reasons = []
    for name, sources in structures.items():
        for source in sources:
            named = list(dict.fromkeys(cell for cell in source.cells.iloc[list(group)] if cell))
            if source.encoding in ENCODINGS:
                source.cells.iloc[group[0]] = SEPARATOR.join(named)
                continue
            if len(named) > 1 and rule != "any":
                merged.conflicts.setdefault(f"mask of {name}", []).append(image)
                reasons.append(
                    f"its {len(group)} rows name several masks of {name}; declare `several_rows: any` to join them"
                )
            source.cells.iloc[group[0]] = FILES.join(named)
    return reasons


def _known(cells: pd.Series, group: Sequence[int]) -> list[Value]:
    """Return the values of some rows that are there; numbers as float."""
    values = [cells.iloc[row] for row in group]
    known = [value for value in values if not pd.isna(value) and value != ""]
    return [value if isinstance(value, str) else float(value) for value in known]
