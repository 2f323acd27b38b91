"""From the text columns of a user's table to targets and covariates, with a reason for every row left out."""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pandas as pd

from synthgain.data.image_set import ColumnSpec, Role
from synthgain.datasets.entries.options import CovariateColumn, MultiLabel, RowOptions, TargetColumn
from synthgain.datasets.values import (
    TRUTHS,
    Lookup,
    declared_text,
    id_key,
    listed,
    looks_missing,
    number,
    plain_digits,
    quoted,
    spelling,
    values_of,
)
from synthgain.runtime.errors import SynthGainError

MAX_LEVEL = 200  # characters: a level's name stands in tables and figures; longer cells are free text
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:([ '\u00a0\u2009\u202f\u2019_.,])[0-9]{3})(?:\1[0-9]{3})*(?:[.,][0-9]+)?")
_OTHER_DECIMAL = {".": re.compile(r"[+-]?[0-9]+,[0-9]+"), ",": re.compile(r"[+-]?[0-9]+\.[0-9]+")}
_DIVIDERS = re.compile(r"[|,;/\\\\&+\n\t]|\s(?:and|und|et|y|e|with)\s", re.IGNORECASE)
_AROUND = " \t\"'[](){}.?!*:"  # what may stand around a finding: doubt, or a list that was written as text
Made = TypeVar("Made")
_UNCERTAIN = {"zero": "0", "one": "1", "drop": ""}


@dataclass
class Columns:
    """Targets and covariates of all rows, and what happened to rows on the way.

    values: one column per name; specs: {name: {role, kind, levels?}}. quarantined: {row position: reason};
    impossible: {name: count made unknown}; notes: what a reader of the audit must know, a sentence each.
    """

    values: dict[str, pd.Series] = field(default_factory=dict)
    specs: dict[str, ColumnSpec] = field(default_factory=dict)
    quarantined: dict[int, str] = field(default_factory=dict)
    impossible: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Column:
    """One declared column: its name here, its spec, its cells, and the table for messages."""

    name: str
    spec: TargetColumn | CovariateColumn
    cells: pd.Series
    file: str
    decimal: str

    def refused(self, text: str) -> SynthGainError:
        """Return the error that stops the run, naming the table and the column."""
        return SynthGainError(f"{self.file}: {self.name} (column {self.spec.column}): {text}")

    def filled(self) -> list[str]:
        """Return the different cells that hold something, in table order."""
        return [str(cell) for cell in pd.unique(self.cells) if cell]


def named_column(table: pd.DataFrame, name: str, file: str, key: str) -> pd.Series:
    """Return a column; SynthGainError in one line with the nearest name where the table has none such."""
    wanted = declared_text(name)
    if wanted in table.columns:
        return table[wanted]
    near = difflib.get_close_matches(wanted, list(table.columns), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, table.columns[:12]))}"
    if any(column.startswith("Unnamed: ") for column in table.columns[1:]):
        hint += " The header must be the first line"
    raise SynthGainError(f"{file}: no column {name!r} (asked for by {key}); {hint}")


def read_columns(table: pd.DataFrame, options: RowOptions, file: str, decimal: str = ".") -> Columns:
    """Read `targets`, `multilabel`, `covariates` and `constants` of the options from a text table.

    A target or category outside its map or levels quarantines its row; a number that cannot be read or is impossible
    becomes unknown and is counted. decimal: what stands before the decimals of a number.
    Raises SynthGainError for a column that is not there, or of which nothing can be read.
    """
    result = Columns()
    declared: list[tuple[Role, str, TargetColumn | CovariateColumn]] = [
        *(("target", name, target) for name, target in options.targets.items()),
        *(("covariate", name, covariate) for name, covariate in options.covariates.items()),
    ]
    for role, name, spec in declared:
        _check_name(name, result, file)
        cells = named_column(table, spec.column, file, f"{role}s.{name}")
        column = _Column(name, spec, cells, file, decimal)
        values, made = _READ[spec.kind](result, column)
        made["role"] = role
        result.values[name], result.specs[name] = values, made
        if len(cells) and not any(column.filled()):
            result.notes.append(f"{name}: every cell of column {spec.column} is empty; all its values are unknown")
    if options.multilabel is not None:
        _add_multilabel(result, options.multilabel, table, file)
    for name, value in options.constants.items():
        _check_name(name, result, file)
        result.values[name] = pd.Series([value] * len(table), dtype=object)
        result.specs[name] = {"role": "covariate", "kind": "category", "levels": [value]}
    return result


def _mapped(result: Columns, column: _Column) -> list[str]:
    """Apply `uncertain`, `missing` and `map` to the cells; "" is unknown.

    An empty cell is unknown unless the map has it. Cells outside the map quarantine their row.
    """
    spec = column.spec
    uncertain = spec.uncertain if isinstance(spec, TargetColumn) else None
    meant: dict[str, str] = {} if uncertain is None else {declared_text(uncertain.value): _UNCERTAIN[uncertain.policy]}
    first = Lookup({**dict.fromkeys(spec.missing, ""), **meant})
    mapping = Lookup({value: declared_text(meaning) for value, meaning in spec.map.items()})
    outside: dict[str, str] = {}

    def meaning(cell: str) -> str:
        if cell in first:
            return first[cell]
        if cell in mapping:
            return mapping[cell]
        if cell and spec.map:
            outside[cell] = f"value {quoted(cell)} is not in the map ({', '.join(list(mapping)[:6])})" + _hint(cell)
            return ""
        return cell

    mapped = _each(column.cells, meaning)
    _quarantine(result, column, column.cells, outside)
    return mapped


def _binary(result: Columns, column: _Column) -> tuple[pd.Series, ColumnSpec]:
    known, cells = Lookup({"0": 0.0, "1": 1.0}), _mapped(result, column)
    wrong = {
        cell: f"value {quoted(cell)} is neither 0 nor 1; give it a map{_hint(cell)}"
        for cell in set(cells)
        if cell and cell not in known
    }
    if wrong and not any(cell in known for cell in set(cells)):
        raise column.refused(f"no cell is 0 or 1 (it holds {listed(sorted(wrong))}); give it a `map`")
    _quarantine(result, column, cells, wrong)
    values = _each(cells, lambda cell: known.of(cell, np.nan))
    return pd.Series(values, dtype=np.float32), {"kind": "binary"}


def _category(result: Columns, column: _Column) -> tuple[pd.Series, ColumnSpec]:
    spec, cells = column.spec, _mapped(result, column)
    declared = spec.levels or sorted({declared_text(value) for value in spec.map.values()} - {""})
    levels = declared or _found_levels(column, cells)
    known = values_of(levels)
    outside = {}
    for cell in set(cells):
        if cell and cell not in known:
            shown = ", ".join(levels[:6]) if len(cell) <= MAX_LEVEL else f"at most {MAX_LEVEL} characters long"
            outside[cell] = f"value {quoted(cell)} is not among the levels ({shown}){_hint(cell)}"
    if outside and declared and not any(cell in known for cell in set(cells)):
        raise column.refused(f"no cell is one of the levels {listed(levels)} (it holds {listed(sorted(outside))})")
    _quarantine(result, column, cells, outside)
    values = _each(cells, lambda cell: known[cell] if cell and cell in known else None)
    return pd.Series(values, dtype=object), {"kind": "category", "levels": list(known)}


def _found_levels(column: _Column, cells: Iterable[str]) -> list[str]:
    """Return the levels that a column itself shows, numbers in one spelling.

    SynthGainError for levels that may mean unknown, and for those that differ only in spelling.
    """
    levels = sorted({spelling(cell) for cell in cells if 0 < len(cell) <= MAX_LEVEL})
    doubtful = [level for level in levels if looks_missing(level)]
    if doubtful:
        raise column.refused(
            f"is {quoted(doubtful[0])} a level or unknown? List it under `levels` with the others, or under `missing`"
        )
    known: dict[str, str] = {}
    for level in levels:
        other = known.setdefault(id_key(TRUTHS[level] if level in ("true", "false") else level), level)
        if other != level:
            raise column.refused(f"{quoted(other)} and {quoted(level)} differ only in spelling; give it a `map`")
    return levels


def _continuous(result: Columns, column: _Column) -> tuple[pd.Series, ColumnSpec]:
    """Numbers; what cannot be read or lies outside `range` becomes unknown and is counted."""
    spec = column.spec
    assert isinstance(spec, CovariateColumn)
    missing = Lookup(dict.fromkeys(spec.missing, ""))
    mapping = Lookup({value: declared_text(meaning) for value, meaning in spec.map.items()})
    low, high = spec.range or (-np.inf, np.inf)
    unread: set[str] = set()
    outside: set[str] = set()

    def meaning(cell: str) -> float:
        if cell in missing or (looks_missing(cell) and cell not in mapping):
            return np.nan
        value = number(mapping[cell]) if cell in mapping else number(cell, column.decimal)
        if value is not None and low <= value <= high:
            return value
        if cell:
            (unread if value is None else outside).add(cell)
        return np.nan

    numbers = pd.Series(_each(column.cells, meaning), dtype=np.float64)
    _check_separators(column, sorted(map(plain_digits, unread)))
    if (unread or outside) and not numbers.notna().any():
        limits = f" within {low:g} to {high:g}" if spec.range else ""
        raise column.refused(f"no cell is a number{limits} (it holds {listed(sorted(unread | outside))})")
    for what, cells in (("are no numbers", unread), (f"lie outside {low:g} to {high:g}", outside)):
        count = int(column.cells.isin(list(cells)).sum())
        if count:
            result.impossible[column.name] = result.impossible.get(column.name, 0) + count
            result.notes.append(f"{column.name}: {count} cells {what} ({listed(sorted(cells))}) and became unknown")
    if not spec.bins:
        return numbers.astype(np.float32), {"kind": "continuous"}
    levels = [f"{low:g}-{high:g}" for low, high in pairwise(spec.bins)]
    cut = pd.cut(numbers, list(spec.bins), right=False, labels=levels)
    cut = cut.astype(object).where(numbers != spec.bins[-1], levels[-1])
    values = [value if isinstance(value, str) else None for value in cut]
    return pd.Series(values, dtype=object), {"kind": "category", "levels": levels}


def _check_separators(column: _Column, unread: list[str]) -> None:
    """Raise SynthGainError for what would be numbers with another decimal sign, or with separators of thousands."""
    other = [cell for cell in unread if _OTHER_DECIMAL[column.decimal].fullmatch(cell)]
    if other and column.decimal == ",":
        raise column.refused(f"{listed(other)}: format.decimal is a comma; is the point another one? Take it out")
    grouped = [cell for cell in unread if _GROUPED.fullmatch(cell)]
    commas = [cell for cell in grouped if "," in cell and "." in cell.partition(",")[0]]  # 1.234,5
    if (other or commas) and column.decimal == ".":
        raise column.refused(
            f'{listed(other or commas)}: is the comma a decimal one? Declare `format: {{decimal: ","}}`, or take it out'
        )
    if grouped:
        raise column.refused(f"{listed(grouped)}: take the separators of thousands out")


_READ: dict[str, Callable[[Columns, _Column], tuple[pd.Series, ColumnSpec]]] = {
    "binary": _binary,
    "category": _category,
    "continuous": _continuous,
}


def _add_multilabel(result: Columns, spec: MultiLabel, table: pd.DataFrame, file: str) -> None:
    """One binary target per label of a delimited column; an empty cell leaves all of them unknown.

    Labels that are not listed are ignored, or with `other: quarantine` (but those under `negative`) quarantine the row.
    """
    cells = named_column(table, spec.column, file, "multilabel.column")
    labels, negative, missing = spec.labels, set(spec.negative), Lookup(dict.fromkeys(spec.missing, ""))
    found = _each(
        cells, lambda cell: set() if cell in missing else {part.strip() for part in cell.split(spec.delimiter)} - {""}
    )
    everything: set[str] = set().union(*found)
    _check_labels(spec, everything, file)
    for row, parts in enumerate(found):
        other = sorted(parts - set(labels) - negative)
        if spec.other == "quarantine" and other:
            result.quarantined.setdefault(row, f"{spec.column}: label {quoted(other[0])} is not listed")
    for label in labels:
        _check_name(label, result, file)
        values = [float(label in parts) if parts else np.nan for parts in found]
        result.values[label] = pd.Series(values, dtype=np.float32)
        result.specs[label] = {"role": "target", "kind": "binary"}


def _check_labels(spec: MultiLabel, everything: set[str], file: str) -> None:
    """Raise SynthGainError for findings that are nearly, but not, what the options list."""
    place = f"{file}: multilabel (column {spec.column})"
    others = sorted(everything - set(spec.labels) - set(spec.negative))
    listed_keys = {id_key(label): label for label in spec.labels}
    for other in others:
        if looks_missing(other):
            raise SynthGainError(f"{place}: list {quoted(other)} under `missing` (unknown) or `negative` (no finding)")
        parts = [id_key(part.strip(_AROUND)) for part in _DIVIDERS.split(other)]
        same = next((label for key, label in listed_keys.items() if key in (parts[0], id_key(other))), None)
        if same is not None and len(parts) == 1:
            raise SynthGainError(f"{place}: {quoted(other)} and the label {same!r} differ only in spelling")
        if len(parts) > 1 and set(parts) & listed_keys.keys():
            raise SynthGainError(f"{place}: {quoted(other)} is not divided by {spec.delimiter!r}; check `delimiter`")
    for label in spec.labels:
        near = difflib.get_close_matches(label, others, n=1, cutoff=0.8)
        if label not in everything and near:  # absent without a near name may be true of one hospital
            raise SynthGainError(f"{file}: no row of {spec.column} has the label {label!r}; did you mean {near[0]!r}?")
    if others and not everything & {*spec.labels, *spec.negative}:
        raise SynthGainError(f"{place}: no row has any of the labels (it holds {listed(others)})")


def _each(cells: Iterable[str], meaning: Callable[[str], Made]) -> list[Made]:
    """Return the meaning of every cell, asked for once for each different one."""
    known: dict[str, Made] = {}
    made = []
    for cell in cells:
        if cell not in known:
            known[cell] = meaning(cell)
        made.append(known[cell])
    return made


def _quarantine(result: Columns, column: _Column, cells: Iterable[str], reasons: dict[str, str]) -> None:
    for row, cell in enumerate(cells if reasons else ()):
        if cell in reasons:
            result.quarantined.setdefault(row, f"{column.name}: {reasons[cell]}")


def _hint(cell: str) -> str:
    return ", or list it under `missing`" if looks_missing(cell) else ""


def _check_name(name: str, result: Columns, file: str) -> None:
    if name in result.values:
        raise SynthGainError(f"{file}: {name!r} is declared twice among targets, covariates and constants")
