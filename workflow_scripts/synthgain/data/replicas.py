"""Reads the replicas of a pool: shards stay memory-mapped."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns, ImageSet, ImageStore, read_image_set
from synthgain.runtime.files import check_file, read_manifest


@dataclass(frozen=True)
class Replicas:
    """Replicas of a pool as one.

    arrays: (n, H, W, C) uint8 of each shard, memory-mapped read-only; table: the rows of all of them in the pool's
    order; masks: (n, H, W, K) uint8 in {0, 1} of each shard, None where some have none; mask_names: the K structures;
    columns: what the table's targets and covariates hold.
    """

    arrays: list[np.ndarray]
    table: pd.DataFrame
    masks: list[np.ndarray] | None
    mask_names: list[str]
    columns: Columns

    @cached_property
    def pixels(self) -> ImageStore:
        """The images of the table's rows."""
        return ImageStore(self.arrays)

    @cached_property
    def planes(self) -> ImageStore | None:
        """The masks of the table's rows."""
        return None if self.masks is None else ImageStore(self.masks)


def read_replicas(manifests: Sequence[tuple[Path, str | None]], columns: Collection[str] | None = None) -> Replicas:
    """Open replicas {manifest, identity} as one, in the order given.

    With `columns` only those of them that the table has are kept: text columns are what a large pool costs in memory.
    Raises SynthGainError if a file is missing or damaged, or an identity is not the expected one.
    """
    shards = [shard for path, identity in manifests for shard in _shards(path, identity)]
    tables = [shard.table for shard in shards if len(shard)] or [shards[0].table]
    if columns is not None:
        tables = [table[[name for name in table.columns if name in columns]] for table in tables]
    masks = [shard.masks for shard in shards if shard.masks is not None]
    return Replicas(
        [shard.images for shard in shards],
        pd.concat(tables, ignore_index=True),
        masks if len(masks) == len(shards) else None,
        shards[0].mask_names,
        shards[0].columns,
    )


def _shards(manifest_path: Path, identity: str | None) -> list[ImageSet]:
    manifest = read_manifest(manifest_path, identity)
    folder = manifest_path.parent
    for name, listed in manifest["files"].items():
        check_file(folder, name, listed)
    return [read_image_set(folder / name, manifest["shard_identities"][name]) for name in manifest["shards"]]
