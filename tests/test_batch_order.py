"""Laws of the batch order: shared relative order, whole passes, shares."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.data.batch_order import Phase, Stream, copy_keys, mix, row_keys


def keys_of(ids: list[str], copy: int = 0, seed: int = 7) -> np.ndarray:
    return copy_keys(row_keys(ids), np.full(len(ids), copy), seed)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 5), st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=60)
def test_common_rows_keep_their_relative_order(own: int, more: int, number: int, seed: int) -> None:
    ids = [f"i{i}" for i in range(own + more)]
    keys = keys_of(ids, seed=seed)
    small = Stream(np.arange(own), keys[:own]).pass_rows(number)
    large = Stream(np.arange(own + more), keys).pass_rows(number)
    assert [row for row in large if row < own] == list(small)


@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 200))
@settings(deadline=None, max_examples=60)
def test_stream_is_stateless_and_every_pass_is_whole(count: int, batch: int, start: int) -> None:
    keys = keys_of([str(i) for i in range(count)])
    whole = Stream(np.arange(count), keys).take(0, start + batch)
    assert np.array_equal(Stream(np.arange(count), keys).take(start, batch), whole[start:])
    for number in range((start + batch) // count):
        assert sorted(whole[number * count : (number + 1) * count]) == list(range(count))


def test_passes_copies_and_seeds_have_orders_of_their_own() -> None:
    ids = [str(i) for i in range(50)]
    stream = Stream(np.arange(50), keys_of(ids))
    orders = [tuple(stream.pass_rows(0)), tuple(stream.pass_rows(1))]
    orders += [tuple(Stream(np.arange(50), keys_of(ids, copy=1)).pass_rows(0))]
    orders += [tuple(Stream(np.arange(50), keys_of(ids, seed=8)).pass_rows(0))]
    assert len(set(orders)) == 4


def test_mix_is_splitmix64() -> None:
    # First output of SplitMix64 from state 0, as in the generator's published test vectors.
    assert int(mix(np.array([0], dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF


@given(st.floats(0.0, 1.0), st.integers(1, 33), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_fixed_share_holds_at_every_step(share: float, batch: int, steps: int) -> None:
    keys = keys_of([str(i) for i in range(30)])
    main, second = Stream(np.arange(10), keys[:10]), Stream(np.arange(10, 30), keys[10:])
    phase = Phase(steps, main, second, share)
    drawn = [phase.batch(step, batch) for step in range(steps)]
    assert {len(rows) for rows in drawn} == {batch}
    for step in range(1, steps + 1):
        added = sum(int((rows >= 10).sum()) for rows in drawn[:step])
        assert abs(added - step * batch * share) <= 0.5 + 1e-6


def test_oversampling_draws_rows_at_their_rates() -> None:
    rates = np.array([0.5] * 40 + [3.0] * 8)
    stream = Stream(np.arange(48), keys_of([str(i) for i in range(48)]), rates)
    counts = np.bincount(stream.take(0, 48 * 200), minlength=48) / 200
    expected = rates / rates.mean()
    assert counts == pytest.approx(expected, abs=0.15)
    once = np.bincount(stream.pass_rows(3), minlength=48)
    assert ((once >= np.floor(expected)) & (once <= np.ceil(expected))).all()
    assert (np.diff(stream.pass_rows(3)) == 0).mean() < 0.2  # copies of a row do not stand side by side


def test_empty_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Stream(np.arange(0), np.zeros(0, np.uint64))
