"""Agreement of readers, against other implementations and known panels."""

import numpy as np
import pytest
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_of_statsmodels

from synthgain.statistics.agreement import (
    MEASURES,
    fleiss_kappa,
    gwet_ac1,
    gwet_ac2,
    intra_reader_kappa,
    krippendorff_alpha,
    percent_agreement,
    with_interval,
)
from synthgain.statistics.reading import planning_table, power_of_equivalence, telling

FIVE = np.arange(1.0, 6.0)
X = float("nan")
ANSWERS = np.array(
    [
        [5, X, 4, 4],
        [2, 2, 1, 1],
        [1, 1, 2, 1],
        [X, 2, X, 2],
        [1, 2, 2, 2],
        [5, 4, 4, 5],
        [5, 5, 5, 4],
        [4, 2, 2, X],
        [2, 1, 1, 1],
        [1, 2, 1, X],
        [1, 2, 1, 3],
        [3, 2, 2, 4],
    ],
    dtype=float,
)
# Of ANSWERS: irrCAC 0.4.4 with categories 1 to 5 (printed to five digits), krippendorff 0.9.0 (ordinal).
REFERENCE = {
    percent_agreement: 0.41667,
    fleiss_kappa: 0.20243,
    gwet_ac1: 0.28614,
    gwet_ac2: 0.61545,
    krippendorff_alpha: 0.6780929776,
}


@pytest.mark.parametrize("measure", REFERENCE, ids=lambda measure: measure.__name__)
def test_agreement_equals_other_implementations(measure) -> None:
    assert measure(ANSWERS, FIVE) == pytest.approx(REFERENCE[measure], abs=6e-6)


def test_fleiss_kappa_equals_statsmodels() -> None:
    whole = ANSWERS[~np.isnan(ANSWERS).any(axis=1)]
    counts = np.stack([(whole == value).sum(axis=1) for value in FIVE], axis=1)
    assert fleiss_kappa(whole, FIVE) == pytest.approx(fleiss_of_statsmodels(counts))


def test_skewed_answers_sink_kappa_and_not_ac1() -> None:
    """90 % agreement at 90:10: kappa 0.44, AC1 0.88."""
    answers = np.array([[0, 0]] * 85 + [[1, 1]] * 5 + [[0, 1]] * 5 + [[1, 0]] * 5, dtype=float)
    categories = np.array([0.0, 1.0])
    assert fleiss_kappa(answers, categories) == pytest.approx(0.444, abs=0.001)
    assert gwet_ac1(answers, categories) == pytest.approx(0.878, abs=0.001)


def test_one_category_has_no_kappa_and_full_agreement() -> None:
    answers = np.full((12, 3), 2.0)
    assert percent_agreement(answers, FIVE) == 1
    assert np.isnan(fleiss_kappa(answers, FIVE))
    assert np.isnan(krippendorff_alpha(answers, FIVE))
    assert gwet_ac1(answers, FIVE) == 1


def test_an_answer_outside_the_scale_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of"):
        percent_agreement(np.array([[1.0, 7.0]]), FIVE)


@pytest.mark.parametrize("name", MEASURES)
def test_panel_of_independent_answers_agrees_by_chance(name: str) -> None:
    rng = np.random.default_rng(7)
    answers = rng.integers(1, 6, (300, 4)).astype(float)
    found = with_interval(lambda rows: MEASURES[name](rows, FIVE), answers, rng, resamples=200)
    chance = 0.2 if name == "percent_agreement" else 0.0
    assert found.low <= chance <= found.high


@pytest.mark.parametrize("copied", [0.3, 0.7])
def test_planted_kappa_is_recovered(copied: float) -> None:
    """Two readers give the same uniform answer with probability k, else independent ones: kappa is k."""
    rng = np.random.default_rng(3)
    shared = rng.integers(1, 6, (2000, 1))
    own = rng.integers(1, 6, (2000, 2))
    answers = np.where(rng.random((2000, 1)) < copied, shared, own).astype(float)
    found = with_interval(lambda rows: fleiss_kappa(rows, FIVE), answers, rng, resamples=200)
    assert found.low <= copied <= found.high
    assert found.high - found.low < 0.1


def test_few_images_have_no_interval() -> None:
    found = with_interval(lambda rows: percent_agreement(rows, FIVE), ANSWERS[:9], np.random.default_rng(0))
    assert np.isnan(found.low)
    assert not np.isnan(found.value)


def test_a_reader_with_themselves() -> None:
    same = np.array([1.0, 2, 3, 4, 5])
    assert intra_reader_kappa(np.stack([same, same], axis=1), FIVE) == 1
    assert intra_reader_kappa(np.stack([same, same[::-1]], axis=1), FIVE) < 0
    assert np.isnan(intra_reader_kappa(same[:1, None].repeat(2, axis=1), FIVE))


def _panel(rng: np.random.Generator, shift: float, readers: int = 5, images: int = 75) -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat([0, 1], images)
    image = rng.normal(size=2 * images) * np.sqrt(0.3)
    own = rng.normal(size=(readers, 2 * images)) * np.sqrt(0.7)
    latent = image + own + np.outer(rng.normal(shift, 0.0, readers), truth)
    return truth, np.digitize(latent, [-1.5, -0.7, 0, 0.7, 1.5]) + 1.0


def test_planted_auc_is_recovered() -> None:
    from scipy.stats import norm

    truth, answers = _panel(np.random.default_rng(1), shift=1.0, images=400)
    found = telling(truth, answers, np.arange(len(truth)))
    assert found.low <= norm.cdf(1 / np.sqrt(2)) <= found.high + 0.02  # six steps lose a little
    assert found.equivalence_p > 0.5


def test_equivalence_to_chance_keeps_its_level_and_has_the_power_that_was_planned() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(5)
    at_bound = np.sqrt(2) * norm.ppf(0.6)
    runs = 300
    false = sum(
        telling(t, a, np.arange(len(t))).equivalence_p < 0.05
        for t, a in (_panel(rng, at_bound * 1.06) for _ in range(runs))
    )
    right = sum(
        telling(t, a, np.arange(len(t))).equivalence_p < 0.05 for t, a in (_panel(rng, 0.0) for _ in range(runs))
    )
    assert false / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert right / runs >= power_of_equivalence(5, 75) - 0.08


def test_planning_table_has_the_known_sizes() -> None:
    table = planning_table().set_index("readers")["images_of_each_kind"]
    assert table[5] == 75
    assert 140 <= table[1] <= 155
    assert table[3:].is_monotonic_decreasing
