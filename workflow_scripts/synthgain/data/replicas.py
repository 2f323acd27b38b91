"""Reads the replicas of a pool: shards stay memory-mapped, only the rows asked for are copied."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.data.image_set import read_image_set
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, read_manifest

Replica = tuple[list[np.ndarray], pd.DataFrame, list[np.ndarray] | None]


def read_replica(manifest_path: Path, identity: str | None = None, columns: Collection[str] | None = None) -> Replica:
    """Open one replica: (images per shard, table of all shards in the pool's order, masks per shard or None).

    With `columns` only those of them that the table has are kept: text columns are what a large pool costs in memory.
    Images are (n, H, W, C) uint8, masks (n, H, W, K) uint8, memory-mapped read-only; use `take`.
    Raises SynthGainError if a file is missing or damaged, or the identity is not the expected one.
    """
    manifest = read_manifest(manifest_path, identity)
    folder = manifest_path.parent
    for name, listed in manifest["files"].items():
        check_file(folder, name, listed)
    shards = [read_image_set(folder / name, manifest["shard_identities"][name]) for name in manifest["shards"]]
    tables = [shard.table for shard in shards if len(shard)]
    if columns is not None:
        tables = [table[[name for name in table.columns if name in columns]] for table in tables]
    table = pd.concat(tables, ignore_index=True)
    masks = [shard.masks for shard in shards if shard.masks is not None]
    return [shard.images for shard in shards], table, masks if len(masks) == len(shards) else None


def read_replicas(
    manifests: Sequence[tuple[Path, str | None]], count: int | None = None, columns: Collection[str] | None = None
) -> Replica:
    """Open several replicas as one, in the order given, and return it with the first `count` rows of its table.

    Raises SynthGainError where they hold fewer than `count` images.
    """
    images: list[np.ndarray] = []
    tables: list[pd.DataFrame] = []
    masks: list[np.ndarray] | None = []
    for path, identity in manifests:
        parts, table, planes = read_replica(path, identity, columns)
        images += parts
        tables.append(table)
        masks = None if masks is None or planes is None else masks + planes
    table = pd.concat(tables, ignore_index=True)
    if count is not None and count > len(table):
        raise SynthGainError(
            f"{manifests[0][0].parent.parent}: {count} synthetic images asked for, {len(manifests)} replicas hold "
            f"{len(table)}; lower the ratio or raise the pool's replicas"
        )
    return images, table if count is None else table.iloc[:count], masks


def take(arrays: Sequence[np.ndarray], positions: np.ndarray) -> np.ndarray:
    """Return rows `positions` of the arrays as if they were joined along the first axis: a copy of those alone."""
    edges = np.cumsum([0, *(len(array) for array in arrays)])
    positions = np.asarray(positions, dtype=np.int64)
    if len(positions) and not (positions.min() >= 0 and positions.max() < edges[-1]):
        raise IndexError(f"positions {positions.min()} … {positions.max()} of {edges[-1]} rows")
    joined = np.empty((len(positions), *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    owner = np.searchsorted(edges, positions, side="right") - 1
    for number in np.unique(owner):
        inside = owner == number
        joined[inside] = arrays[number][positions[inside] - edges[number]]
    return joined
