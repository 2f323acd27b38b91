"""Drawing a region anew: the schedule, the law of what is drawn, the blend and the noise."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pair_sources import SPREAD, Pairs, field_covariance
from pool_sources import SIZE

from synthgain.pools.inpainting import EDGE_PIXELS, NoiseStreams, Parents, blend, levels, region_of, repaint
from synthgain.pools.sampling import karras_sigmas


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 12))
def test_the_schedule_goes_down_step_by_step_and_back_by_blocks(steps, resamples, jump_length):
    path = levels(steps, resamples, jump_length)
    assert path[0] == 0
    assert path[-1] == steps
    assert set(path) == set(range(steps + 1))
    moves = [after - now for now, after in pairwise(path)]
    assert all(move == 1 or move == -jump_length for move in moves)
    blocks = (steps - 1) // jump_length  # without the first, which is gone through once
    assert moves.count(-jump_length) == blocks * (resamples - 1)


def test_the_schedule_of_a_small_case():
    assert levels(5, 2, 2) == [0, 1, 2, 3, 1, 2, 3, 4, 5, 3, 4, 5]
    assert levels(3, 1, 10) == [0, 1, 2, 3]
    assert levels(2, 4, 10) == [0, 1, 2]


def drawn_law(resamples):
    """Mean error (in units of the prior's standard deviation) and ratio of spreads against the exact conditional."""
    covariance, random = field_covariance(), np.random.default_rng(0)
    truth = np.linalg.cholesky(covariance) @ random.standard_normal(SIZE * SIZE)
    region = np.zeros((SIZE, SIZE), bool)
    region[2:7, 2:7] = True
    inside, outside = region.ravel(), ~region.ravel()
    across = covariance[np.ix_(inside, outside)] @ np.linalg.inv(covariance[np.ix_(outside, outside)])
    mean = across @ truth[outside]
    spread = np.sqrt(np.diag(covariance[np.ix_(inside, inside)] - across @ covariance[np.ix_(outside, inside)]))
    generator, count, steps = Pairs(), 150, 18
    real = torch.tensor(truth, dtype=torch.float32).view(1, 1, SIZE, SIZE).expand(count, 2, -1, -1)
    kept = torch.tensor(~region).expand(count, 2, -1, -1)
    noise = NoiseStreams(np.arange(count), (2, SIZE, SIZE), torch.device("cpu"))
    zero = generator.null_condition(count)
    found = repaint(
        lambda x, sigma: generator.denoise(x, torch.full((count,), sigma), zero),
        real,
        kept,
        karras_sigmas(steps, 0.002, 80.0),
        levels(steps, resamples, 3),
        noise,
    )
    assert torch.equal(found[kept], real[kept])
    samples = found[:, 0].numpy()[:, region]
    error = np.sqrt(((samples.mean(axis=0) - mean) ** 2).mean()) / SPREAD
    return error, samples.std(axis=0).mean() / spread.mean()


def test_jumps_bring_the_region_towards_the_law_given_its_surroundings():
    error, ratio = drawn_law(1)
    better, closer = drawn_law(10)
    assert better < 0.75 * error
    assert better < 0.45
    assert abs(closer - 1) < 0.15 < abs(ratio - 1)


def test_noise_streams_depend_on_their_seed_alone():
    whole = NoiseStreams(np.array([3, 5, 7]), (2, 4, 4), torch.device("cpu"))
    one = NoiseStreams(np.array([5]), (2, 4, 4), torch.device("cpu"))
    for _ in range(3):
        assert torch.equal(whole()[1:2], one())
    assert not torch.equal(whole(), whole())


def test_a_region_reaches_as_far_as_it_says():
    mask = np.zeros((50, 50), np.uint8)
    mask[20:25, 20:25] = 1
    region = region_of(mask, 0.08)
    assert np.flatnonzero(region[22]).tolist() == list(range(16, 29))
    assert not region[16, 16]  # round corners
    assert np.array_equal(region_of(mask, 0.0), mask > 0)
    assert not region_of(np.zeros((8, 8)), 0.5).any()


def test_a_blend_keeps_the_outside_exactly_and_leaves_no_step():
    random = np.random.default_rng(0)
    real = random.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    drawn = random.integers(0, 256, real.shape, dtype=np.uint8)
    region = np.zeros((2, 40, 40), bool)
    region[0, 10:30, 10:30] = True
    region[1] = True
    joined = blend(drawn, real, region)
    assert np.array_equal(joined[0][~region[0]], real[0][~region[0]])
    deep = np.zeros((40, 40), bool)
    deep[10 + EDGE_PIXELS : 30 - EDGE_PIXELS, 10 + EDGE_PIXELS : 30 - EDGE_PIXELS] = True
    assert np.array_equal(joined[0][deep], drawn[0][deep])
    assert np.array_equal(joined[1], drawn[1])
    flat = blend(np.full_like(real, 200), np.full_like(real, 100), region)[0, 20, :, 0].astype(int)
    assert flat[9] == 100
    assert flat[10 + EDGE_PIXELS] == 200
    assert np.abs(np.diff(flat)).max() == 25


def test_parents_as_the_generator_sees_them():
    images = np.array([0, 255, 127, 64], np.uint8).reshape(1, 2, 2, 1)
    masks = np.array([0, 1, 1, 0], np.uint8).reshape(1, 2, 2, 1)
    region = np.array([[[True, False], [False, False]]])
    parents = Parents(images, masks, np.array([[True]]), region)
    values = parents.values()
    assert values.shape == (1, 2, 2, 2)
    assert values[0, 0].ravel() == pytest.approx([-1, 1, -1 / 255, -127 / 255], abs=1e-6)
    assert values[0, 1].ravel().tolist() == [-1, 1, 1, -1]
    assert parents.kept()[0, 0].ravel().tolist() == [False, True, True, True]
    assert parents.kept()[0, 1].all()  # the mask stays in the region too, so that its object is painted there
    redrawn = Parents(images, masks, np.array([[True]]), region, redraw_mask=True).take(np.array([0]))
    assert redrawn.kept()[0, 1].ravel().tolist() == [False, True, True, True]
    unknown = Parents(images, masks, np.array([[False]]), region)
    assert not unknown.kept()[0, 1].any()  # a mask that the data lacks is drawn everywhere
    assert unknown.kept()[0, 0].sum() == 3
