"""Operating points and calibration: from validation only, against outside references."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.metrics import f1_score, precision_recall_curve, recall_score

from synthgain.statistics import calibration, simulation, thresholds
from synthgain.statistics.analysis import ComparedArm
from synthgain.statistics.endpoints import Resamples, endpoints
from synthgain.statistics.predictions import build_panel, validation_dataset


def panel(label_names=("opacity",), part="validation", seed=0, **keys):
    scores = simulation.simulate(simulation.Setting("t", **keys), np.random.default_rng(seed))
    frames = [simulation.prediction_table(scores, k, "a", name, part=part) for k, name in enumerate(label_names)]
    return build_panel(pd.concat(frames).assign(arm="real"), "a", part)


def test_f1_threshold_reaches_the_largest_f1():
    own = panel()
    truth, score = own.truth[0], own.scores[0, 0].astype(float)
    found = thresholds.f1_thresholds(truth, score, np.ones((1, len(truth))))[0]
    precision, recall, _ = precision_recall_curve(truth, score)
    best = np.nanmax(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert f1_score(truth, score >= found) == pytest.approx(best)


def test_f1_threshold_is_smoothed_by_the_median_over_resamples():
    """Few positives: the smoothed threshold moves less from one validation set to the next."""
    single, smooth = [], []
    for seed in range(30):
        own = panel(seed=seed, patients=60, positive_share=0.15, replicates=1)
        everyone = np.ones((1, len(own.image_ids)))
        single.append(thresholds.f1_thresholds(own.truth[0], own.scores[0, 0].astype(float), everyone)[0])
        smooth.append(thresholds.fit_thresholds(own, "f1_max", 0.9, np.random.default_rng(1)).thresholds[0, 0])
    assert np.std(smooth) < np.std(single)


def test_target_sensitivity_is_the_largest_threshold_that_reaches_it():
    own = panel()
    truth, score = own.truth[0], own.scores[0, 0].astype(float)
    for target in (0.5, 0.9, 1.0):
        found = thresholds.sensitivity_thresholds(truth, score, target, np.ones((1, len(truth))))[0]
        assert recall_score(truth, score >= found) >= target
        above = np.nextafter(found, np.inf)
        assert recall_score(truth, score >= above) < target


def test_policies_per_run_and_label():
    own = panel(("opacity", "nodule"))
    fixed = thresholds.fit_thresholds(own, "fixed_0.5", 0.9, np.random.default_rng(0)).thresholds
    assert fixed.shape == (5, 2)
    assert (fixed == 0.5).all()
    fitted = thresholds.fit_thresholds(own, "target_sensitivity", 0.9, np.random.default_rng(0)).thresholds
    decided = thresholds.apply_thresholds(own, fitted)
    for run in range(5):
        for label in range(2):
            assert recall_score(own.truth[label], decided[run, label]) >= 0.9
    with pytest.raises(ValueError, match="threshold policy"):
        thresholds.fit_thresholds(own, "youden", 0.9, np.random.default_rng(0))


def test_a_moved_operating_point_does_not_survive_tuning():
    """Scores shifted as after balancing: other decisions at 0.5, the same ones at a fitted threshold."""
    own = panel()
    moved = panel()
    shifted = calibration.sigmoid(calibration.logit(moved.scores) + 2).astype(np.float32)
    moved.scores[:] = shifted
    same = [thresholds.fit_thresholds(p, "f1_max", 0.9, np.random.default_rng(0)) for p in (own, moved)]
    first, second = (thresholds.apply_thresholds(p, t.thresholds) for p, t in zip((own, moved), same, strict=True))
    assert (first == second).mean() > 0.999
    half = np.full((5, 1), 0.5)
    changed = thresholds.apply_thresholds(own, half) != thresholds.apply_thresholds(moved, half)
    assert changed.mean() > 0.1


def test_argmax_calls_one_label_per_image():
    own = panel(("a", "b"))
    decided = thresholds.argmax_decisions(own)
    assert (decided.sum(axis=1) == 1).all()


def test_validation_set_of_an_arm():
    arms = {
        "real": ComparedArm(real="a"),
        "synthetic_only": ComparedArm(baseline="real"),
        "imported": ComparedArm(validation="b"),
    }
    rows = [(arm, d, "validation") for arm in arms for d in ("a", "b")]
    table = pd.DataFrame(rows, columns=["arm", "dataset", "part"])
    assert [validation_dataset(arm, arms, table) for arm in arms] == ["a", "a", "b"]


def test_calibration_slope_and_intercept_agree_with_statsmodels():
    own = panel()
    truth, score = own.truth[0].astype(float), own.scores[0, 0].astype(float)
    x = calibration.logit(score)
    slope, intercept = calibration.recalibration(truth, score)
    expected = sm.GLM(truth, sm.add_constant(x), family=sm.families.Binomial()).fit()
    at_one = sm.GLM(truth, np.ones_like(x), family=sm.families.Binomial(), offset=x).fit()
    assert slope == pytest.approx(expected.params[1], rel=1e-5)
    assert intercept == pytest.approx(at_one.params[0], rel=1e-5)


def test_prior_correction_undoes_a_prevalence_shift():
    random = np.random.default_rng(2)
    log_odds = random.normal(-1.5, 1.2, 20_000)
    truth = (random.random(20_000) < calibration.sigmoid(log_odds)).astype(float)
    true_share = float(truth.mean())
    balanced = log_odds - calibration.prior_shift(true_share, 0.5)  # as a model trained at 50 % would say
    shift = calibration.intercept_at_slope_one(truth, balanced)
    assert shift == pytest.approx(calibration.prior_shift(true_share, 0.5), abs=0.06)
    before, after = calibration.sigmoid(balanced), calibration.sigmoid(balanced + shift)
    assert calibration.expected_calibration_error(truth, after) < 0.02
    assert calibration.expected_calibration_error(truth, before) > 0.1


def test_separated_classes_have_no_slope():
    truth = np.array([0.0, 0, 0, 1, 1, 1])
    slope, _ = calibration.recalibration(truth, np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]))
    assert np.isnan(slope)
    assert np.isnan(calibration.recalibration(np.zeros(4), np.full(4, 0.2))).all()


def test_draws_of_thresholds_are_weighted_refits():
    own = panel(patients=60)
    truth, score = own.truth[0], own.scores[0, 0].astype(float)
    weights = np.random.default_rng(3).multinomial(60, np.full(60, 1 / 60), size=20)[:, own.patient].astype(float)
    drawn = thresholds.sensitivity_thresholds(truth, score, 0.8, weights)
    for threshold, weight in zip(drawn, weights, strict=True):
        repeated = np.repeat(np.arange(len(truth)), weight.astype(int))
        assert (
            threshold
            == thresholds.sensitivity_thresholds(truth[repeated], score[repeated], 0.8, np.ones((1, len(repeated))))[0]
        )
    fitted = thresholds.fit_thresholds(own, "f1_max", 0.9, np.random.default_rng(0))
    assert fitted.draws is not None
    np.testing.assert_allclose(np.median(fitted.draws, axis=0), fitted.thresholds)
    assert thresholds.fit_thresholds(own, "fixed_0.5", 0.9, np.random.default_rng(0)).draws is None


def test_the_uncertainty_of_a_fitted_threshold_widens_its_metrics():
    own, test = panel(patients=40, seed=1), panel(part="test", patients=400, seed=2)
    fitted = thresholds.fit_thresholds(own, "target_sensitivity", 0.9, np.random.default_rng(0))
    decided = {"target_sensitivity": thresholds.apply_thresholds(test, fitted.thresholds)}
    resamples = Resamples.of(test.patients, 400, np.random.default_rng(0))
    place = (test, ["sensitivity"], [0], decided, "target_sensitivity", resamples)
    joint = next(endpoints(*place, {"target_sensitivity": fitted}))
    alone = next(endpoints(*place))
    np.testing.assert_array_equal(joint.values, alone.values)
    off = ~np.eye(5, dtype=bool)  # seeds share the validation patients: the part does not average out over seeds
    assert joint.covariance[off].mean() > 2 * alone.covariance[off].mean()
    test_part, thresholds_part = alone.draws.mean(axis=1).var(), joint.draws.mean(axis=1).var()
    assert thresholds_part > 2 * test_part


def test_a_perfectly_calibrated_model_has_an_error_and_it_is_the_floor():
    random = np.random.default_rng(0)
    score = random.beta(1, 2, 200)
    own = np.mean(
        [calibration.expected_calibration_error((random.random(200) < score) * 1.0, score) for _ in range(40)]
    )
    floor = calibration.calibration_error_floor(score)
    assert floor == pytest.approx(own, rel=0.15)
    assert floor > 0.04
    assert calibration.calibration_error_floor(np.tile(score, 50)) < floor / 4
