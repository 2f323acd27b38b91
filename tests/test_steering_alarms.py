"""Each alarm of steering is raised by what it is for; segmenters as proxies know a mask that does not fit."""

import numpy as np
import pandas as pd
import pytest
import torch

from synthgain.runtime.errors import SynthGainError
from synthgain.steering.alarms import Drawn, measured, raised
from synthgain.steering.scores import CrossFitted
from synthgain.steering.segmenter_scores import train_segmenters

COUNT, SIDE = 240, 12


class Place:
    """The judge of discs: their score is how bright they are, their features where they lie and how bright."""

    def score(self, images, table):
        return bright(images)

    def features(self, images):
        planes = images.numpy()[:, 0].astype(float)
        weight = planes.sum(axis=(1, 2)) + 1e-9
        axis = np.arange(SIDE)
        rows, columns = (planes.sum(axis=2) @ axis) / weight, (planes.sum(axis=1) @ axis) / weight
        return np.stack([rows, columns, bright(images) / 64], axis=1)


def bright(images):
    return images.numpy().reshape(len(images), -1).max(axis=1).astype(float)


SCORER = CrossFitted(pd.Series([0, 1], index=["a", "b"]), (Place(), Place()), lambda score: score / 255)


def discs(seed, brightness=(100, 200), places=(2, 10), radius=2):
    """Discs (N, 1, S, S) of these ranges of brightness and place."""
    rng = np.random.default_rng(seed)
    row, column = (rng.uniform(*places, COUNT) for _ in range(2))
    level = rng.uniform(*brightness, COUNT)
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = (y - row[:, None, None]) ** 2 + (x - column[:, None, None]) ** 2 <= radius**2
    image = inside * level[:, None, None] + rng.uniform(0, 8, (COUNT, SIDE, SIDE))
    return torch.from_numpy(np.round(image).astype(np.uint8)[:, None]), torch.from_numpy(inside)


def drawn(images):
    return Drawn(images, bright(images), np.full(len(images), "all", dtype=object))


REAL = discs(0)[0]


def alarms_of(images):
    before = measured(drawn(discs(1)[0]), drawn(REAL), SCORER, 1)
    return [alarm.split(":")[0] for alarm in raised(before, measured(drawn(images), drawn(REAL), SCORER, 1))]


def test_samples_like_real_images_raise_nothing():
    assert alarms_of(discs(2)[0]) == []


def test_brighter_samples_than_real_ones_score_above_real():
    assert "score above real" in alarms_of(discs(2, brightness=(185, 200))[0])


def test_samples_of_one_place_have_less_spread_and_recall():
    found = alarms_of(discs(2, places=(5, 7))[0])
    assert {"less spread", "recall down"} <= set(found)


def test_samples_that_leave_out_a_kind_of_image_lose_recall_and_keep_their_spread():
    images = torch.cat([discs(2, places=(2, 4))[0][: COUNT // 2], discs(3, places=(8, 10))[0][: COUNT // 2]])
    found = alarms_of(images)
    assert "recall down" in found
    assert "less spread" not in found


def test_samples_that_repeat_training_images_are_copies():
    images = torch.cat([discs(2)[0][: COUNT // 2], (REAL[: COUNT // 2].int() + 1).clamp(max=255).to(torch.uint8)])
    assert alarms_of(images) == ["copies up"]


def test_rows_without_a_score_are_no_class_of_their_own():
    scores = bright(REAL)
    scores[::2] = np.nan
    mixed = Drawn(REAL, scores, np.where(np.isnan(scores), "unknown", "all").astype(object))
    found = measured(drawn(discs(1)[0]), mixed, SCORER, 1)
    known = Drawn(REAL[1::2], scores[1::2], mixed.condition[1::2])
    assert found["real_spread"] == measured(drawn(discs(1)[0]), known, SCORER, 1)["real_spread"]


def pairs(seed, shift=0):
    """Image and mask of discs as one (N, 2, S, S); the mask moved by some pixels."""
    image, inside = discs(seed)
    return torch.cat([image, torch.roll(inside, shift, dims=2)[:, None].to(torch.uint8) * 255], dim=1)


def test_cross_fitted_segmenters_score_a_mask_that_fits_above_one_that_does_not():
    table = pd.DataFrame({"patient_id": [f"p{number}" for number in range(COUNT)]})
    fitted = train_segmenters(pairs(0), table, 1, 120, torch.device("cpu"), {"study": 0})
    fits, moved = (fitted.score(planes, table) for planes in (pairs(0), pairs(0, shift=3)))
    assert fits.mean() > 0.8
    assert (fits > moved).mean() > 0.95
    assert fitted.judges[0].features(pairs(0)[:5, :1]).shape[0] == 5
    seen = {half: set(fitted.half_of.index[fitted.half_of == half]) for half in (0, 1)}
    assert not seen[0] & seen[1]
    with pytest.raises(SynthGainError, match="segmenter: half of the training patients have 5 pairs"):
        train_segmenters(pairs(0)[:10], table[:10], 1, 5, torch.device("cpu"), {"study": 0})
