"""Adjusted p-values: hand values, pingouin and statsmodels."""

import gc
from collections.abc import Iterator

import numpy as np
import pingouin
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from synthgain.statistics.multiplicity import adjust


def test_holm_by_hand():
    """Method test 6: sorted .01 .02 .03 .04 → 4·.01, 3·.02, max(.06, 2·.03), max(.06, .04)."""
    found = adjust(np.array([0.04, 0.01, 0.03, 0.02]), "holm")
    np.testing.assert_allclose(found, [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(found, pingouin.multicomp([0.04, 0.01, 0.03, 0.02], method="holm")[1])


@pytest.fixture(scope="module")
def _no_collection_at_each_call() -> Iterator[None]:
    """statsmodels' Holm collects garbage at each call: over all that a test run has loaded, most of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)
        yield


@pytest.mark.usefixtures("_no_collection_at_each_call")
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=20))
def test_agrees_with_statsmodels_and_orders(p_values):
    p = np.array(p_values)
    for ours, theirs in (("holm", "holm"), ("bonferroni", "bonferroni"), ("benjamini_hochberg", "fdr_bh")):
        np.testing.assert_allclose(adjust(p, ours), multipletests(p, method=theirs)[1], rtol=1e-9)
    assert (adjust(p, "holm") <= adjust(p, "bonferroni") + 1e-12).all()
    assert (adjust(p, "benjamini_hochberg") >= p - 1e-12).all()


def test_undefined_p_is_not_counted():
    found = adjust(np.array([0.01, np.nan, 0.04]), "bonferroni")
    np.testing.assert_allclose(found, [0.02, np.nan, 0.08])
    assert np.isnan(adjust(np.array([np.nan]), "holm")).all()


def test_unknown_method():
    with pytest.raises(ValueError, match="method must be one of"):
        adjust(np.array([0.1]), "tukey")
