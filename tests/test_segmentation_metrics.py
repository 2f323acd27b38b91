"""Scores of masks: MONAI's values, the empty-mask table of docs/statistics.md, and masks as text."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice
from scipy import ndimage

from synthgain.data.run_lengths import decode_runs, encode_runs
from synthgain.metrics import mask_scores

pytestmark = pytest.mark.filterwarnings("ignore:.*(is all 0|has been deprecated)")  # of MONAI
EMPTY = np.zeros((24, 20), dtype=bool)
SOME = EMPTY.copy()
SOME[5:12, 4:15] = True
MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def monai_scores(truth: np.ndarray, predicted: np.ndarray, tolerance: float) -> dict[str, float]:
    y, found = (torch.from_numpy(mask)[None, None].float() for mask in (truth, predicted))
    return {
        "dice": float(compute_dice(found, y)),
        "iou": float(compute_iou(found, y)),
        "nsd": float(compute_surface_dice(found, y, [tolerance], include_background=True)),
        "hd95": float(compute_hausdorff_distance(found, y, include_background=True, percentile=95)),
    }


def blob(seed: int, shift: int = 0) -> np.ndarray:
    """A ragged blob that may touch the border."""
    noise = np.random.default_rng(seed).normal(size=(40, 33))
    smooth = np.roll(ndimage.gaussian_filter(noise, 3), shift, axis=0)
    return smooth > np.quantile(smooth, 0.8)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.0, 3.5])
def test_scores_are_those_of_monai(seed: int, tolerance: float) -> None:
    truth, predicted = blob(seed), blob(seed + 100 * (seed % 3 == 0), shift=seed % 4)
    found = mask_scores(truth, predicted, tolerance)
    assert found == pytest.approx(monai_scores(truth, predicted, tolerance), abs=1e-5)


def test_a_perfect_and_a_shifted_square() -> None:
    assert mask_scores(SOME, SOME, 0) == {"dice": 1.0, "iou": 1.0, "nsd": 1.0, "hd95": 0.0}
    moved = np.roll(SOME, 3, axis=1)
    assert mask_scores(SOME, moved, 3)["nsd"] == 1.0
    assert mask_scores(SOME, moved, 2)["nsd"] < 1.0
    assert mask_scores(SOME, moved, 2)["hd95"] == 3.0


CASES = {  # what docs/statistics.md and method.md §2.4 say
    "truth empty, prediction not": (EMPTY, SOME, {"dice": np.nan, "iou": np.nan, "nsd": 0.0, "hd95": np.nan}),
    "both empty": (EMPTY, EMPTY, {"dice": np.nan, "iou": np.nan, "nsd": np.nan, "hd95": np.nan}),
    "prediction empty, truth not": (SOME, EMPTY, {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "hd95": np.nan}),
}


@pytest.mark.parametrize("case", CASES)
def test_empty_mask_table(case: str) -> None:
    truth, predicted, expected = CASES[case]
    assert mask_scores(truth, predicted, 2.0) == pytest.approx(expected, nan_ok=True)
    theirs = monai_scores(truth, predicted, 2.0)
    theirs["hd95"] = theirs["hd95"] if np.isfinite(theirs["hd95"]) else np.nan
    assert theirs == pytest.approx(expected, nan_ok=True)


@given(MASKS)
@settings(max_examples=60)
def test_scores_have_their_ranges(truth: np.ndarray) -> None:
    predicted = np.roll(truth, 1, axis=0)
    found, swapped = mask_scores(truth, predicted, 1.0), mask_scores(predicted, truth, 1.0)
    assert found == pytest.approx(swapped, nan_ok=True)
    if truth.any():
        assert 0 <= found["iou"] <= found["dice"] <= 1
        assert 0 <= found["nsd"] <= 1
        assert 0 <= found["hd95"] <= np.hypot(*truth.shape)


@given(MASKS)
def test_masks_survive_as_text(mask: np.ndarray) -> None:
    text = encode_runs(mask)
    assert np.array_equal(decode_runs(text, mask.shape, "coco"), mask)
    assert len(text.split()) <= mask.size + 1


def test_run_lengths_go_down_the_columns_zeros_first() -> None:
    mask = np.array([[0, 1], [0, 1], [1, 0]])
    assert encode_runs(mask) == "2 3 1"
    assert encode_runs(1 - mask) == "0 2 3 1"
    with pytest.raises(ValueError, match="cover 6 pixels"):
        decode_runs("2 3 1", (2, 2), "coco")
