"""The user's own synthetic images, read like a data set table."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.errors import SynthGainError
from synthgain.pools.conditions import image_ids
from synthgain.pools.shards import Drawn, ShardRequest, shard_bounds

PARENTS = ("parent_image_id", "parent_patient_id")


def draw(request: ShardRequest) -> Drawn:
    """Return one shard of replica k of the imported images.

    options: those of a `table` data set. Where its table has a column `replica` (1, 2 …), that decides;
    else the images in table order are cut into replicas as large as the training part of `rows_of`, or
    are all replica 1 where no `rows_of` is named. Raises SynthGainError for a replica that it does not hold.
    """
    from synthgain.datasets.table import prepare

    root = os.environ.get("SYNTHGAIN_DATA")
    prepared = prepare(dict(request.options), dict(request.image), request.keys.study, Path(root) if root else None)
    chosen = np.flatnonzero(replica_numbers(prepared.table, request.training) == request.keys.replica)
    if len(chosen) == 0:
        raise SynthGainError(
            f"pools.{request.keys.pool}: holds {len(prepared.table)} images, none of them of replica "
            f"{request.keys.replica}; lower the arms' ratios or import more images"
        )
    start, stop = shard_bounds(len(chosen), request.shard, request.shards)
    columns = {name: spec for name, spec in prepared.columns.items() if name not in (*PARENTS, "replica")}
    table = _synthetic_table(prepared.table.iloc[chosen].reset_index(drop=True), list(columns), request)
    inside = chosen[start:stop]
    masks = None if prepared.masks is None else prepared.masks[inside]
    facts = {"imported": prepared.facts, "quarantined": len(prepared.quarantine)}
    table = table.iloc[start:stop]
    return Drawn(prepared.images[inside], table, columns, masks, prepared.mask_names, facts)


def replica_numbers(table: pd.DataFrame, training: pd.DataFrame | None) -> np.ndarray:
    """Return each image's replica (int64, from 1)."""
    if "replica" in table.columns:
        numbers = pd.to_numeric(table["replica"], errors="coerce")
        if numbers.isna().any() or (numbers < 1).any() or (numbers % 1 != 0).any():
            row = int((numbers.isna() | ~(numbers >= 1) | (numbers % 1 != 0)).to_numpy().argmax())
            raise SynthGainError(
                f"imported table, row {row}: replica must be 1, 2 …, got {table['replica'].iloc[row]!r}"
            )
        return numbers.to_numpy(dtype=np.int64)
    block = len(table) if training is None else len(training)
    return np.arange(len(table), dtype=np.int64) // max(block, 1) + 1


def _synthetic_table(table: pd.DataFrame, columns: list[str], request: ShardRequest) -> pd.DataFrame:
    ids = image_ids(len(table), request.keys, request.pool_identity)
    masks = [name for name in table.columns if name.startswith("has_mask_")]
    unknown = pd.Series([None] * len(table), dtype="str")
    parents = {name: table[name].astype("str") if name in table.columns else unknown for name in PARENTS}
    # Without a known parent each image stands for a patient of its own.
    patients = parents["parent_patient_id"].fillna(pd.Series(ids, dtype="str"))
    return pd.DataFrame(
        {
            "image_id": ids,
            "patient_id": patients,
            "site": table["site"],
            "origin": "synthetic",
            **{name: table[name] for name in columns},
            **{name: table[name] for name in masks},
            "replica": np.int64(request.keys.replica),
            **parents,
            "seed": pd.Series([None] * len(table), dtype="Int64"),
            "source_image_id": table["image_id"],
        }
    )
