"""The user's own synthetic images, read like a data set table."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.datasets.entries.options import JobTable
from synthgain.datasets.table import prepare
from synthgain.datasets.values import id_text
from synthgain.pools.conditions import image_ids
from synthgain.pools.shards import Drawn, ShardRequest, shard_bounds
from synthgain.runtime.errors import SynthGainError

# Columns of an imported table that say which image an image was made from, and in which replica it is.
PARENTS = ("parent_image_id", "parent_patient_id")
EXTRA = ("replica", *PARENTS)
OF_PARENT = " patient of the parent"  # no column of a table is called so


def draw(request: ShardRequest) -> Drawn:
    """Return one shard of replica k of the imported images.

    options: those of a `table` data set (patient_id may be left out), and the names of its columns
    `replica`, `parent_image_id`, `parent_patient_id` where it has such. Without `replica`, the images in
    table order are cut into replicas as large as the training part of `rows_of`, or are all replica 1
    where no `rows_of` is named. With `rows_of`, children of its validation and test images are left out (counted in the
    manifest) and a child is of its parent's patient. Raises SynthGainError for a replica that the table does not hold,
    and for a parent that `rows_of` does not have.
    """
    root = os.environ.get("SYNTHGAIN_DATA")
    given = {name: value for name, value in request.options.items() if name in JobTable.model_fields}
    extra = {name: str(request.options[name]) for name in EXTRA if request.options.get(name)}
    options = {"patient_id": None, **given, "keep": list(extra.values())}
    prepared = prepare(options, request.image, request.keys.study, Path(root) if root else None, request.threads)
    table, kept = prepared.table, np.arange(len(prepared.table))
    if request.source is not None and "parent_image_id" in extra:
        table, kept = _of_training(table, extra, request)
    number = None if "replica" not in extra else table[extra["replica"]]
    numbers = replica_numbers(len(table), number, None if request.training is None else len(request.training))
    chosen = np.flatnonzero(numbers == request.keys.replica)
    if len(chosen) == 0:
        raise SynthGainError(
            f"pools.{request.keys.pool}: holds {len(table)} images, none of them of replica "
            f"{request.keys.replica}; lower the arms' ratios or import more images"
        )
    start, stop = shard_bounds(len(chosen), request.shard, request.shards)
    drawn = _synthetic_table(table.iloc[chosen].reset_index(drop=True), list(prepared.columns), extra, request)
    inside = kept[chosen[start:stop]]
    masks = None if prepared.masks is None else prepared.masks[inside]
    facts: dict[str, object] = {"imported": prepared.facts, "quarantined": len(prepared.quarantine)}
    facts |= {"imported_images": len(table), "of_other_parts": len(prepared.table) - len(table)}
    return Drawn(prepared.images[inside], drawn.iloc[start:stop], prepared.columns, masks, prepared.mask_names, facts)


def _of_training(table: pd.DataFrame, extra: dict[str, str], request: ShardRequest) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the rows whose parent is a training image or unknown, with the parents' patients, and their places."""
    source, training = request.rows_of()
    parents = table[extra["parent_image_id"]].astype("str").map(id_text)
    patients = source.table.assign(image_id=source.table["image_id"].astype(str)).set_index("image_id")["patient_id"]
    missing = (parents != "") & ~parents.isin(patients.index)
    if missing.any():
        row = int(missing.to_numpy().argmax())
        raise SynthGainError(
            f"pools.{request.keys.pool}: image {table['image_id'].iloc[row]!r} names the parent {parents.iloc[row]!r}, "
            f"which {request.dataset!r} does not have ({int(missing.sum())} of {len(table)} images do so); name its "
            "image_id, or leave the cell empty"
        )
    inside = ((parents == "") | parents.isin(training["image_id"].astype(str))).to_numpy()
    if "parent_patient_id" not in extra:
        extra["parent_patient_id"] = OF_PARENT
        table = table.assign(**{OF_PARENT: parents.map(patients).fillna("")})
    return table[inside].reset_index(drop=True), np.flatnonzero(inside)


def replica_numbers(count: int, given: pd.Series | None, block: int | None) -> np.ndarray:
    """Return each image's replica (count,) int64, from 1: as `given` (text), else by blocks in table order."""
    if given is None:
        return np.arange(count, dtype=np.int64) // max(block or count, 1) + 1
    numbers = pd.to_numeric(given, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~((numbers >= 1) & (numbers % 1 == 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise SynthGainError(f"imported table, row {row}: replica must be 1, 2 …, got {given.iloc[row]!r}")
    return numbers.astype(np.int64)


def _synthetic_table(
    table: pd.DataFrame, columns: list[str], extra: Mapping[str, str], request: ShardRequest
) -> pd.DataFrame:
    ids = image_ids(len(table), request.keys, request.pool_identity)
    masks = [name for name in table.columns if name.startswith("has_mask_")]
    unknown = pd.Series([None] * len(table), dtype="str")
    parents = {
        name: table[extra[name]].astype("str").map(id_text).replace("", None) if name in extra else unknown
        for name in PARENTS
    }
    # Without a known parent each image counts as a patient of its own.
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
