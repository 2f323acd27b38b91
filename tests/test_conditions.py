"""Which rows a replica copies: every training row once, or redrawn until the marginals are met."""

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_sources import COLUMNS, KEYS, make_table

from synthgain.data.order import training_order
from synthgain.pools.conditions import (
    replica_rows,
    sample_seeds,
    shuffled_targets,
    synthetic_table,
    without_level,
)
from synthgain.pools.raking import level_names
from synthgain.pools.shards import co_occurrence, label_counts, shard_bounds
from synthgain.runtime.errors import SynthGainError

QUICK = settings(max_examples=30, deadline=None)


def other(**changes):
    return dataclasses.replace(KEYS, **changes)


def balanced(table, balance, keys=KEYS):
    return replica_rows(table, COLUMNS, {"mode": "balanced", "balance": balance}, keys, "a")


@QUICK
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_a_replica_copies_every_training_row_once_in_the_same_order(seed, patients):
    table = make_table(patients, seed)
    first, second = (replica_rows(table, COLUMNS, {}, other(replica=replica), "a") for replica in (1, 2))
    assert sorted(first["image_id"]) == sorted(table["image_id"])
    assert (first["copy"] == 0).all()
    pd.testing.assert_frame_equal(first, second)
    # whole patients: each one's rows stand together
    patients_in_order = first["patient_id"].to_numpy()
    assert (patients_in_order[1:] != patients_in_order[:-1]).sum() + 1 == table["patient_id"].nunique()


@QUICK
@given(st.integers(0, 10_000), st.integers(0, 1_000))
def test_order_depends_on_ids_not_on_row_order(seed, shuffle):
    table = make_table(20, seed)
    mixed = table.sample(frac=1, random_state=shuffle).reset_index(drop=True)
    one, two = (replica_rows(rows, COLUMNS, {}, KEYS, "a")["patient_id"].drop_duplicates() for rows in (table, mixed))
    assert list(one) == list(two)


def test_label_marginals_of_a_whole_replica_are_those_of_the_training_rows():
    table = make_table(50)
    rows = replica_rows(table, COLUMNS, {}, KEYS, "a")
    assert label_counts(rows, COLUMNS) == label_counts(table, COLUMNS)


@QUICK
@given(st.integers(0, 10_000), st.integers(20, 60))
def test_every_prefix_is_about_stratified(seed, patients):
    table = make_table(patients, seed, most_images=1)
    labels = replica_rows(table, COLUMNS, {}, KEYS, "a")["opacity"].to_numpy()
    expected = table["opacity"].mean() * np.arange(1, len(labels) + 1)
    assert np.abs(np.cumsum(labels) - expected).max() <= 1.0


def test_pools_share_the_order_of_the_training_rows():
    table = make_table(40)
    first = replica_rows(table, COLUMNS, {}, KEYS, "a")["image_id"]
    assert list(first) == list(replica_rows(table, COLUMNS, {}, other(pool="second"), "a")["image_id"])
    assert list(first) == list(table["image_id"].iloc[training_order(table, COLUMNS, KEYS.study, "a")])


# Seeds


def test_seeds_depend_on_pool_replica_and_row_only():
    table = make_table(30)
    rows = replica_rows(table, COLUMNS, {}, KEYS, "a")
    seeds = pd.Series(sample_seeds(rows, KEYS), index=rows["image_id"])
    mixed = rows.sample(frac=1, random_state=1)
    again = pd.Series(sample_seeds(mixed, KEYS), index=mixed["image_id"])
    assert (seeds.sort_index() == again.sort_index()).all()
    part = rows.iloc[5:9]
    assert list(sample_seeds(part, KEYS)) == list(seeds.iloc[5:9])


def test_seeds_never_meet():
    table = make_table(60)
    rows = replica_rows(table, COLUMNS, {}, KEYS, "a")
    keys = [KEYS, other(replica=2), other(index=1), other(study=1), other(pool="p")]
    seeds = np.concatenate([sample_seeds(rows, key) for key in keys])
    assert len(np.unique(seeds)) == len(seeds)
    assert seeds.dtype == np.int64
    assert (seeds >= 0).all()
    twice = balanced(table, {"opacity": 0.9})
    assert (twice["copy"] > 0).any()
    assert len(np.unique(sample_seeds(twice, KEYS))) == len(twice)


# Shuffled and dropped


@QUICK
@given(st.integers(0, 10_000))
def test_shuffling_permutes_targets_only(seed):
    table = synthetic_table(replica_rows(make_table(40, seed), COLUMNS, {}, KEYS, "a"), COLUMNS, {}, KEYS, "abc")
    mixed = shuffled_targets(table, COLUMNS, KEYS)
    assert sorted(mixed["opacity"]) == sorted(table["opacity"])
    pd.testing.assert_frame_equal(mixed.drop(columns="opacity"), table.drop(columns="opacity"))


def test_shuffling_differs_by_replica_and_breaks_the_link():
    table = synthetic_table(replica_rows(make_table(300), COLUMNS, {}, KEYS, "a"), COLUMNS, {}, KEYS, "abc")
    one, two = (shuffled_targets(table, COLUMNS, other(replica=replica))["opacity"] for replica in (1, 2))
    assert list(one) != list(two)
    assert abs(np.corrcoef(one, table["opacity"])[0, 1]) < 0.2


def test_a_dropped_level_never_appears_and_labels_stay():
    table = make_table(60)
    rows = without_level(table, COLUMNS, {"sex": "F"}, KEYS)
    assert (rows["sex"] == "M").all()
    assert list(rows["opacity"]) == list(table["opacity"])
    kept = (table["sex"] == "M").to_numpy()
    assert list(rows.loc[kept, "image_id"]) == list(table.loc[kept, "image_id"])


@pytest.mark.parametrize(("drop", "word"), [({"age": 3}, "age"), ({"sex": "X"}, "'X'"), ({"colour": "red"}, "colour")])
def test_dropping_what_is_not_there_is_refused(drop, word):
    with pytest.raises(SynthGainError, match=word):
        without_level(make_table(20), COLUMNS, drop, KEYS)


def test_dropping_everything_is_refused():
    with pytest.raises(SynthGainError, match="no row"):
        without_level(make_table(20).assign(sex="F"), COLUMNS, {"sex": "F"}, KEYS)


# Tables and shards


def test_table_of_a_replica():
    source = make_table(20)
    rows = replica_rows(source, COLUMNS, {}, KEYS, "a")
    table = synthetic_table(rows, COLUMNS, {}, KEYS, "0123456789abcdef")
    assert table["image_id"].iloc[3] == "drawn-0123456789-r1-000003"
    assert table["image_id"].is_unique
    assert list(table["parent_image_id"]) == list(rows["image_id"])
    assert list(table["patient_id"]) == list(table["parent_patient_id"])
    assert (table["origin"] == "synthetic").all()
    assert table["seed"].dtype == np.int64
    assert table["replica"].dtype == np.int64
    assert table["opacity"].dtype == np.float32


@QUICK
@given(st.integers(0, 300), st.integers(1, 12), st.integers(1, 40))
def test_shards_cover_every_row_once_at_multiples_of_the_unit(count, shards, unit):
    bounds = [shard_bounds(count, shard, shards, unit) for shard in range(shards)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == count
    assert all(one[1] == two[0] for one, two in pairwise(bounds))
    assert all(start % unit == 0 or start == count for start, _ in bounds)


def test_counts_and_co_occurrence():
    table = pd.DataFrame({"opacity": [1.0, 0.0, np.nan], "sex": ["F", "F", None], "age": [1.0, 2.0, 3.0]})
    assert label_counts(table, COLUMNS) == {"opacity": {"0": 1, "1": 1, "unknown": 1}, "sex": {"F": 2, "unknown": 1}}
    together = co_occurrence(table, COLUMNS)
    assert together["opacity=1"] == {"sex=F": 1}
    assert together["sex=F"] == {"opacity=0": 1, "opacity=1": 1}


def test_level_names_are_text():
    assert list(level_names(pd.Series([1.0, 0.0, np.nan]), "binary")) == ["1", "0", None]
    assert list(level_names(pd.Series(["F", None], dtype="str"), "category")) == ["F", None]
