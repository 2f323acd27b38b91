"""From the text columns of a user's table to targets and covariates, with a reason for every row left out."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.image_set import ColumnSpec, Role
from synthgain.entry import UNSAFE
from synthgain.runtime.errors import SynthGainError

RESERVED = ("image_id", "patient_id", "site", "origin", "sha256")
POLICIES = ("drop", "zero", "one")
MAX_LEVEL = 200  # characters: a level's name stands in tables and figures; longer cells are free text
_SHOWN = 80  # characters of a cell that a reason quotes


@dataclass
class Columns:
    """Targets and covariates of all rows, and what happened to rows on the way.

    values: one column per name; specs: {name: {role, kind, levels?}}. quarantined: {row position: reason};
    impossible: {name: count made unknown}.
    """

    values: dict[str, pd.Series] = field(default_factory=dict)
    specs: dict[str, ColumnSpec] = field(default_factory=dict)
    quarantined: dict[int, str] = field(default_factory=dict)
    impossible: dict[str, int] = field(default_factory=dict)


def text_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every cell as stripped text; missing cells are "", 3.0 is "3", True is "true".

    Characters that would break or disguise what is shown of a cell are written out (`\\x1b`).
    """
    columns = {str(name): table.iloc[:, place] for place, name in enumerate(table.columns)}
    return pd.DataFrame({name: [_text(cell) for cell in cells] for name, cells in columns.items()}, dtype=object)


def named_column(table: pd.DataFrame, name: Any, file: str, key: str) -> pd.Series:
    """Return a column; SynthGainError in one line with the nearest name where the table has none such."""
    if name in table.columns:
        return table[name]
    near = difflib.get_close_matches(str(name), list(table.columns), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, table.columns[:12]))}"
    raise SynthGainError(f"{file}: no column {name!r} (asked for by {key}); {hint}")


def read_columns(table: pd.DataFrame, options: Mapping[str, Any], file: str) -> Columns:
    """Read `targets`, `multilabel`, `covariates` and `constants` of the options from a text table.

    A target or category outside its map or levels quarantines its row; an impossible number becomes unknown and is
    counted. Raises SynthGainError for a column that is not there or a spec that makes no sense.
    """
    result = Columns()
    roles: tuple[Role, ...] = ("target", "covariate")
    for role in roles:
        for name, spec in (options.get(f"{role}s") or {}).items():
            _check_name(name, result, file)
            cells = named_column(table, spec.get("column", name), file, f"{role}s.{name}")
            _add_column(result, name, role, spec, cells, file)
    if options.get("multilabel"):
        _add_multilabel(result, options["multilabel"], table, file)
    for name, value in (options.get("constants") or {}).items():
        _check_name(name, result, file)
        result.values[name] = pd.Series([str(value)] * len(table), dtype=object)
        result.specs[name] = {"role": "covariate", "kind": "category", "levels": [str(value)]}
    return result


def _add_column(
    result: Columns, name: str, role: Role, spec: Mapping[str, object], cells: pd.Series, file: str
) -> None:
    kind = spec.get("kind", "binary" if role == "target" else "category")
    if kind == "continuous":
        values, made = _continuous(result, name, spec, cells)
    elif kind in ("binary", "category"):
        mapped = _mapped(result, name, spec, cells)
        values, made = (_binary if kind == "binary" else _category)(result, name, spec, mapped)
    else:
        raise SynthGainError(f"{file}: {role}s.{name}.kind is {kind!r}; known: binary, category, continuous")
    made["role"] = role
    result.values[name], result.specs[name] = values, made


def _mapped(result: Columns, name: str, spec: Mapping[str, Any], cells: pd.Series) -> list[str]:
    """Apply `uncertain` (drop: unknown, left out of the loss; zero; one) and `map`.

    Cells outside the map quarantine their row.
    """
    uncertain = spec.get("uncertain") or {}
    policy = uncertain.get("policy", "drop")
    if policy not in POLICIES:
        raise SynthGainError(f"{name}.uncertain.policy is {policy!r}; known: {', '.join(POLICIES)}")
    mapping = {_text(key): _text(value) for key, value in spec["map"].items()} if spec.get("map") else None
    mapped = []
    for row, cell in enumerate(cells):
        value = cell
        if uncertain and cell == _text(uncertain["value"]):
            value = {"zero": "0", "one": "1"}.get(policy, "")
        elif cell and mapping is not None:
            value = mapping.get(cell, "")
            if cell not in mapping:
                shown = ", ".join(list(mapping)[:6])
                result.quarantined.setdefault(row, f"{name}: value {_quoted(cell)} is not in the map ({shown})")
        mapped.append(value)
    return mapped


def _binary(result: Columns, name: str, spec: Mapping[str, object], cells: list[str]) -> tuple[pd.Series, ColumnSpec]:
    known = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0, "0.0": 0.0, "1.0": 1.0}
    for row, cell in enumerate(cells):
        if cell and cell.lower() not in known:
            result.quarantined.setdefault(row, f"{name}: value {_quoted(cell)} is neither 0 nor 1; give it a map")
    values = [known.get(cell.lower(), np.nan) for cell in cells]
    return pd.Series(values, dtype=np.float32), {"kind": "binary"}


def _category(result: Columns, name: str, spec: Mapping[str, Any], cells: list[str]) -> tuple[pd.Series, ColumnSpec]:
    declared = spec.get("levels") or sorted({_text(value) for value in (spec.get("map") or {}).values()} - {""})
    levels = [_text(level) for level in declared] or sorted({cell for cell in cells if 0 < len(cell) <= MAX_LEVEL})
    for row, cell in enumerate(cells):
        if cell and cell not in levels:
            shown = ", ".join(levels[:6]) if len(cell) <= MAX_LEVEL else f"at most {MAX_LEVEL} characters long"
            result.quarantined.setdefault(row, f"{name}: value {_quoted(cell)} is not among the levels ({shown})")
    values = [cell if cell in levels else None for cell in cells]
    return pd.Series(values, dtype=object), {"kind": "category", "levels": levels}


def _continuous(result: Columns, name: str, spec: Mapping[str, Any], cells: pd.Series) -> tuple[pd.Series, ColumnSpec]:
    """Numbers; what is no finite number or lies outside `range` becomes unknown and is counted."""
    numbers = pd.to_numeric(cells.where(cells != "", None), errors="coerce").astype(np.float64)
    low, high = spec.get("range") or (-np.inf, np.inf)
    possible = np.isfinite(numbers) & (numbers >= low) & (numbers <= high)
    impossible = int(((cells != "") & ~possible).sum())
    numbers = numbers.where(possible, np.nan)
    if impossible:
        result.impossible[name] = impossible
    bins = spec.get("bins")
    if not bins:
        return numbers.astype(np.float32), {"kind": "continuous"}
    if list(bins) != sorted(set(bins)) or len(bins) < 2:
        raise SynthGainError(f"{name}.bins must be at least two rising numbers, got {bins}")
    levels = [f"{low:g}-{high:g}" for low, high in pairwise(bins)]
    cut = pd.cut(numbers, list(bins), right=False, labels=levels)
    cut = cut.astype(object).where(numbers != bins[-1], levels[-1])
    values = [value if isinstance(value, str) else None for value in cut]
    return pd.Series(values, dtype=object), {"kind": "category", "levels": levels}


def _add_multilabel(result: Columns, spec: Mapping[str, Any], table: pd.DataFrame, file: str) -> None:
    """One binary target per label of a delimited column; an empty cell leaves all of them unknown.

    Labels that are not listed are ignored, or with `other: quarantine` (but those under `negative`) quarantine the row.
    """
    cells = named_column(table, spec["column"], file, "multilabel.column")
    labels, negative = [str(label) for label in spec["labels"]], set(map(str, spec.get("negative") or []))
    strict = spec.get("other") == "quarantine"
    found = [{part.strip() for part in cell.split(spec.get("delimiter", "|"))} - {""} for cell in cells]
    for row, parts in enumerate(found):
        other = sorted(parts - set(labels) - negative)
        if strict and other:
            result.quarantined.setdefault(row, f"{spec['column']}: label {_quoted(other[0])} is not listed")
    everything = set().union(*found)
    for label in labels:
        _check_name(label, result, file)
        near = difflib.get_close_matches(label, sorted(everything - set(labels)), n=1, cutoff=0.8)
        if label not in everything and near:  # absent without a near name may be true of one hospital
            raise SynthGainError(
                f"{file}: no row of {spec['column']} has the label {label!r}; did you mean {near[0]!r}?"
            )
        values = [float(label in parts) if parts else np.nan for parts in found]
        result.values[label] = pd.Series(values, dtype=np.float32)
        result.specs[label] = {"role": "target", "kind": "binary"}


def _check_name(name: str, result: Columns, file: str) -> None:
    if name in RESERVED or name.startswith("has_mask_"):
        raise SynthGainError(f"{file}: a target or covariate cannot be named {name!r}; choose another name")
    if name in result.values:
        raise SynthGainError(f"{file}: {name!r} is declared twice among targets, covariates and constants")


def _text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and not np.isfinite(cell)) or cell is pd.NA or cell is pd.NaT:
        return ""
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell)).lower()
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return printable(str(cell).strip().replace("\r\n", "\n"))


def printable(text: str) -> str:
    """Return text whose characters that would break or disguise what is shown of it are written out (`\\x1b`)."""
    return text if text.isprintable() else UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _quoted(cell: str) -> str:
    return repr(cell if len(cell) <= _SHOWN else f"{cell[:_SHOWN]}…")
