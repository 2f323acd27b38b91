"""Cross-fitted scores of samples: who scores an image has seen neither its parent nor the real images beside it.

The training patients are cut into two halves, and a judge is fitted on each. A sample whose parent is in one half, and
the real images of that half, are scored by the judge of the other. Patients of validation and test are never read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from synthgain.generators.steering_options import Reward
from synthgain.generators.training_data import TrainingData
from synthgain.runtime.command import Job
from synthgain.seeds import random_generator


class Scored(Protocol):
    """What a source of scores may look at: the training that it steers."""

    data: TrainingData
    job: Job
    reward: Reward
    seed_keys: dict[str, str | int]

    @property
    def real_table(self) -> pd.DataFrame:
        """The rows of the data, with what real images show as their target where that is known better."""

    @property
    def image_channels(self) -> int:
        """Channels of the image among what is drawn."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""


class Judge(Protocol):
    """Scores images."""

    def score(self, images: Tensor, table: pd.DataFrame) -> np.ndarray:
        """Return the score (N,) float64 of images (N, C, H, W) uint8 for their rows; NaN where it has none."""

    def features(self, images: Tensor) -> np.ndarray:
        """Return features (N, d) float32 in which the spread of samples is measured."""


@dataclass(frozen=True)
class CrossFitted:
    """Two judges. half_of: {patient: 0 or 1}; judges[h] was fitted on half h and scores the other one.

    unit: maps scores to 0 … 1, where means are compared and printed. channels: how many of the planes are scored; None:
    all, masks of pairs too.
    """

    half_of: pd.Series
    judges: tuple[Judge, Judge]
    unit: Callable[[np.ndarray], np.ndarray]
    channels: int | None = None

    def score(self, images: Tensor, table: pd.DataFrame, patients: str = "patient_id") -> np.ndarray:
        """Return each image's score by the judge that did not see its patient (column `patients`): (N,) float64."""
        halves = self.half_of.loc[table[patients].astype(str)].to_numpy()
        found = np.full(len(table), np.nan)
        for half in (0, 1):
            rows = np.flatnonzero(halves == half)
            if len(rows):
                planes = images[torch.from_numpy(rows), : self.channels]
                found[rows] = self.judges[1 - half].score(planes, table.iloc[rows])
        return found


def halves_of(patients: pd.Series, keys: dict[str, str | int]) -> pd.Series:
    """Return {patient: 0 or 1}, at random, of equal size."""
    names = np.unique(patients.astype(str))
    order = random_generator(step="steering halves", **keys).permutation(len(names))
    return pd.Series(order % 2, index=names)
