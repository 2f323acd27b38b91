"""What the scores did is told from what training on own samples did: the steered generator beside the shuffled one."""

import numpy as np
import pytest
from studies import tiny
from test_steering_study import STEERED

from synthgain.generators.steering_options import Steering
from synthgain.report.facts import GeneratorFacts
from synthgain.report.sections.steering import score_gain, steering_blocks
from synthgain.report.tables import NORMAL_95
from synthgain.steering.weights import effective, match_weights
from synthgain.study.load import parse_study

SAMPLES = 256


def row_of(step, scores, weights=None):
    row = {"step": step, "score": scores.mean(), "score_se": scores.std() / len(scores) ** 0.5, "samples": len(scores)}
    return row if weights is None else row | {"effective": effective(weights)}


def shuffled_run(rng, real):
    """Two rounds of an ideal learner whose samples miss what was asked for in 30 %, their weights shuffled."""
    rows, scores = [], np.where(rng.random(SAMPLES) < 0.7, 0.9, 0.1) + rng.normal(0, 0.03, SAMPLES)
    for number in range(3):
        weights = rng.permutation(match_weights(scores, real))
        rows.append(row_of(100 * number, scores, weights if number < 2 else None))
        scores = rng.choice(scores, SAMPLES, p=weights / weights.sum())
    return Steering.model_validate({"rounds": rows})


def test_the_interval_of_a_shuffled_generators_rise_holds_the_nought_that_an_ideal_learner_has():
    rng = np.random.default_rng(0)
    real = np.where(rng.random(300) < 0.95, 0.9, 0.1) + rng.normal(0, 0.03, 300)
    found = np.array([score_gain(shuffled_run(rng, real)) for _ in range(600)])
    covered = (np.abs(found[:, 0]) < NORMAL_95 * found[:, 1]).mean()
    assert covered == pytest.approx(0.95, abs=0.03)
    draws_alone = NORMAL_95 * (2 * 0.16 * 0.84 / SAMPLES) ** 0.5  # as if only the two means were of drawn samples
    assert (np.abs(found[:, 0]) < draws_alone).mean() < 0.93


def told(last, shuffled_last, **shuffled):
    """The words of the report on a steered generator and its shuffled neighbour, both from a score of 0.7."""

    def facts(end, effective):
        first = {"step": 0, "score": 0.7, "score_se": 0.01, "samples": 2000, "effective": effective}
        return {"rounds": [first, {"step": 4, "score": end, "score_se": 0.01, "samples": 2000}]}

    generators = {
        "tuned / 0": GeneratorFacts(identity="a", steering=facts(last, 1000)),
        "permuted / 0": GeneratorFacts(identity="b", steering=facts(shuffled_last, 1000) | shuffled),
    }
    _, *blocks = steering_blocks(parse_study(tiny(**STEERED)), generators)
    return blocks


def test_the_report_says_what_own_samples_cost_and_what_the_scores_did():
    table, cost = told(0.9, 0.6)
    assert list(table.rows[0][:5]) == ["tuned / 0", "+0.200", "permuted / 0", "−0.100", "−0.128 to −0.072"]
    assert table.rows[0][5] == "+0.300"
    assert "permuted / 0: with shuffled scores the samples' score fell by 0.100" in cost.text
    assert cost.tone == "warning"


def test_the_report_says_where_shuffled_scores_do_as_well_and_is_silent_where_they_do_nothing():
    _, gives, nothing = told(0.8, 0.79)
    assert "rose by 0.090 though the scores were shuffled" in gives.text
    assert "tuned / 0: it is not shown that the scores did anything" in nothing.text
    assert len(told(0.9, 0.69)) == 1


def test_a_run_that_did_not_note_its_weights_has_no_interval_and_nothing_is_said_of_it():
    row = {"step": 0, "score": 0.7, "real_score": 0.8}
    (table,) = told(0.9, 0.6, rounds=[row, row | {"step": 4, "score": 0.6}])
    assert list(table.rows[0][3:]) == ["−0.100", "–", "+0.300", "–"]


def test_rounds_after_the_stop_add_nothing():
    rows = [row_of(100 * n, np.full(50, 0.5) + 0.1 * (np.arange(50) % 2), np.ones(50)) for n in range(4)]
    whole = Steering.model_validate({"rounds": rows})
    stopped = Steering.model_validate({"rounds": rows, "stopped_at": 100})
    assert score_gain(stopped)[1] < score_gain(whole)[1]
    assert score_gain(Steering.model_validate({"rounds": rows, "stopped_at": 0})) == (0.0, 0.0)
