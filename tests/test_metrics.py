"""Metrics against scikit-learn, and what is undefined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from synthgain import metrics

LEVELS = st.integers(0, 20).map(lambda value: value / 20)  # few levels: ties occur


@given(st.integers(2, 60).flatmap(lambda n: st.tuples(hnp.arrays(float, n, elements=LEVELS), st.integers(0, 2**31))))
def test_agree_with_scikit_learn(drawn):
    score, seed = drawn
    truth = np.random.default_rng(seed).integers(0, 2, len(score)).astype(float)
    truth[:2] = 0, 1
    called = score >= 0.5
    assert metrics.auroc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score))
    assert metrics.average_precision(truth, score) == pytest.approx(sk.average_precision_score(truth, score))
    assert metrics.f1(truth, called) == pytest.approx(sk.f1_score(truth, called, zero_division=0))
    assert metrics.sensitivity(truth, called) == pytest.approx(sk.recall_score(truth, called))
    assert metrics.specificity(truth, called) == pytest.approx(sk.recall_score(1 - truth, ~called))
    assert metrics.accuracy(truth, called) == pytest.approx(sk.accuracy_score(truth, called))
    assert metrics.balanced_accuracy(truth, called) == pytest.approx(sk.balanced_accuracy_score(truth, called))
    assert metrics.brier(truth, score) == pytest.approx(sk.brier_score_loss(truth, score))


def test_weighted_average_precision_agrees_with_sample_weights():
    random = np.random.default_rng(0)
    truth, score = (random.random(50) < 0.3).astype(float), np.round(random.random(50), 1)
    weights = random.integers(0, 4, (5, 50)).astype(float)
    found = metrics.weighted_average_precision(truth, score, weights)
    expected = [sk.average_precision_score(truth, score, sample_weight=row) for row in weights]
    np.testing.assert_allclose(found, expected)


@given(hnp.arrays(float, 30, elements=st.floats(-5, 5)))
def test_auroc_is_invariant_and_antisymmetric(score):
    truth = (np.arange(30) % 3 == 0).astype(float)
    value = metrics.auroc(truth, score)
    assert metrics.auroc(truth, 4 * score) == pytest.approx(value)  # a power of two keeps ties
    assert metrics.auroc(1 - truth, score) == pytest.approx(1 - value)


def test_macro_is_one_versus_rest():
    random = np.random.default_rng(1)
    level = random.integers(0, 3, 80)
    score = random.dirichlet(np.ones(3), 80)
    expected = sk.roc_auc_score(level, score, multi_class="ovr", average="macro")
    assert metrics.macro_auroc(np.eye(3)[level], score) == pytest.approx(expected)


def test_undefined_is_nan_and_unknown_truth_is_left_out():
    assert np.isnan(metrics.auroc(np.ones(4), np.arange(4.0)))
    assert np.isnan(metrics.average_precision(np.zeros(4), np.arange(4.0)))
    assert np.isnan(metrics.brier(np.full(3, np.nan), np.zeros(3)))
    assert np.isnan(metrics.sensitivity(np.zeros(3), np.ones(3)))
    truth = np.array([1, 0, np.nan, 1, 0])
    score = np.array([0.9, 0.2, 0.99, 0.4, 0.5])
    kept = [0, 1, 3, 4]
    assert metrics.auroc(truth, score) == pytest.approx(sk.roc_auc_score(truth[kept], score[kept]))


def test_masks():
    first, second = np.zeros((8, 8)), np.zeros((8, 8))
    first[:4], second[2:6] = 1, 1
    assert metrics.dice(first, second) == pytest.approx(0.5)
    assert metrics.iou(first, second) == pytest.approx(1 / 3)
    assert metrics.dice(first, np.zeros((8, 8))) == 0
    assert np.isnan(metrics.dice(np.zeros((8, 8)), np.zeros((8, 8))))
