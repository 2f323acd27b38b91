"""Fréchet and kernel distances: exact laws, agreement with torchmetrics, real-versus-real floors (method test 9)."""

import importlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.evaluation.distances import (
    frechet_distance,
    kernel_distance,
    kernel_distance_p,
    kernel_matrix,
)
from synthgain.evaluation.fidelity import Side, measure_space
from synthgain.evaluation.resampling import (
    disjoint_halves,
    images_a_side,
    jackknife_se,
    largest_half,
    patient_groups,
    spread_order,
)


def _features(count: int, dimensions: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.arange(1, dimensions + 1)
    return (rng.normal(size=(count, dimensions)) * np.sqrt(spectrum)).astype(np.float32)


def _kid(x: np.ndarray, y: np.ndarray) -> float:
    both = np.concatenate([x, y])
    return kernel_distance(kernel_matrix(both, both), len(x))


@pytest.mark.parametrize(("count", "dimensions"), [(40, 8), (20, 64)])
def test_frechet_distance_agrees_with_torchmetrics(count: int, dimensions: int) -> None:
    fid = importlib.import_module("torchmetrics.image.fid")
    x, y = _features(count, dimensions, 0), 0.3 + 1.5 * _features(count, dimensions, 1)
    moments = []
    for side in (x, y):
        tensor = torch.from_numpy(side).double()
        moments += [tensor.mean(0), torch.cov(tensor.T)]
    assert frechet_distance(x, y) == pytest.approx(float(fid._compute_fid(*moments)), rel=1e-6)


def test_kernel_distance_agrees_with_torchmetrics() -> None:
    kid = importlib.import_module("torchmetrics.image.kid")
    x, y = _features(50, 12, 0), 0.2 + _features(50, 12, 1)
    expected = kid.poly_mmd(torch.from_numpy(x).double(), torch.from_numpy(y).double())
    assert _kid(x, y) == pytest.approx(float(expected), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 30), st.integers(1, 20), st.integers(0, 10**6))
def test_frechet_distance_is_a_distance(count: int, dimensions: int, seed: int) -> None:
    x, y = _features(count, dimensions, seed), 1 + _features(count + 5, dimensions, seed + 1)
    scale = float((x.astype(np.float64) ** 2).sum() + (y.astype(np.float64) ** 2).sum())
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-7 * scale)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-6)
    assert frechet_distance(x, y) > 0
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))[0]
    assert frechet_distance(x @ rotation, y @ rotation) == pytest.approx(frechet_distance(x, y), rel=1e-4)


def test_frechet_distance_of_shifted_sets_is_the_squared_shift() -> None:
    x = _features(60, 10, 0).astype(np.float64)
    assert frechet_distance(x, x + 2.0) == pytest.approx(10 * 4.0)


def test_the_floor_of_split_halves_is_above_zero_and_falls_with_n() -> None:
    x = _features(800, 64, 0)
    rng = np.random.default_rng(1)
    patients = np.arange(800)
    floors = {}
    for n in (100, 400):
        halves = [disjoint_halves(patients, n, rng) for _ in range(5)]
        floors[n] = np.mean([frechet_distance(x[a], x[b]) for a, b in halves])
    assert floors[100] > 1.5 * floors[400] > 0


def test_kid_of_iid_halves_is_within_three_standard_errors_of_zero() -> None:
    x, y = _features(300, 64, 2), _features(300, 64, 3)
    rng = np.random.default_rng(0)
    groups = [patient_groups(np.arange(300), rng) for _ in range(2)]
    se = jackknife_se(lambda a, b: np.array([_kid(x[a], y[b])]), *groups)[0]
    assert abs(_kid(x, y)) < 3 * se
    assert _kid(x, y + 0.5) > 3 * se


def test_jackknife_agrees_with_repeated_draws() -> None:
    """Over 40 draws of two samples with a true distance, the mean jackknife SE is near the SD of KID."""
    values, errors = [], []
    for seed in range(40):
        x, y = _features(100, 8, 10_000 + seed), 0.5 + _features(100, 8, 20_000 + seed)
        rng = np.random.default_rng(seed)
        groups = [patient_groups(np.arange(100), rng) for _ in range(2)]
        values.append(_kid(x, y))
        errors.append(_jackknife(x, y, groups))
    assert 0.7 < np.mean(errors) / np.std(values, ddof=1) < 1.4


def _jackknife(x: np.ndarray, y: np.ndarray, groups: list[np.ndarray]) -> float:
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda a, b: np.array([_kid(x[a], y[b])])  # noqa: E731
    return float(jackknife_se(statistic, *groups)[0])


def test_permutation_p_is_uniform_for_equal_laws_and_small_for_others() -> None:
    values = []
    for seed in range(60):
        both = np.concatenate([_features(40, 6, 1000 + seed), _features(40, 6, 2000 + seed)])
        p = kernel_distance_p(kernel_matrix(both, both), 40, np.arange(80), np.random.default_rng(seed), 99)
        values.append(p)
    assert 0 <= np.mean(np.array(values) <= 0.2) <= 0.4
    assert 0.35 < np.mean(values) < 0.65
    far = np.concatenate([_features(40, 6, 0), 1 + _features(40, 6, 1)])
    assert kernel_distance_p(kernel_matrix(far, far), 40, np.arange(80), np.random.default_rng(0), 99) == 0.01


def test_permutations_of_patients_are_wider_than_of_images() -> None:
    """Ten images per patient: image permutations call a patient effect a difference of the sets."""
    rng = np.random.default_rng(4)
    effects = rng.normal(size=(12, 6))
    patients = np.repeat(np.arange(12), 10)
    x = (effects[patients] + 0.1 * rng.normal(size=(120, 6))).astype(np.float32)
    kernel = kernel_matrix(x, x)
    by_image = kernel_distance_p(kernel, 60, np.arange(120), np.random.default_rng(0), 199)
    by_patient = kernel_distance_p(kernel, 60, patients, np.random.default_rng(0), 199)
    assert by_image < 0.05 < by_patient


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=3, max_size=20), st.integers(0, 1000))
def test_halves_share_no_patient(images: list[int], seed: int) -> None:
    patients = np.repeat(np.arange(len(images)), images)
    n = largest_half(patients)
    if n == 0:
        return
    first, second = disjoint_halves(patients, n, np.random.default_rng(seed))
    assert len(first) == len(second) == n
    assert not set(patients[first]) & set(patients[second])
    with pytest.raises(ValueError, match="need more than"):
        disjoint_halves(patients, n + 1, np.random.default_rng(seed))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(3, 4\)"):
        frechet_distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="got 1 and 3"):
        frechet_distance(np.zeros((1, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="got 1 and 2"):
        kernel_distance(np.eye(3), 1)


def test_kid_is_unbiased_with_any_number_of_images_per_patient():
    """Same law on both sides, four images of each patient: pairs of one patient would make them look far apart."""
    values, blind = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        people = rng.normal(size=(50, 8))
        features = np.repeat(people, 4, axis=0) + 0.2 * rng.normal(size=(200, 8))
        patients, kernel = np.repeat(np.arange(50), 4), kernel_matrix(features, features)
        values.append(kernel_distance(kernel, 100, patients))
        blind.append(kernel_distance(kernel, 100))
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40)
    assert np.mean(blind) > 10 * np.std(blind) / np.sqrt(40)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(0, 1000))
def test_an_order_spreads_over_patients_first(images: list[int], seed: int) -> None:
    patients = np.repeat(np.arange(len(images)), images)
    order = spread_order(patients, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(patients)))
    for n in range(1, len(patients) + 1):
        counts = np.bincount(patients[order[:n]], minlength=len(images))
        assert all(
            count == min(counts.max(), most) or counts.max() - count == 1
            for count, most in zip(counts, images, strict=True)
        )


def test_one_image_of_each_patient_where_there_are_enough() -> None:
    patients = np.repeat(np.arange(40), 5)
    assert images_a_side([patients], 300, 20) == [20]
    first, second = disjoint_halves(patients, 20, np.random.default_rng(0))
    assert len(np.unique(patients[np.concatenate([first, second])])) == 40
    assert images_a_side([patients], 300, 21) == [98]  # else all of them: 200 images but for a patient cut in two
    assert images_a_side([patients, 100 + np.arange(30)], 300, 20) == [35, 30]


@pytest.mark.parametrize("images", [1, 4])
def test_no_measure_of_the_same_law_is_off_its_floor_however_many_images_a_patient_has(images: int) -> None:
    """Images of one patient are alike: with all of them the Fréchet distance is 3 SD below its floor, Vendi 6 above."""
    rng, off = np.random.default_rng(images), []
    for _ in range(8):
        people, drawn = rng.normal(size=(80, 12)), rng.normal(size=(320, 12))
        real = 0.8 * np.repeat(people, images, axis=0) + 0.6 * rng.normal(size=(80 * images, 12))
        patients, everyone = np.repeat(np.arange(80), images), {"all": np.ones(320, dtype=bool)}
        half = len(patients) // 2
        references = {
            "held_out": Side(real[:half], patients[:half], {"all": everyone["all"][:half]}),
            "train": Side(real[half:], patients[half:], {"all": everyone["all"][:half]}),
        }
        limits = {"n": 300, "minimum": 20, "floor_splits": 5}
        synthetic = Side(drawn, 100 + np.arange(320), everyone)
        rows = pd.DataFrame(measure_space("x", False, synthetic, references, lambda **_: rng, limits))
        rows = rows[rows["reference"] == "held_out"].set_index("metric")
        assert set(rows["n"]) == {40}
        off.append((rows["value"] - rows["floor"]) / np.hypot(rows["floor_sd"], (rows["high"] - rows["low"]) / 3.92))
    mean = pd.concat(off, axis=1).mean(axis=1)
    assert mean.abs().max() < 1.2, mean


def test_one_image_per_patient_is_the_plain_distance():
    features = np.random.default_rng(0).normal(size=(60, 5))
    kernel = kernel_matrix(features, features)
    assert kernel_distance(kernel, 30, np.arange(60)) == kernel_distance(kernel, 30)
