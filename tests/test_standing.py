"""What a look may claim: planned, unplanned, or no look at all."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from synthgain.statistics.standing import (
    LOOK,
    REANALYSIS,
    UNPLANNED,
    both,
    predictions_of,
    standing_of,
    without_words,
)

PRIMARY = {"model": "cnn", "arm": "supplemented", "ratio": 100, "baseline": "real"}
DECLARED: dict[str, Any] = {"comparisons": [PRIMARY], "looks": [4, 8, 12], "alpha": 0.05, "margin": 0.02}
SEEDS = [f"seed {number}" for number in range(20)]


def line(count: int, predictions: list[str] | None = None, unplanned: str = "", kind: str = LOOK) -> dict[str, Any]:
    made = SEEDS[:count] if predictions is None else predictions
    return {"kind": kind, "comparison": PRIMARY, "predictions": made, "unplanned": unplanned}


def standing(lines: list[dict], count: int, predictions: list[str] | None = None, **changes: Any) -> Any:
    made = SEEDS[:count] if predictions is None else predictions
    return standing_of(lines, PRIMARY, made, {**DECLARED, **changes}, DECLARED)


def test_planned_looks_follow_one_another() -> None:
    assert (standing([], 4).number, standing([], 4).of) == (1, 3)
    found = standing([line(4)], 8)
    assert (found.kind, found.number, found.unplanned) == (LOOK, 2, "")
    assert standing([line(4), line(8)], 12).number == 3
    assert standing([], 12).number == 3  # earlier looks may be left out


def test_the_same_predictions_again_are_no_look() -> None:
    found = standing([line(4), line(8)], 8)
    assert (found.kind, found.number, found.unplanned) == (REANALYSIS, 2, "")
    assert standing([line(4), line(8)], 4).kind == REANALYSIS
    again = standing([line(4), line(8, unplanned="why")], 8)
    assert (again.kind, again.unplanned) == (REANALYSIS, "why")


def test_another_number_of_replicates_is_unplanned() -> None:
    assert standing([line(4)], 5).unplanned == "5 replicates, where looks were planned at 4, 8 and 12"
    one = {**DECLARED, "looks": [5]}
    found = standing_of([line(5)], PRIMARY, SEEDS[:10], {**one, "looks": [10]}, one)
    assert found.unplanned == "10 replicates, where one look was planned at 5"


@pytest.mark.parametrize(
    ("lines", "count", "predictions", "said"),
    [
        ([line(4)], 4, ["other"] * 4, "looked at before, with 4 replicates and other predictions"),
        ([line(4)], 8, ["other", *SEEDS[1:8]], "replicates that an earlier look had (4) predict otherwise now"),
        ([line(8)], 4, None, "looked at before, with 8 replicates"),
        ([line(4), line(6, unplanned="why")], 8, None, "an earlier look was not planned"),
    ],
)
def test_new_predictions_that_do_not_continue_are_unplanned(
    lines: list[dict], count: int, predictions: list[str] | None, said: str
) -> None:
    assert said in standing(lines, count, predictions).unplanned


def test_what_was_declared_before_the_first_look_counts() -> None:
    assert standing([line(4)], 4, margin=0.05).unplanned == "margin was 0.02 before the first look, and is 0.05"
    assert standing([line(4)], 8, looks=[4, 8, 16]).unplanned.startswith("looks was 4 8 12 before")
    other = {**PRIMARY, "arm": "synthetic_only"}
    found = standing_of([line(4)], other, SEEDS[:4], {**DECLARED, "comparisons": [other]}, DECLARED)
    assert found.unplanned == "another comparison was declared before the first look"


def test_a_ledger_that_is_not_whole_supports_no_look() -> None:
    assert (
        standing_of([], PRIMARY, SEEDS[:4], DECLARED, DECLARED, "line 2 was changed").unplanned == "line 2 was changed"
    )


def test_unplanned_looks_made_before_are_counted() -> None:
    lines = [line(4), line(5, unplanned="why"), line(5, unplanned="why", kind=REANALYSIS)]
    assert standing(lines, 8).others == 1


def predictions(replicates: int, ratio: int = 0, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    score = rng.random((replicates, 6)).astype("float32") + np.float32(shift)
    frames = []
    for replicate in range(replicates):
        frame = pd.DataFrame({"image_id": [f"i{n}" for n in range(6)], "score": score[replicate]})
        frames.append(frame.assign(replicate=replicate, ratio=ratio, dataset="a", part="test", label="x", truth=1.0))
    return pd.concat(frames, ignore_index=True)


def test_predictions_are_the_same_whatever_their_order_and_differ_by_one_bit() -> None:
    table = predictions(3)
    found = predictions_of(table, 0, "a")
    assert list(found) == [0, 1, 2]
    assert predictions_of(table.sample(frac=1, random_state=2), 0, "a") == found
    table.loc[7, "score"] = np.nextafter(np.float32(table.loc[7, "score"]), np.float32(2))
    assert [a == b for a, b in zip(predictions_of(table, 0, "a").values(), found.values(), strict=True)] == [
        True,
        False,
        True,
    ]
    assert predictions_of(predictions(5), 0, "a")[2] != found[1]
    assert both(found, {0: "a", 2: "b", 9: "c"}) == both({0: found[0], 2: found[2]}, {0: "a", 2: "b"})


def test_words_are_taken_and_numbers_stay() -> None:
    place = {"dataset": "a", "label": "macro", "metric": "auroc", "reason": "", "difference": 0.1}
    rows = [
        {"arm": "x", "ratio": 100, "verdict": "helps"},
        {"arm": "x", "ratio": 300, "verdict": "inconclusive"},
        {"arm": "y", "ratio": 100, "verdict": "helps"},
    ]
    table = pd.DataFrame([row | place for row in rows])
    found = without_words(table, {("x", "a", "macro", "auroc"): "10 replicates"})
    assert list(found["verdict"]) == [UNPLANNED, UNPLANNED, "helps"]
    assert list(found["reason"]) == ["10 replicates", "10 replicates", ""]
    assert list(found["difference"]) == [0.1] * 3
    assert list(without_words(table, {})["verdict"]) == list(table["verdict"])
