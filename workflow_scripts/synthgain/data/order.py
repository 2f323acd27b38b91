"""One fixed order of patients in which every prefix is about stratified.

Pools use it so that a partial replica keeps the label marginals, real fractions so that 25 % lies inside 50 %.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns
from synthgain.runtime.files import canonical_json


def stratified_patient_order(table: pd.DataFrame, columns: list[str], **seed_keys: str | int) -> np.ndarray:
    """Return row positions (int64, a permutation of 0 … len-1): whole patients, in a stratified order.

    Patients of equal (mode of the) `columns` form a stratum; within it they are sorted by a hash of
    `seed_keys` and patient_id, and strata are interleaved in proportion to their size. Rows of one
    patient stay together in table order. Depends on ids and columns only, not on the row order.
    """
    patients = table.groupby("patient_id", sort=True)
    if columns:
        strata = joint_levels(pd.concat([patients[name].agg(_representative) for name in columns], axis=1), columns)
    else:
        strata = pd.Series("", index=pd.Index(sorted(table["patient_id"].unique())))
    hashes = pd.Series([_hash(str(patient), seed_keys) for patient in strata.index], index=strata.index)
    ranks = hashes.groupby(strata).rank(method="first")
    position = (ranks - 0.5) / strata.map(strata.value_counts())
    ordered = pd.DataFrame({"position": position, "hash": hashes}).sort_values(["position", "hash"]).index
    rows = patients.indices
    return np.concatenate([np.sort(rows[patient]) for patient in ordered]).astype(np.int64)


def training_order(table: pd.DataFrame, columns: Columns, seed: int, dataset: str) -> np.ndarray:
    """Return the one order of a data set's rows that pools, real fractions and repeats share: row positions, int64.

    `table` holds the rows of one part (training, or validation where that is cut alike), `columns` are the
    image set's; strata are its binary and category targets. `seed` is the study seed.
    """
    strata = [n for n, spec in columns.items() if spec["role"] == "target" and spec["kind"] in ("binary", "category")]
    return stratified_patient_order(table.reset_index(drop=True), strata, study=seed, step="order", dataset=dataset)


def joint_levels(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """Return each row's values of `columns` as one text, "" for none; what is unknown is a level of its own."""
    if not columns:
        return pd.Series("", index=table.index)
    # A missing value stays missing as text.
    return table[list(columns)].astype(str).fillna("unknown").agg("|".join, axis=1)


def patient_fraction(table: pd.DataFrame, order: np.ndarray, fraction: float) -> np.ndarray:
    """Return the prefix of `order` with the first round(fraction × patients) patients (at least one).

    Prefixes of the same order are nested: 25 % of the patients lie inside 50 %.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
    ids = table["patient_id"].to_numpy()[order]
    _, first = np.unique(ids, return_index=True)
    wanted = max(1, round(fraction * len(first)))
    starts = np.sort(first)
    return order[: starts[wanted]] if wanted < len(starts) else order


def _hash(patient: str, seed_keys: dict[str, str | int]) -> int:
    text = canonical_json({**seed_keys, "patient": patient})
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])


def _representative(values: pd.Series) -> object:
    """Most frequent value; numbers of more than two kinds are cut at decades, so that ages form strata."""
    known = values.dropna()
    if known.empty:
        return None
    if pd.api.types.is_numeric_dtype(known) and not set(known.unique()) <= {0, 1}:
        return int(known.mean() // 10)
    if pd.api.types.is_numeric_dtype(known):
        return int(known.max())  # a patient with one positive image is a positive patient
    return known.mode().iloc[0]
