"""Run lengths: two encodings and two orders against masks that are written pixel by pixel, and every bad cell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synthgain.data.run_lengths import decode_runs, encode_runs

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def write(mask: np.ndarray, encoding: str, order: str) -> str:
    """The runs of a mask, pixel by pixel: the definition of both encodings."""
    flat = mask.T.ravel() if order == "column" else mask.ravel()
    words: list[int] = []
    end = 0  # one past the last pixel of the run before
    for pixel, inside in enumerate(flat):
        if inside and (pixel == 0 or not flat[pixel - 1]):
            length = int(np.argmin(np.append(flat[pixel:], False)))
            words += [pixel + 1 if encoding == "rle" else pixel - end, length]
            end = pixel + length
    return " ".join(map(str, words)) or "-1"


@given(MASKS, st.sampled_from(["rle", "rle_relative"]), st.sampled_from(["column", "row"]))
def test_what_is_written_is_read_back(mask: np.ndarray, encoding: str, order: str) -> None:
    assert np.array_equal(decode_runs(write(mask, encoding, order), mask.shape, encoding, order), mask)


@given(MASKS)
def test_coco_counts_are_relative_run_lengths(mask: np.ndarray) -> None:
    for encoding in ("coco", "rle_relative"):
        assert np.array_equal(decode_runs(encode_runs(mask), mask.shape, encoding), mask)


@given(MASKS, st.data())
def test_several_masks_of_a_cell_are_joined(mask: np.ndarray, data: st.DataObject) -> None:
    other = data.draw(arrays.arrays(bool, mask.shape))
    cell = f"{write(mask, 'rle', 'row')} ; {write(other, 'rle', 'row')}"
    assert np.array_equal(decode_runs(cell, mask.shape, "rle", "row"), mask | other)


def test_examples_by_hand() -> None:
    # 3 × 2: the second and third pixel of the first column, then the first of the second
    wanted = np.array([[0, 1], [1, 0], [1, 0]], bool)
    assert np.array_equal(decode_runs("2 3", (3, 2)), wanted)
    assert np.array_equal(decode_runs("1 2 0 1", (3, 2), "rle_relative"), wanted)
    assert np.array_equal(decode_runs("1 3 2", (3, 2), "rle_relative"), wanted)
    assert np.array_equal(decode_runs("2 2 5 1", (3, 2), "rle", "row"), wanted)
    assert not decode_runs("-1", (3, 2)).any()


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("2 9", "rle", "overrun the image: they end at pixel 10, it has 6"),
        ("3 2 1 2", "rle_relative", "end at pixel 8, it has 6"),
        ("1 99999999999999999999", "rle", "overrun the image of 6 pixels"),
        ("1 2 3", "rle", "not pairs"),
        ("1 2 9", "rle_relative", "not pairs"),
        ("1 two", "rle", "not pairs"),
        ("1.5 2", "rle", "not pairs"),
        ("1 -2", "rle", "not pairs"),
        ("", "rle", "not pairs"),
        ("0 1", "rle", "go backwards"),
        ("1 0", "rle", "empty, overlap"),
        ("1 3 2 1", "rle", "overlap"),
        ("4 1 1 1", "rle", "go backwards"),
    ],
)
def test_bad_cells_say_what_is_wrong(text: str, encoding: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_runs(text, (3, 2), encoding)
