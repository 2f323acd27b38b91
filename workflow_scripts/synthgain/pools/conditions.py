"""Which real rows a replica copies its conditions from, in which order, and what its table says."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns
from synthgain.data.order import joint_levels, training_order
from synthgain.data.prompts import COLUMN
from synthgain.entry import checked
from synthgain.pools.options import Conditions
from synthgain.pools.raking import level_names, raked_weights, redraw_rows, target_shares
from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import integer_seed, random_generator


@dataclass(frozen=True)
class PoolKeys:
    """What the random streams of a pool's replica depend on."""

    study: int
    pool: str
    index: int
    replica: int

    def of_replica(self) -> dict[str, str | int]:
        """Named seed keys of this replica."""
        return {"study": self.study, "pool": self.pool, "index": self.index, "replica": self.replica}


def replica_rows(
    training: pd.DataFrame, columns: Columns, conditions: Mapping[str, object], keys: PoolKeys, dataset: str
) -> pd.DataFrame:
    """Return the conditions of one replica: as many rows as `training`, in the pool's order.

    Mode `rows`: every training row once, whole patients, in the stratified order of `dataset`'s training rows
    that repeats and real fractions share: the same for every replica. Mode `balanced`: rows redrawn with raked
    weights, drawn again for every replica.
    The columns are those of `training` and `copy`, the 0-based repeat index of the row within the replica.
    """
    wanted = checked(Conditions, conditions, "conditions")
    if wanted.mode == "balanced":
        positions = _balanced_positions(training, columns, wanted.balance or {}, keys)
    else:
        positions = training_order(training, columns, keys.study, dataset)
    rows = training.iloc[positions].reset_index(drop=True)
    return rows.assign(copy=rows.groupby("image_id", sort=False).cumcount().astype(np.int64))


def _balanced_positions(
    training: pd.DataFrame, columns: Columns, balance: Mapping[str, float | dict[str, float]], keys: PoolKeys
) -> np.ndarray:
    shares = target_shares(training, columns, balance)
    weights = raked_weights(training, columns, shares)
    levels = [level_names(training[name], columns[name]["kind"]).astype(str) for name in shares]
    cells = pd.Series(["|".join(cell) for cell in zip(*levels, strict=True)]).to_numpy(dtype=str)
    random = random_generator(step="pool balance", **keys.of_replica())
    return redraw_rows(weights, cells, len(training), random)


def without_level(rows: pd.DataFrame, columns: Columns, drop: Mapping[str, object], keys: PoolKeys) -> pd.DataFrame:
    """Return `rows` with each row of a dropped level replaced by a random row of another one.

    drop: {column: level}. The stand-in has the same targets where such a row exists, so that label
    marginals stay. Raises SynthGainError for an unknown column or level, or if nothing is left.
    """
    gone = np.zeros(len(rows), dtype=bool)
    for name, level in drop.items():
        if name not in columns or columns[name]["kind"] == "continuous":
            raise SynthGainError(
                f"known_options.drop.{name}: names no column with levels; columns are {', '.join(columns)}"
            )
        hit = level_names(rows[name], columns[name]["kind"]) == str(level)
        if not hit.any():
            raise SynthGainError(f"known_options.drop.{name}: no training row has level {level!r}")
        gone |= hit
    if gone.all():
        raise SynthGainError(f"known_options.drop: {dict(drop)} leaves no row to draw from")
    targets = [name for name, spec in columns.items() if spec["role"] == "target" and name not in drop]
    strata = joint_levels(rows, targets).to_numpy(dtype=str)
    random = random_generator(step="pool drop", **keys.of_replica())
    positions = np.arange(len(rows))
    for stratum in np.unique(strata[gone]):
        same = strata == stratum
        stand_ins = np.flatnonzero(~gone & same) if (~gone & same).any() else np.flatnonzero(~gone)
        places = np.flatnonzero(gone & same)
        positions[places] = random.choice(stand_ins, size=len(places))
    kept = rows.iloc[positions].reset_index(drop=True)
    return kept.assign(copy=kept.groupby("image_id", sort=False).cumcount().astype(np.int64))


def sample_seeds(rows: pd.DataFrame, keys: PoolKeys) -> np.ndarray:
    """Return one 63-bit seed per row (int64): a function of pool, replica and row (image_id, copy) only."""
    pairs = zip(rows["image_id"], rows["copy"], strict=True)
    common = keys.of_replica()
    seeds = [integer_seed(step="pool noise", row=str(image), copy=int(copy), **common) for image, copy in pairs]
    return np.array(seeds, dtype=np.int64)


def shuffled_targets(table: pd.DataFrame, columns: Columns, keys: PoolKeys) -> pd.DataFrame:
    """Return the replica's table with its target columns permuted together among the rows; images stay."""
    targets = [name for name, spec in columns.items() if spec["role"] == "target"]
    order = random_generator(step="pool shuffle", **keys.of_replica()).permutation(len(table))
    return table.assign(**{name: table[name].to_numpy()[order] for name in targets})


def synthetic_table(
    rows: pd.DataFrame, columns: Columns, conditions: Mapping[str, object], keys: PoolKeys, pool_identity: str
) -> pd.DataFrame:
    """Return the table of a whole replica, one line per condition row, without `sha256`.

    Labels and covariates are the conditions' (targets permuted if `conditions.shuffled`).
    """
    table = pd.DataFrame(
        {
            "image_id": image_ids(len(rows), keys, pool_identity),
            "patient_id": rows["patient_id"].astype(str),
            "site": rows["site"],
            "origin": "synthetic",
            **{name: rows[name] for name in columns},
            "replica": np.int64(keys.replica),
            "parent_image_id": rows["image_id"].astype(str),
            "parent_patient_id": rows["patient_id"].astype(str),
            "seed": sample_seeds(rows, keys),
            **({COLUMN: rows[COLUMN]} if COLUMN in rows else {}),
        }
    )
    return shuffled_targets(table, columns, keys) if checked(Conditions, conditions, "conditions").shuffled else table


def image_ids(count: int, keys: PoolKeys, pool_identity: str) -> list[str]:
    """Return `<pool>-<first ten digits of the pool's identity>-r<replica>-<row>` for rows 0 … count-1."""
    return [f"{keys.pool}-{pool_identity[:10]}-r{keys.replica}-{row:06d}" for row in range(count)]
