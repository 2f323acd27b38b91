"""Geometric changes of condition masks: what they move, and what they must not do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.pools.mask_transforms import Transform, apply, elastic_field, transformed
from synthgain.pools.options import MaskTransform as Limits

SIZE = 32
STILL = Transform(mirror=False, rotation=0.0, scale=1.0, down=0.0, right=0.0, elastic=0.0, field_seed=0)


def change(**changes):
    return Transform(**{**STILL.__dict__, **changes})


def disc(row, column, radius, size=SIZE):
    y, x = np.mgrid[:size, :size]
    return ((y - row) ** 2 + (x - column) ** 2 <= radius**2).astype(np.uint8)


def lungs():
    """Two upright ellipses as one plane, and a heart between them."""
    y, x = np.mgrid[:SIZE, :SIZE]
    sides = [((y - 15) / 9) ** 2 + ((x - column) / 4) ** 2 <= 1 for column in (8, 23)]
    return np.stack([sides[0] | sides[1], disc(19, 15, 3) > 0], axis=-1).astype(np.uint8)


def centre(mask):
    return np.argwhere(mask).mean(axis=0)


def test_a_still_transform_changes_nothing():
    assert np.array_equal(apply(lungs(), STILL), lungs())


def test_a_shift_moves_by_whole_pixels():
    mask = disc(14, 12, 5)[..., None]
    moved = apply(mask, change(down=3 / SIZE, right=-2 / SIZE))
    assert np.array_equal(moved[..., 0], disc(17, 10, 5))


def test_a_rotation_turns_counter_clockwise_about_the_masks_centre():
    bar = np.zeros((SIZE, SIZE, 1), np.uint8)
    bar[15:18, 10:21] = 1  # centre (16, 15), long side across
    bar[15:18, 18:21] = 0
    bar[14:19, 18:21] = 1  # a head to the right
    turned = apply(bar, change(rotation=90.0))[..., 0]
    rows, columns = np.nonzero(turned)
    assert np.ptp(rows) > np.ptp(columns)
    assert turned[: SIZE // 2].any(axis=0).sum() > turned[SIZE // 2 + 3 :].any(axis=0).sum()  # the head is on top
    assert centre(turned) == pytest.approx(centre(bar[..., 0]), abs=0.6)


@pytest.mark.parametrize("scale", [0.7, 1.5])
def test_scale_changes_the_area_by_its_square(scale):
    mask = disc(16, 16, 7)[..., None]
    assert apply(mask, change(scale=scale)).sum() / mask.sum() == pytest.approx(scale**2, rel=0.08)


def test_a_mirror_exchanges_left_and_right():
    assert np.array_equal(apply(lungs(), change(mirror=True)), lungs()[:, ::-1])


@given(st.integers(0, 2**32), st.floats(0.0, 0.3))
@settings(max_examples=20)
def test_the_elastic_field_is_as_large_as_it_says_and_does_not_fold(seed, elastic):
    field = elastic_field(change(elastic=elastic, field_seed=seed), SIZE)
    assert np.abs(field).max() <= elastic * SIZE + 1e-9
    slopes = [np.abs(np.diff(part, axis=axis)).max() for part in field for axis in (0, 1)]
    assert max(slopes) < 1


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=40)
def test_what_is_given_out_keeps_within_the_limits(seed, mirror):
    masks = np.concatenate([lungs(), disc(12, 8, 2)[..., None], np.zeros((SIZE, SIZE, 1), np.uint8)], axis=-1)
    limits = Limits(rotation=25, translation=0.2, scale=0.3, elastic=0.05, mirror=mirror, area_change=0.4)
    moved, transform, refused = transformed(masks, limits, np.random.default_rng(seed))
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) <= {0, 1}
    assert not moved[..., 3].any()
    again, _, _ = transformed(masks, limits, np.random.default_rng(seed))
    assert np.array_equal(moved, again)
    if transform is None:
        assert refused == 10
        assert np.array_equal(moved, masks)
        return
    change_of_area = moved[..., :3].sum(axis=(0, 1)) / masks[..., :3].sum(axis=(0, 1))
    assert (np.abs(change_of_area - 1) <= 0.4).all()
    assert not (moved[..., 2] & ~moved[..., 0]).any()  # the finding stays in the lung
    assert transform.mirror in (False, mirror)
    assert abs(transform.rotation) <= 25
    assert np.array_equal(moved, apply(masks, transform))


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_a_small_disc_keeps_its_whole_area_inside_the_frame(seed):
    mask = disc(7, 7, 5)[..., None]
    limits = Limits(rotation=180, translation=0.3, scale=0.0, elastic=0.0)
    moved, transform, _ = transformed(mask, limits, np.random.default_rng(seed))
    assert float(moved.sum()) == pytest.approx(float(mask.sum()), rel=0.1)
    if transform is not None:
        assert centre(moved[..., 0]).min() >= 4  # a disc of radius 5 with its centre here has left by a pixel at most


def test_leaving_the_frame_is_refused_only_if_asked_for():
    mask = disc(5, 16, 4)[..., None]
    far = Limits(rotation=0, translation=0.9, scale=0, elastic=0, keep_inside=False, area_change=0.99)
    left = [transformed(mask, far, np.random.default_rng(seed))[0].sum() for seed in range(30)]
    assert min(left) < 0.7 * mask.sum()
    kept = [
        transformed(mask, Limits(**{**far.model_dump(), "keep_inside": True}), np.random.default_rng(seed))[0].sum()
        for seed in range(30)
    ]
    assert min(kept) > 0.9 * mask.sum()


def test_a_structure_that_the_frame_cut_goes_on_beyond_it():
    mask = disc(16, -2, 9)[..., None]  # touches the left side
    moved = apply(mask, change(right=0.2))[..., 0]
    assert moved[:, 0].sum() > 0  # no straight end inside the frame
    limits = Limits(rotation=0, translation=0.1, scale=0, elastic=0, area_change=5.0)
    found = [transformed(mask, limits, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(transform is not None for _, transform, _ in found) == 20
    assert any(transform.right < 0 for _, transform, _ in found)


def test_lungs_do_not_change_sides_unless_a_mirror_is_allowed():
    around = Limits(rotation=180, translation=0, scale=0, elastic=0, area_change=0.5)
    drawn = [transformed(lungs(), around, np.random.default_rng(seed)) for seed in range(40)]
    angles = [abs(transform.rotation) for _, transform, _ in drawn if transform is not None]
    assert max(angles) <= 95
    assert len(angles) > 30
    mirrored = Limits(**{**around.model_dump(), "mirror": True})
    drawn = [transformed(lungs(), mirrored, np.random.default_rng(seed)) for seed in range(40)]
    assert max(abs(transform.rotation) for _, transform, _ in drawn if transform is not None) > 120
    assert {transform.mirror for _, transform, _ in drawn if transform is not None} == {True, False}


def test_a_mask_that_cannot_move_stays():
    whole = np.ones((SIZE, SIZE, 1), np.uint8)
    whole[0] = 0  # it touches three sides and would leave by the fourth, or shrink
    limits = Limits(rotation=0, translation=0, scale=0.9, elastic=0, area_change=0.001)
    moved, transform, refused = transformed(whole, limits, np.random.default_rng(0))
    assert transform is None
    assert refused == 10
    assert np.array_equal(moved, whole)


def test_an_empty_mask_has_nothing_to_move():
    empty = np.zeros((SIZE, SIZE, 2), np.uint8)
    moved, transform, refused = transformed(empty, Limits(), np.random.default_rng(0))
    assert (transform, refused) == (None, 0)
    assert not moved.any()


def test_a_vanished_structure_is_refused():
    dot = np.zeros((SIZE, SIZE, 1), np.uint8)
    dot[16, 16] = 1
    limits = Limits(rotation=45, translation=0.1, scale=0.9, elastic=0, area_change=50.0)
    for seed in range(20):
        assert transformed(dot, limits, np.random.default_rng(seed))[0].any()


def test_a_transform_is_described_in_plain_values():
    said = change(mirror=True, rotation=12.345678).described()
    assert said == {"mirror": True, "rotation": 12.3457, "scale": 1.0, "down": 0.0, "right": 0.0, "elastic": 0.0}
