"""Known facts about precision, recall, density and coverage."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from synthgain.evaluation.distances import prdc, squared_distances


def _prdc(real: np.ndarray, synthetic: np.ndarray, neighbours: int = 5) -> dict[str, float]:
    across = squared_distances(real, synthetic)
    return prdc(squared_distances(real, real), squared_distances(synthetic, synthetic), across, neighbours)


def _normal(count: int, seed: int, dimensions: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions))


def test_distances_agree_with_scipy() -> None:
    x, y = _normal(20, 0), _normal(30, 1)
    assert squared_distances(x, y) == pytest.approx(cdist(x, y, "sqeuclidean"))
    assert (np.diag(squared_distances(x, x)) >= 0).all()


def test_two_samples_of_one_law_have_the_published_levels() -> None:
    """Method §3.4, simulated: precision and recall 0.72–0.87, density 0.87–1.09, coverage 0.96–0.98 at equal n."""
    values = _prdc(_normal(1000, 0), _normal(1000, 1))
    assert 0.65 < values["precision"] < 0.95
    assert 0.65 < values["recall"] < 0.95
    assert 0.8 < values["density"] < 1.2
    assert 0.93 < values["coverage"] <= 1.0


def test_coverage_depends_on_the_ratio_of_the_sizes() -> None:
    few, many = _normal(100, 0), _normal(1000, 1)
    assert _prdc(many, few)["coverage"] < 0.55
    assert _prdc(few, many)["coverage"] > 0.99


def test_the_very_images_are_precise_and_cover_all() -> None:
    x = _normal(200, 0)
    values = _prdc(x, x)
    assert values["precision"] == values["recall"] == values["coverage"] == 1.0


def test_far_sets_share_nothing() -> None:
    values = _prdc(_normal(50, 0), _normal(50, 1) + 100)
    assert set(values.values()) == {0.0}


def test_a_dropped_mode_costs_recall_and_coverage_not_precision() -> None:
    shift = np.zeros(64)
    shift[0] = 40.0
    real = np.concatenate([_normal(200, 0), _normal(200, 1) + shift])
    dropped = _prdc(real, _normal(400, 2))
    whole = _prdc(real, np.concatenate([_normal(200, 3), _normal(200, 4) + shift]))
    assert dropped["coverage"] < 0.55 < 0.9 < whole["coverage"]
    assert dropped["recall"] < 0.6 * whole["recall"]
    assert dropped["precision"] > 0.6


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 5 images on each side, got 5 and 9"):
        _prdc(_normal(5, 0), _normal(9, 1))
