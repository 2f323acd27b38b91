"""DeLong components, plain and clustered."""

import numpy as np
import pytest
from scipy.stats import bootstrap, norm
from sklearn.metrics import roc_auc_score

from synthgain.metrics import auroc_rows
from synthgain.statistics import delong, simulation
from synthgain.statistics.resampling import bootstrap_weights


def drawn(images: int, patients: int = 120, seed: int = 0) -> simulation.Scores:
    setting = simulation.Setting("d", patients=patients, images=images, effect=0.3, replicates=2)
    return simulation.simulate(setting, np.random.default_rng(seed))


def plain_delong(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """DeLong 1988 written out over all pairs: covariance matrix of the AUROCs."""
    positive, negative = scores[:, truth == 1], scores[:, truth == 0]
    wins = (positive[:, :, None] > negative[:, None, :]) + 0.5 * (positive[:, :, None] == negative[:, None, :])
    v10, v01 = wins.mean(axis=2), wins.mean(axis=1)
    return np.cov(v10) / positive.shape[1] + np.cov(v01) / negative.shape[1]


def test_one_image_per_patient_is_plain_delong():
    """Method test 5, first half."""
    scores = drawn(1)
    stacked = np.round(scores.scores.reshape(4, -1), 1)  # ties too
    parts = delong.components(scores.truth, stacked, scores.patient, 120)
    np.testing.assert_allclose(delong.covariance([parts]), plain_delong(scores.truth, stacked), rtol=1e-10)
    expected = [roc_auc_score(scores.truth, row) for row in stacked]
    np.testing.assert_allclose(parts.auroc, expected, rtol=1e-12)


def test_clustered_is_close_to_the_patient_bootstrap_and_above_plain():
    """Method test 5, second half."""
    scores = drawn(4, patients=250)
    stacked = scores.scores[:, 0]
    parts = delong.components(scores.truth, stacked, scores.patient, 250)
    clustered = delong.covariance([parts])
    weights = bootstrap_weights(250, 1500, np.random.default_rng(1)).astype(int)
    draws = []
    for row in weights:
        images = np.repeat(np.arange(len(scores.truth)), row[scores.patient])
        draws.append(auroc_rows(scores.truth[images], stacked[:, images]))
    np.testing.assert_allclose(clustered, np.cov(np.array(draws).T), rtol=0.15)
    assert clustered[0, 0] > 1.2 * plain_delong(scores.truth, stacked)[0, 0]


def test_clustered_matches_obuchowski_written_out():
    """Patients with positive and negative images: the cross term of Obuchowski 1997 counts."""
    random = np.random.default_rng(5)
    patient = np.repeat(np.arange(40), 3)
    truth = (random.random(120) < 0.4).astype(float)
    score = truth + random.normal(size=40)[patient] + random.normal(size=120)
    positive, negative = truth == 1, truth == 0
    wins = (score[positive][:, None] > score[negative][None, :]).astype(float)
    area, m, n = wins.mean(), positive.sum(), negative.sum()
    ten = np.array([(wins.mean(axis=1) - area)[patient[positive] == p].sum() for p in range(40)])
    one = np.array([(wins.mean(axis=0) - area)[patient[negative] == p].sum() for p in range(40)])
    first, second = len(np.unique(patient[positive])), len(np.unique(patient[negative]))
    s10 = first / ((first - 1) * m) * (ten**2).sum()
    s01 = second / ((second - 1) * n) * (one**2).sum()
    s11 = 40 / 39 * (ten * one).sum()
    expected = s10 / m + s01 / n + 2 * s11 / (m * n)
    parts = delong.components(truth, score[None], patient, 40)
    assert delong.covariance([parts])[0, 0] == pytest.approx(expected, rel=1e-10)


def test_macro_uses_the_covariance_between_labels():
    scores = drawn(2)
    one = delong.components(scores.truth, scores.scores[:, 0], scores.patient, 120)
    # the same label twice is no second piece of evidence
    np.testing.assert_allclose(delong.covariance([one, one]), delong.covariance([one]), rtol=1e-12)
    other = delong.components(scores.truth, -scores.scores[:, 0], scores.patient, 120)
    np.testing.assert_allclose(delong.covariance([one, other]), 0, atol=1e-15)


def test_unknown_truth_is_left_out():
    scores = drawn(2)
    truth = scores.truth.copy()
    truth[:30] = np.nan
    kept = ~np.isnan(truth)
    whole = delong.components(truth, scores.scores[:, 0], scores.patient, 120)
    np.testing.assert_allclose(whole.auroc, auroc_rows(truth[kept], scores.scores[:, 0, kept]))


def test_the_test_of_two_models_agrees_with_scipys_bootstrap():
    scores = drawn(1, patients=150, seed=2)
    first, second = scores.scores[0, 0], scores.scores[1, 0]
    difference, p = delong.delong_test(first, second, scores.truth, scores.patient)

    def statistic(index):
        truth = scores.truth[index]
        return auroc_rows(truth, first[index][None])[0] - auroc_rows(truth, second[index][None])[0]

    sampled = bootstrap((np.arange(150),), statistic, vectorized=False, n_resamples=800, rng=4, method="percentile")
    assert difference == pytest.approx(statistic(np.arange(150)))
    assert p == pytest.approx(2 * norm.sf(abs(difference) / sampled.standard_error), abs=0.05)
    assert delong.delong_test(first, first, scores.truth, scores.patient) == (0.0, 1.0)


def test_exact_bootstrap_is_resampling_of_images_by_patient():
    scores = drawn(3, patients=60)
    weights = bootstrap_weights(60, 20, np.random.default_rng(0))
    found = delong.bootstrap_auroc(scores.truth, scores.scores[0], scores.patient, weights)
    for value, row in zip(found, weights.astype(int), strict=True):
        images = np.repeat(np.arange(len(scores.truth)), row[scores.patient])
        expected = auroc_rows(scores.truth[images], scores.scores[0][:, images]).mean()
        assert value == pytest.approx(expected)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        delong.components(np.ones(5), np.zeros((1, 5)), np.arange(5), 5)


def test_the_bootstrap_counts_every_pair_with_ties_and_unknown_images():
    """Running sums over sorted scores give what all pairs give; blocks of resamples change nothing."""
    random = np.random.default_rng(2)
    truth = np.r_[np.ones(20), np.zeros(30), np.full(5, np.nan)]
    scores = random.integers(0, 6, (3, 55)) / 6.0
    patient = random.integers(0, 25, 55)
    weights = random.multinomial(25, np.full(25, 1 / 25), size=40).astype(float)
    found = delong.bootstrap_auroc(truth, scores, patient, weights)
    wins = np.mean([(s[:20, None] > s[None, 20:50]) + 0.5 * (s[:20, None] == s[None, 20:50]) for s in scores], axis=0)
    first, second = weights[:, patient[:20]], weights[:, patient[20:50]]
    expected = ((first @ wins) * second).sum(axis=1) / (first.sum(axis=1) * second.sum(axis=1))
    np.testing.assert_allclose(found, expected)


def test_the_bootstrap_holds_no_matrix_of_pairs():
    tracemalloc = pytest.importorskip("tracemalloc")
    count = 8000
    truth = (np.arange(count) % 2).astype(float)
    scores = np.random.default_rng(0).random((1, count))
    tracemalloc.start()
    delong.bootstrap_auroc(truth, scores, np.arange(count), np.ones((4, count)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # all pairs of 4000 and 4000 images would be 128 MB
