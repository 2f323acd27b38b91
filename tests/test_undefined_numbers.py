"""Where nothing is known the result is NaN, and no library warns of it in a person's log."""

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from synthgain.evaluation.inputs import groups_of, median_cuts
from synthgain.statistics.resampling import percentile_interval

AGE = {"age": {"role": "covariate", "kind": "continuous"}}


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_an_interval_of_draws_none_of_which_is_defined_is_none() -> None:
    """As of a rehearsal, whose segmenter leaves no mask to score."""
    assert np.isnan(percentile_interval(np.full(100, np.nan), 0.95)).all()
    assert np.isnan(percentile_interval(np.empty(0), 0.95)).all()
    draws = np.append(np.arange(101.0), [np.nan] * 20)
    assert percentile_interval(draws, 0.9) == pytest.approx((5, 95))


def test_a_column_of_which_nothing_is_known_makes_no_groups() -> None:
    table = pd.DataFrame({"age": pd.Series([np.nan, np.nan], dtype="float32")})
    cuts = median_cuts(table, ["age"], AGE, "evaluation.fidelity")
    assert list(groups_of(table, ["age"], AGE, cuts)) == ["all"]
    known = table.assign(age=np.float32([40, 60]))
    cuts = median_cuts(known, ["age"], AGE, "evaluation.fidelity")
    assert [list(inside) for inside in groups_of(known, ["age"], AGE, cuts).values()] == [
        [True, True],
        [True, False],
        [False, True],
    ]
