"""Balanced conditions: real rows redrawn until the marginals are met."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_sources import COLUMNS, KEYS, make_table

from synthgain.pools.conditions import replica_rows
from synthgain.pools.raking import interleaved, raked_weights, redraw_rows, target_shares
from synthgain.runtime.errors import SynthGainError

QUICK = settings(max_examples=30, deadline=None)


def balanced(table, balance, keys=KEYS):
    return replica_rows(table, COLUMNS, {"mode": "balanced", "balance": balance}, keys, "a")


@QUICK
@given(st.integers(0, 10_000), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_balanced_rows_meet_their_targets(seed, opacity, women):
    table = make_table(80, seed)
    rows = balanced(table, {"opacity": opacity, "sex": {"F": women, "M": 1 - women}})
    assert len(rows) == len(table)
    # systematic sampling: each of the four cells is within one of its expectation
    assert abs((rows["opacity"] == 1).sum() - opacity * len(rows)) <= 2
    assert abs((rows["sex"] == "F").sum() - women * len(rows)) <= 2
    assert set(rows["image_id"]) <= set(table["image_id"])


@QUICK
@given(st.integers(0, 10_000))
def test_rows_of_a_cell_are_used_equally_often(seed):
    table = make_table(60, seed)
    rows = balanced(table, {"opacity": 0.5})
    for _, cell in table.groupby("opacity"):
        uses = rows["image_id"].value_counts().reindex(cell["image_id"], fill_value=0)
        assert uses.max() - uses.min() <= 1


def test_prefixes_of_a_balanced_replica_are_balanced():
    labels = balanced(make_table(100), {"opacity": 0.5})["opacity"].to_numpy()
    assert np.abs(np.cumsum(labels) - 0.5 * np.arange(1, len(labels) + 1)).max() <= 1.0


def test_each_replica_redraws():
    table = make_table(100)
    one, two = (
        balanced(table, {"sex": {"F": 0.5, "M": 0.5}}, dataclasses.replace(KEYS, replica=replica)) for replica in (1, 2)
    )
    assert list(one["image_id"]) != list(two["image_id"])


def test_raking_keeps_the_odds_ratio():
    # Iterative proportional fitting leaves the interaction alone (Deming and Stephan 1940).
    table = make_table(400, most_images=1)
    weights = raked_weights(table, COLUMNS, target_shares(table, COLUMNS, {"opacity": 0.5, "sex": {"F": 0.7}}))

    def odds_ratio(weight):
        cell = pd.Series(weight).groupby([table["opacity"], table["sex"]]).sum()
        return cell[(1, "F")] * cell[(0, "M")] / (cell[(1, "M")] * cell[(0, "F")])

    assert weights[table["opacity"] == 1].sum() == pytest.approx(0.5)
    assert weights[table["sex"] == "F"].sum() == pytest.approx(0.7)
    assert odds_ratio(weights) == pytest.approx(odds_ratio(np.ones(len(table))), rel=1e-6)


def test_targets_that_already_hold_change_no_weight():
    table = make_table(50)
    share = float((table["opacity"] == 1).mean())
    weights = raked_weights(table, COLUMNS, target_shares(table, COLUMNS, {"opacity": share}))
    np.testing.assert_allclose(weights, 1 / len(table))


def test_rows_of_unknown_level_are_not_redrawn():
    table = make_table(50)
    table.loc[:9, "sex"] = None
    rows = balanced(table, {"sex": {"F": 0.5, "M": 0.5}})
    assert rows["sex"].notna().all()
    assert len(rows) == len(table)


def test_unnamed_levels_share_what_is_left():
    columns = {"grade": {"role": "target", "kind": "category", "levels": ["a", "b", "c"]}}
    table = pd.DataFrame({"grade": ["a"] * 6 + ["b"] * 3 + ["c"]})
    shares = target_shares(table, columns, {"grade": {"c": 0.2}})["grade"]
    assert shares == pytest.approx({"c": 0.2, "a": 0.8 * 6 / 9, "b": 0.8 * 3 / 9})


IMPOSSIBLE = [
    ({"opacty": 0.5}, "did you mean 'opacity'"),
    ({"age": 0.5}, "continuous"),
    ({"sex": 0.5}, "level"),
    ({"sex": {"F": 0.5, "X": 0.5}}, "'X'"),
    ({"sex": {"F": 0.5, "M": 0.2}}, "add up"),
    ({"opacity": 1.5}, "add up"),
    ({"opacity": -0.5}, "add up"),
    ({}, "names no column"),
]


@pytest.mark.parametrize(("balance", "word"), IMPOSSIBLE)
def test_impossible_targets_are_refused_in_one_line(balance, word):
    with pytest.raises(SynthGainError, match=word) as caught:
        balanced(make_table(40), balance)
    assert "\n" not in str(caught.value)


def test_a_class_without_rows_is_refused():
    table = make_table(40)
    table["opacity"] = np.float32(0)
    with pytest.raises(SynthGainError, match=r"balance\.opacity: no training row has level '1'"):
        balanced(table, {"opacity": 0.5})


def test_targets_that_contradict_each_other_are_refused():
    table = make_table(40)
    table["sex"] = np.where(table["opacity"] == 1, "F", "M")  # every sick row is a woman's
    with pytest.raises(SynthGainError, match="cannot be met together"):
        balanced(table, {"opacity": 0.8, "sex": {"F": 0.3, "M": 0.7}})


def test_unknown_mode_is_refused():
    with pytest.raises(SynthGainError, match=r"conditions\.mode"):
        replica_rows(make_table(5), COLUMNS, {"mode": "magic"}, KEYS, "a")


@QUICK
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=30), st.integers(1, 60), st.integers(0, 99))
def test_systematic_counts_are_within_one(weights, count, seed):
    shares = np.array(weights) / np.sum(weights)
    picked = redraw_rows(shares, np.arange(len(shares)), count, np.random.default_rng(seed))
    counts = np.bincount(picked, minlength=len(shares))
    assert counts.sum() == count
    assert np.abs(counts - shares * count).max() < 1 + 1e-9


@QUICK
@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
def test_interleaving_is_a_permutation_that_spreads(strata):
    order = interleaved(np.array(strata))
    assert sorted(order) == list(range(len(strata)))
    for stratum in set(strata):
        hits = np.array(strata)[order] == stratum
        share = hits.mean()
        assert np.abs(np.cumsum(hits) - share * np.arange(1, len(hits) + 1)).max() <= len(set(strata))
