"""Laws of the condition encoder: nulls, independence of columns, bad values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.generators.condition_encoder import ConditionEncoder, column_specs
from synthgain.runtime.errors import SynthGainError

SPECS = [
    {"name": "finding", "kind": "binary"},
    {"name": "view", "kind": "category", "levels": ["AP", "PA", "lateral"]},
    {"name": "age", "kind": "continuous", "mean": 50.0, "sd": 20.0},
]
DIMENSION = 16

findings = st.sampled_from([0.0, 1.0, np.nan])
views = st.sampled_from(["AP", "PA", "lateral", None])
ages = st.one_of(st.floats(0, 110), st.just(np.nan))
rows = st.tuples(findings, views, ages)


@pytest.fixture(scope="module")
def encoder() -> ConditionEncoder:
    torch.manual_seed(0)
    return ConditionEncoder(SPECS, DIMENSION).eval()


def table_of(values: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=["finding", "view", "age"])


def encode(encoder: ConditionEncoder, table: pd.DataFrame) -> torch.Tensor:
    values, null = encoder.encode_table(table)
    with torch.no_grad():
        return encoder(torch.from_numpy(values), torch.from_numpy(null))


def test_taken_over_columns_keep_their_meaning(encoder: ConditionEncoder) -> None:
    """Columns are matched by what they are, not by their place: order and other columns may differ."""
    other = {"name": "other", "kind": "binary"}
    fresh = ConditionEncoder(
        [SPECS[2], other, {**SPECS[1], "kind": "category", "levels": ["X", "Y"]}, SPECS[0]], DIMENSION
    )
    before = fresh.null[1].clone()
    assert fresh.take_over(encoder) == ["age", "finding"]
    assert torch.equal(fresh.null[3], encoder.null[0])
    assert torch.equal(fresh.null[0], encoder.null[2])
    assert torch.equal(fresh.null[1], before)
    assert torch.equal(fresh.embeddings[3].weight, encoder.embeddings[0].weight)
    assert ConditionEncoder(SPECS, 2 * DIMENSION).take_over(encoder) == []


@given(st.lists(rows, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_missing_is_null_and_nothing_else_is(encoder: ConditionEncoder, values: list[tuple]) -> None:
    table = table_of(values)
    _, null = encoder.encode_table(table)
    assert (null == table.isna().to_numpy()).all()


@given(rows, rows)
@settings(max_examples=40, deadline=None)
def test_columns_add_up(encoder: ConditionEncoder, one: tuple, other: tuple) -> None:
    """What a column contributes does not depend on the others: swapping it gives the same change everywhere."""
    swapped_one, swapped_other = (other[0], *one[1:]), (one[0], *other[1:])
    vectors = encode(encoder, table_of([one, other, swapped_one, swapped_other]))
    torch.testing.assert_close(vectors[0] + vectors[1], vectors[2] + vectors[3], atol=1e-5, rtol=1e-5)


@given(rows, st.integers(0, 2), st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_value_under_a_null_is_ignored(encoder: ConditionEncoder, row: tuple, column: int, noise: float) -> None:
    values, null = (torch.from_numpy(array) for array in encoder.encode_table(table_of([row])))
    null[0, column] = True
    changed = values.clone()
    changed[0, column] = abs(round(noise)) % 2
    with torch.no_grad():
        assert torch.equal(encoder(values, null), encoder(changed, null))


def test_every_level_and_the_null_differ(encoder: ConditionEncoder) -> None:
    vectors = encode(encoder, table_of([(f, v, 50.0) for f in (0, 1, np.nan) for v in ("AP", "PA", "lateral", None)]))
    distances = torch.cdist(vectors, vectors) + torch.eye(len(vectors))
    assert distances.min() > 1e-3


def test_null_and_dropped_rows_train_the_null_vectors() -> None:
    encoder = ConditionEncoder(SPECS, DIMENSION)
    null = torch.tensor([[False, True, False]])
    encoder(torch.zeros(1, 3), null).sum().backward()
    assert encoder.null.grad is not None
    assert encoder.null.grad[1].abs().sum() > 0
    assert encoder.null.grad[[0, 2]].abs().sum() == 0


def test_multi_label_is_one_column_per_label() -> None:
    encoder = ConditionEncoder([{"name": name, "kind": "binary"} for name in "abc"], DIMENSION)
    table = pd.DataFrame({"a": [1, 0, 1], "b": [0, 1, 1], "c": [np.nan, 0, 1]})
    vectors = encode(encoder, table)
    assert torch.cdist(vectors, vectors)[0, 1:].min() > 1e-3


def test_unconditional_encoder_gives_one_vector_for_all() -> None:
    vectors = encode(ConditionEncoder([], DIMENSION), pd.DataFrame({"other": [1, 2]}))
    assert vectors.shape == (2, DIMENSION)
    assert torch.equal(vectors[0], vectors[1])


@pytest.mark.parametrize("specs", [SPECS, []])
def test_saved_and_loaded_is_the_same(tmp_path: Path, specs: list[dict]) -> None:
    encoder = ConditionEncoder(specs, DIMENSION).eval()
    encoder.save_pretrained(tmp_path, safe_serialization=True)
    again = ConditionEncoder.from_pretrained(tmp_path, use_safetensors=True)
    table = table_of([(1.0, "PA", 33.0), (np.nan, None, np.nan)])
    assert torch.equal(encode(encoder, table), encode(again, table))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_specs_measure_the_table() -> None:
    columns = {
        "finding": {"kind": "binary"},
        "view": {"kind": "category"},
        "age": {"kind": "continuous"},
        "weight": {"kind": "continuous"},
    }
    table = pd.DataFrame(
        {"finding": [0, 1, 1], "view": ["PA", "AP", None], "age": [40.0, 60.0, np.nan], "weight": [70.0] * 3}
    )
    specs = column_specs(list(columns), columns, table)
    assert specs[1]["levels"] == ["AP", "PA"]
    assert (specs[2]["mean"], specs[2]["sd"]) == (50.0, 10.0)
    assert specs[3]["sd"] == 1.0  # a constant column divides by one, not by zero


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((2.0, "AP", 50.0), "'finding', row 0: .*not 0 or 1"),
        ((1.0, "oblique", 50.0), "'view', row 0: level 'oblique' was not known in training"),
    ],
)
def test_bad_values_are_named(encoder: ConditionEncoder, row: tuple, message: str) -> None:
    with pytest.raises(SynthGainError, match=message):
        encoder.encode_table(table_of([row]))


def test_missing_column_and_unknown_column_are_named(encoder: ConditionEncoder) -> None:
    with pytest.raises(SynthGainError, match="condition column 'view'"):
        encoder.encode_table(pd.DataFrame({"finding": [1.0]}))
    with pytest.raises(SynthGainError, match="no column 'sx'; the data has sex"):
        column_specs(["sx"], {"sex": {"kind": "category"}}, pd.DataFrame({"sex": ["F"]}))
