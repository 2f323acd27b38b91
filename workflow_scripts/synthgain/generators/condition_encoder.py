"""Turns table rows (classes, findings, sex, age …) into one vector for the network."""

from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from synthgain.data.image_set import Columns
from synthgain.runtime.errors import SynthGainError

CONTINUOUS_HIDDEN = 32  # width of the two-layer network that embeds one standardised number
BINARY_LEVELS = ["0", "1"]


class ConditionColumn(TypedDict):
    """A column that the encoder takes: levels of a category, mean and sd of a continuous one."""

    name: str
    kind: str
    levels: NotRequired[list[str]]
    mean: NotRequired[float]
    sd: NotRequired[float]


class ConditionEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Sum of one embedding per column; a null (missing, or dropped for guidance) has a learned vector of its own.

    columns: of kind binary, category or continuous. dimension: D, length of the vector.
    Saved and loaded as diffusers does (config.json + safetensors).
    """

    @register_to_config
    def __init__(self, columns: list[ConditionColumn], dimension: int) -> None:
        super().__init__()
        self.columns = [column.copy() for column in columns]
        self.base = nn.Parameter(torch.zeros(dimension))  # all there is in an unconditional generator
        scale = 0.5 / max(len(columns), 1) ** 0.5  # the sum starts at the size of a time embedding
        self.null = nn.Parameter(torch.randn(len(columns), dimension) * scale)
        self.embeddings = nn.ModuleList([_embedding(column, dimension, scale) for column in columns])

    def forward(self, values: Tensor, null: Tensor) -> Tensor:
        """Return (N, D) from values (N, columns) float32, null (N, columns) bool; a value under a null is ignored."""
        vector = self.base.expand(len(values), -1)
        for index, embedding in enumerate(self.embeddings):
            known = torch.where(null[:, index], torch.zeros_like(values[:, index]), values[:, index])
            vector = vector + torch.where(null[:, index, None], self.null[index], embedding(known))
        return vector

    def encode_table(self, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return values (N, columns) float32 and null (N, columns) bool of a table's rows.

        binary 0/1, category its level's number, continuous standardised. Raises SynthGainError for a
        missing column or a level that training did not know.
        """
        values = np.zeros((len(table), len(self.columns)), dtype=np.float32)
        null = np.ones(values.shape, dtype=bool)
        for index, column in enumerate(self.columns):
            if column["name"] not in table.columns:
                raise SynthGainError(f"condition column {column['name']!r}: the table has no such column")
            values[:, index], null[:, index] = _column_values(column, table[column["name"]])
        return values, null

    def take_over(self, other: "ConditionEncoder") -> list[str]:
        """Copy what `other` learned of the columns that both have (same name, kind and levels); return their names."""
        places = {_meaning(column): place for place, column in enumerate(other.columns)}
        shared = [(number, places.get(_meaning(column))) for number, column in enumerate(self.columns)]
        if other.base.shape != self.base.shape:
            return []
        with torch.no_grad():
            self.base.copy_(other.base)
            for number, place in shared:
                if place is not None:
                    self.null[number].copy_(other.null[place])
                    self.embeddings[number].load_state_dict(other.embeddings[place].state_dict())
        return [self.columns[number]["name"] for number, place in shared if place is not None]


class _Levels(nn.Module):
    """One vector per level, as a one-hot product (deterministic on every device, unlike an index add)."""

    def __init__(self, levels: int, dimension: int, scale: float) -> None:
        super().__init__()
        self.levels = levels
        self.weight = nn.Parameter(torch.randn(levels, dimension) * scale)

    def forward(self, values: Tensor) -> Tensor:
        return functional.one_hot(values.long(), self.levels).to(self.weight.dtype) @ self.weight


class _Number(nn.Module):
    """A standardised number through two small layers."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.inner = nn.Linear(1, CONTINUOUS_HIDDEN)
        self.outer = nn.Linear(CONTINUOUS_HIDDEN, dimension)

    def forward(self, values: Tensor) -> Tensor:
        hidden: Tensor = functional.silu(self.inner(values[:, None].to(self.inner.weight.dtype)))
        return self.outer(hidden)


def column_specs(names: list[str], columns: Columns, table: pd.DataFrame) -> list[ConditionColumn]:
    """Return what the encoder must know of each column: levels as declared (or found), mean and sd of `table`.

    columns: {name: {kind, levels?}} of the data sets. Raises SynthGainError for an unknown column.
    """
    specs: list[ConditionColumn] = []
    for name in names:
        if name not in columns:
            raise SynthGainError(f"condition_on: no column {name!r}; the data has {', '.join(columns) or 'none'}")
        kind = columns[name]["kind"]
        spec: ConditionColumn = {"name": name, "kind": kind}
        known = table[name].dropna()
        if kind == "category":
            spec["levels"] = [str(level) for level in columns[name].get("levels") or sorted(known.astype(str).unique())]
        elif kind == "continuous":
            spec["mean"] = float(known.mean()) if len(known) else 0.0
            spread = float(known.std(ddof=0)) if len(known) else 0.0
            spec["sd"] = spread if spread > 0 else 1.0
        elif kind != "binary":
            raise SynthGainError(f"condition_on: column {name!r} is {kind!r}; known: binary, category, continuous")
        specs.append(spec)
    return specs


def _meaning(column: ConditionColumn) -> tuple[str, str, tuple[str, ...]]:
    return column["name"], column["kind"], tuple(column.get("levels", ()))


def _embedding(column: ConditionColumn, dimension: int, scale: float) -> nn.Module:
    if column["kind"] == "continuous":
        return _Number(dimension)
    return _Levels(len(column.get("levels", BINARY_LEVELS)), dimension, scale)


def _column_values(column: ConditionColumn, series: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    null = series.isna().to_numpy(dtype=bool)
    values = np.zeros(len(series), dtype=np.float32)
    known = series[~null]
    if column["kind"] == "category":
        numbers = {level: number for number, level in enumerate(column["levels"])}
        found = known.astype(str).map(numbers)
        if found.isna().any():
            row = found.index[found.isna()][0]
            raise SynthGainError(
                f"condition column {column['name']!r}, row {row}: level {known[row]!r} was not known in training "
                f"(known: {', '.join(column['levels'])})"
            )
        values[~null] = found.to_numpy(dtype=np.float32)
        return values, null
    numeric = pd.to_numeric(known, errors="coerce")
    wrong = numeric.isna() if column["kind"] == "continuous" else ~numeric.isin([0, 1])
    if wrong.any():
        row = wrong.index[wrong][0]
        wanted = "a number" if column["kind"] == "continuous" else "0 or 1"
        raise SynthGainError(f"condition column {column['name']!r}, row {row}: {known[row]!r} is not {wanted}")
    values[~null] = numeric.to_numpy(dtype=np.float32)
    if column["kind"] == "continuous":
        values[~null] = (values[~null] - column["mean"]) / column["sd"]
    return values, null
