"""Mask fidelity: shapes measured right, masks of the same law at their floor, other sizes and places above it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_run import fidelity_slice, make_job
from hypothesis import given
from hypothesis import strategies as st
from pairs_run import SIZE, STRUCTURE, discs, write_pool, write_real

from measure_fidelity import measure_fidelity
from synthgain.evaluation.mask_shape import MEASURES, distances, perimeter, shape_features


def disc(radius: float, size: int = 128, x: float = 64, y: float = 64) -> np.ndarray:
    rows, columns = np.mgrid[0:size, 0:size]
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)[None]


@pytest.mark.parametrize("radius", [8.0, 20.0, 45.0])
def test_outline_and_compactness_of_a_disc(radius: float) -> None:
    assert perimeter(disc(radius))[0] == pytest.approx(2 * np.pi * radius, rel=0.05)
    found = dict(zip(MEASURES, shape_features(disc(radius))[0], strict=True))
    assert found["compactness"] == pytest.approx(1, abs=0.1)  # pixels and four directions, less for large discs
    assert found["area_share"] == pytest.approx(np.pi * radius**2 / 128**2, rel=0.03)
    assert found["centroid_x"] == pytest.approx(64.5 / 128, abs=1e-9)
    assert found["components"] == 1


def test_shapes_differ_as_they_should() -> None:
    bar, two = np.zeros((1, 64, 64), bool), np.zeros((1, 64, 64), bool)
    bar[0, 30:33, 5:60] = True
    two[0, 5:15, 5:15] = two[0, 40:50, 5:15] = True
    assert shape_features(bar)[0, 4] < 0.4 < shape_features(disc(20))[0, 4]
    assert shape_features(two)[0, 3] == 2
    assert shape_features(two)[0, 1] < 0.2
    empty = shape_features(np.zeros((1, 64, 64), bool))[0]
    assert (empty[0], empty[3]) == (0, 0)
    assert np.isnan(empty[[1, 2, 4]]).all()


@given(st.integers(0, 30), st.integers(0, 30))
def test_moving_a_mask_changes_its_place_alone(right: int, down: int) -> None:
    before, after = shape_features(disc(9, 64, 12, 12))[0], shape_features(disc(9, 64, 12 + right, 12 + down))[0]
    assert after[[0, 3, 4]] == pytest.approx(before[[0, 3, 4]])
    assert after[1:3] - before[1:3] == pytest.approx([right / 64, down / 64])


def test_distance_of_a_shift_is_the_shift() -> None:
    first = np.random.default_rng(0).normal(size=(50, 5))
    assert distances(first, first) == pytest.approx(np.zeros(5))
    assert distances(first, first + 0.3) == pytest.approx(np.full(5, 0.3))
    without = np.full((50, 5), np.nan)
    assert np.isnan(distances(first, without)).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_real(folder)
    images, masks = discs(90, seed=2)
    write_pool(folder, "same", images, masks)
    write_pool(folder, "small", *discs(90, seed=3, radius=(1.5, 3.0)))
    write_pool(folder, "bare", images, None)
    return folder


def measured(run: Path, pool: str) -> pd.DataFrame:
    masks = {"module": "mask_shape", "structures": [STRUCTURE, "other"]}
    settings = fidelity_slice(pool, masks=masks, spaces=[])
    measure_fidelity(make_job(run, f"fidelity/{pool}/0/manifest.json", settings, pool))
    return pd.read_csv(run / "fidelity" / pool / "0" / "fidelity.csv")


def test_masks_of_the_same_law_are_at_their_floor_and_small_ones_are_not(run: Path) -> None:
    same = measured(run, "same").query("space == 'mask' and reference == 'held_out'").set_index("metric")
    assert set(same.index) == {f"{name}:{STRUCTURE}" for name in MEASURES}
    area = same.loc[f"area_share:{STRUCTURE}"]
    assert area["excess"] < 4 * area["floor_sd"] + 0.01
    assert area["low"] <= area["value"] <= area["high"]
    assert same["n"].nunique() == 1
    small = measured(run, "small").query("space == 'mask' and reference == 'held_out'").set_index("metric")
    expected = np.pi * (4.5**2 - 2.25**2) / SIZE**2
    assert small.loc[f"area_share:{STRUCTURE}", "value"] == pytest.approx(expected, rel=0.25)
    assert small.loc[f"area_share:{STRUCTURE}", "value"] > 5 * area["value"]
    assert small.loc[f"area_share:{STRUCTURE}", "low"] > small.loc[f"area_share:{STRUCTURE}", "floor"]


def test_what_cannot_be_measured_says_so(run: Path) -> None:
    table = measured(run, "same").query("space == 'mask'").set_index("metric")
    assert "do not both have masks of other" in table.loc["all:other", "note"]
    [note] = measured(run, "bare").query("space == 'mask'")["note"]
    assert note == "not computed, because the pool has no masks"
