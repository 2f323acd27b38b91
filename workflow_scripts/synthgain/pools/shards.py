"""One shard of a replica: what a pool module is given, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns, ImageSet
from synthgain.data.options import Prompt
from synthgain.data.prompts import relabelled, texts_of
from synthgain.datasets.geometry import Geometry
from synthgain.pools.conditions import PoolKeys, replica_rows, synthetic_table
from synthgain.pools.options import Inpainting, PlannedMasks, PlannedStyling, Sampling
from synthgain.pools.raking import level_names
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.inputs import Inputs

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ShardRequest:
    """Everything that a pool module may look at to draw its shard.

    dataset, source, training: name and ImageSet of `rows_of`, its training rows (None where no rows are copied);
    options: the module's own part of the slice; masks, inpainting: those of a pool of pairs (None: not asked for).
    prompt: how rows become texts, for a generator that is told of one.
    pool_identity: the pool's identity without its shard layout, part of every image_id.
    inputs: what earlier jobs made, by the names in the rule file.
    state: folder for finished batches, guarded by `identity`.
    """

    keys: PoolKeys
    shard: int
    shards: int
    options: Mapping[str, Any]
    conditions: Mapping[str, object]
    sampling: Sampling
    image: Geometry
    dataset: str | None
    source: ImageSet | None
    training: pd.DataFrame | None
    pool_identity: str
    identity: str
    state: Path
    inputs: Inputs
    threads: int = 1
    prompt: Prompt | None = None
    masks: PlannedMasks | None = None
    inpainting: Inpainting | None = None
    styling: PlannedStyling | None = None

    def rows(self) -> pd.DataFrame:
        """Return the conditions of the whole replica, in the pool's order, with their prompts if it has any."""
        source, training = self.rows_of()
        rows = replica_rows(training, source.columns, self.conditions, self.keys, self.dataset or "")
        if self.prompt is None:
            return rows
        return relabelled(rows, texts_of(rows, source.columns, self.prompt, self.keys.replica), self.prompt)

    def rows_of(self) -> tuple[ImageSet, pd.DataFrame]:
        """Return the source and its training rows; SynthGainError where the pool names no `rows_of`."""
        if self.source is None or self.training is None:
            raise SynthGainError(f"pools.{self.keys.pool}.rows_of: missing; name the data set whose rows are copied")
        return self.source, self.training

    def table_of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the table of the whole replica drawn under these condition rows."""
        source, _ = self.rows_of()
        return synthetic_table(rows, source.columns, self.conditions, self.keys, self.pool_identity)


@dataclass(frozen=True)
class Drawn:
    """A shard in memory: images (N, H, W, C) uint8, its table rows, masks (N, H, W, K) uint8 or None.

    columns: {name: {role, kind, levels?}} of the table; facts: JSON values for the shard's manifest.
    """

    images: np.ndarray
    table: pd.DataFrame
    columns: Columns
    masks: np.ndarray | None = None
    mask_names: list[str] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


def positions_of(source: ImageSet, image_ids: pd.Series) -> np.ndarray:
    """Return the positions (int64) of these image_ids in the source."""
    positions = pd.Series(np.arange(len(source)), index=source.table["image_id"].astype(str))
    return positions.loc[image_ids.astype(str)].to_numpy()


def shard_bounds(count: int, shard: int, shards: int, unit: int = 1) -> tuple[int, int]:
    """Return first and last + 1 row of shard 0 … shards-1 of `count` rows, cut at multiples of `unit`.

    Cut at whole batches, every batch holds the same rows in the same places for any number of shards.
    """
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} of {shards} does not exist")
    blocks = -(-count // unit)
    return min(count, shard * blocks // shards * unit), min(count, (shard + 1) * blocks // shards * unit)


def label_counts(table: pd.DataFrame, columns: Columns) -> dict[str, dict[str, int]]:
    """Return {column: {level: count}} of targets and covariates that have levels; unknown counts as "unknown"."""
    counts: dict[str, dict[str, int]] = {}
    for name, spec in columns.items():
        if spec["kind"] != "continuous":
            levels = pd.Series(_texts(table, columns, name), dtype=object).value_counts()
            counts[name] = {str(level): int(count) for level, count in sorted(levels.items())}
    return counts


def co_occurrence(table: pd.DataFrame, columns: Columns) -> dict[str, dict[str, int]]:
    """Return {"a=x": {"b=y": rows with both}} over levels of different columns (without unknown ones)."""
    members: dict[str, tuple[str, np.ndarray]] = {}
    for name, spec in columns.items():
        if spec["kind"] != "continuous":
            texts = _texts(table, columns, name)
            levels = sorted({text for text in texts if text != UNKNOWN})
            members |= {f"{name}={level}": (name, texts == level) for level in levels}
    return {
        first: {
            second: int((hit & other).sum()) for second, (column, other) in members.items() if column != first_column
        }
        for first, (first_column, hit) in members.items()
    }


def _texts(table: pd.DataFrame, columns: Columns, name: str) -> np.ndarray:
    texts = level_names(table[name], columns[name]["kind"])
    return np.array([UNKNOWN if text is None else text for text in texts], dtype=object)
