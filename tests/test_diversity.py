"""Vendi score and MS-SSIM: exact cases, agreement with MONAI, small images (method test 11)."""

import numpy as np
import pytest
import torch
from evaluation_run import pictures
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.evaluation.diversity import (
    SCALE_WEIGHTS,
    draw_cross_pairs,
    draw_pairs,
    ms_ssim,
    scales_for,
    vendi_score,
)
from synthgain.runtime.errors import SynthGainError


def test_ms_ssim_at_64_px_is_1_on_identical_images() -> None:
    images, _ = pictures(6, seed=0, size=64)
    assert ms_ssim(images, images) == pytest.approx(1.0, abs=1e-6)
    other = ms_ssim(images[:3], images[3:])
    assert ((other > 0) & (other < 0.99)).all()


@pytest.mark.parametrize("size", [16, 32, 64, 176])
def test_ms_ssim_agrees_with_monai(size: int) -> None:
    regression = pytest.importorskip("monai.metrics.regression")
    images = np.concatenate([pictures(6, seed=1, size=size)[0], pictures(6, seed=2, size=size)[0]], axis=3)
    weights = np.array(SCALE_WEIGHTS[: scales_for(size)])
    a, b = (torch.from_numpy(side).permute(0, 3, 1, 2).float() / 255 for side in (images[:3], images[3:]))
    metric = regression.MultiScaleSSIMMetric(spatial_dims=2, weights=tuple(weights / weights.sum()))
    assert ms_ssim(images[:3], images[3:]) == pytest.approx(metric(a, b).flatten().numpy(), abs=1e-4)


def test_scales_follow_the_size() -> None:
    assert [scales_for(size) for size in (16, 32, 64, 128, 256)] == [1, 2, 3, 3, 5]
    with pytest.raises(SynthGainError, match="at least 12 pixels a side, these have 8"):
        scales_for(8)


def test_empty_sets_of_pairs_are_empty() -> None:
    images, _ = pictures(2, seed=0)
    assert ms_ssim(images[:0], images[:0]).shape == (0,)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5))
def test_vendi_counts_distinct_images(kinds: int, copies: int) -> None:
    features = np.repeat(np.eye(12)[:kinds], copies, axis=0)
    assert vendi_score(features) == pytest.approx(kinds)


def test_vendi_is_the_same_by_rows_and_by_dimensions() -> None:
    features = np.random.default_rng(0).normal(size=(30, 8))
    wide = np.concatenate([features, np.zeros((30, 40))], axis=1)
    assert vendi_score(features) == pytest.approx(vendi_score(wide))


def test_pairs_share_a_class_and_no_patient() -> None:
    rng = np.random.default_rng(0)
    strata = np.array(["a"] * 6 + ["b"] * 4 + ["c"] * 2)
    patients = np.array(["1", "1", "1", "1", "1", "2", "3", "4", "5", "6", "7", "7"])
    first, second = draw_pairs(strata, patients, 200, rng)
    assert len(first) == 200
    assert (strata[first] == strata[second]).all()
    assert (patients[first] != patients[second]).all()
    assert not (strata[first] == "c").any()
    ours, theirs = draw_cross_pairs(strata, np.array(["b", "c", "z"]), 100, rng)
    assert set(strata[ours]) == {"b", "c"}
    assert set(theirs) == {0, 1}


def test_no_pair_where_every_class_has_one_patient() -> None:
    rng = np.random.default_rng(0)
    first, _ = draw_pairs(np.array(["a", "b"]), np.array(["1", "2"]), 10, rng)
    assert len(first) == 0
    ours, _ = draw_cross_pairs(np.array(["a"]), np.array(["b"]), 10, rng)
    assert len(ours) == 0
