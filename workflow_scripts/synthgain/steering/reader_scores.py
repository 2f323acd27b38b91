"""Scores of readers: what a panel would say of a sample, learned from the images that it rated.

A ridge regression of the ratings on frozen features (EfficientNet-Lite0), cross-fitted by parent patient. It steers
only where its predictions for patients that it did not see correlate with their ratings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from synthgain.data.replicas import read_replicas
from synthgain.networks.extractors import Extractor
from synthgain.registry import SPACES
from synthgain.runtime.command import logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_table
from synthgain.runtime.loading import load
from synthgain.steering.scores import CrossFitted, Scored, halves_of

SPACE = "efficientnet_lite0"
LEAST_RATED = 200  # images; with fewer, ratings filter and steer nothing
PENALTIES = np.logspace(0, 5, 11)
NORMAL_975 = 1.959964


@dataclass(frozen=True)
class Head:
    """Predicts ratings from frozen features."""

    extractor: Extractor
    model: Pipeline

    def score(self, images: Tensor, table: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.model.predict(self.features(images)), dtype=np.float64)

    def features(self, images: Tensor) -> np.ndarray:
        return self.extractor.extract(np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1)))


def scorer(run: Scored) -> CrossFitted:
    """Return the cross-fitted heads of the panel's ratings.

    Raises SynthGainError where too few images were rated, or the heads do not predict ratings.
    """
    column, place = str(run.reward.column), f"readers {run.reward.name!r}"
    images, rated = rated_images(run, column)
    if len(rated) < LEAST_RATED:
        raise SynthGainError(
            f"reward: {place} rated {len(rated)} images of training patients; below {LEAST_RATED} ratings "
            "filter a pool (filter: {scores: readers}) and do not steer"
        )
    extractor: Extractor = load(SPACES, SPACE).build({}, None, run.device)
    half_of = halves_of(run.data.table["patient_id"], run.seed_keys)
    fitted = fit_heads(extractor, images, rated["patient_id"], rated[column].to_numpy(float), half_of)
    found = fitted.score(images, rated)
    r, low = correlation_bound(found, rated[column].to_numpy(float))
    if not low > 0:
        raise SynthGainError(
            f"reward: what {place} said of {column!r} cannot be predicted (correlation {r:.2f} out of fold, lower 95 % "
            "bound {low:.2f}); it steers nothing: filter by the ratings, or have more images rated".format(low=low)
        )
    logger.info("%s, %s: correlation %.2f out of fold (at least %.2f)", place, column, r, low)
    return fitted


def rated_images(run: Scored, column: str) -> tuple[Tensor, pd.DataFrame]:
    """Return the rated images (N, C, H, W) uint8 of training patients, and their rows: patient_id and the ratings.

    Only images whose pixels are those that were rated: real ones of the training data, and those of the pools.
    """
    given = run.job.inputs.ratings[str(run.reward.name)]
    scores = read_table(given.folder() / "scores.parquet", given.identity)
    if column not in scores:
        raise SynthGainError(f"reward.column: {given.name} has no column {column!r}")
    scores = scores[scores["patient_id"].isin(run.data.table["patient_id"].astype(str)) & scores[column].notna()]
    channels = run.image_channels
    sources: list[tuple[pd.DataFrame, Tensor]] = [(run.data.table, run.data.images[:, :channels])]
    for pool in dict.fromkeys(str(key[0]) for key, _ in run.job.inputs.rated.keyed()):
        entries = run.job.inputs.rated.below(pool).values()
        replicas = read_replicas([(entry.path, entry.identity) for entry in entries])
        wanted = np.flatnonzero(replicas.table["image_id"].isin(scores["image_id"]))
        pixels = replicas.pixels.gather(wanted).transpose(0, 3, 1, 2)
        sources.append((replicas.table.iloc[wanted], torch.from_numpy(pixels.copy())))
    return _joined(sources, scores)


def fit_heads(
    extractor: Extractor, images: Tensor, patients: pd.Series, ratings: np.ndarray, half_of: pd.Series
) -> CrossFitted:
    """Return a head for each half of the patients, fitted on the ratings of its images."""
    halves = half_of.loc[patients.astype(str)].to_numpy()
    features = Head(extractor, make_pipeline(StandardScaler())).features(images)
    heads = []
    for half in (0, 1):
        model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
        heads.append(Head(extractor, model.fit(features[halves == half], ratings[halves == half])))
    return CrossFitted(half_of, (heads[0], heads[1]), lambda scores: np.clip(scores, 0.0, 1.0), images.shape[1])


def correlation_bound(predicted: np.ndarray, ratings: np.ndarray) -> tuple[float, float]:
    """Return Pearson's correlation and its lower 95 % bound (Fisher 1921); NaN where either is constant."""
    if predicted.std() == 0 or ratings.std() == 0:
        return float("nan"), float("nan")
    r = float(np.corrcoef(predicted, ratings)[0, 1])
    return r, float(np.tanh(np.arctanh(np.clip(r, -0.999999, 0.999999)) - NORMAL_975 / (len(ratings) - 3) ** 0.5))


def _joined(sources: Sequence[tuple[pd.DataFrame, Tensor]], scores: pd.DataFrame) -> tuple[Tensor, pd.DataFrame]:
    images, rows = [], []
    for table, pixels in sources:
        own = table[["image_id", "sha256"]].assign(place=np.arange(len(table)))
        found = own.merge(scores, on=["image_id", "sha256"])
        images.append(pixels[torch.tensor(found["place"].tolist(), dtype=torch.int64)])
        rows.append(found)
    return torch.cat(images), pd.concat(rows, ignore_index=True)
