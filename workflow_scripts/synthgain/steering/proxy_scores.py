"""Scores of a proxy: two small classifiers, each trained on half of the training patients, say how well a sample shows

the value of one column that it was drawn for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from synthgain.data.image_set import Columns
from synthgain.data.pixels import to_signed
from synthgain.networks.small_cnn import SmallCNN, build
from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import integer_seed
from synthgain.steering.scores import CrossFitted, Scored, halves_of

BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 2e-3, 0.05
SCORED_AT_ONCE = 256
LEAST_IMAGES = 8  # of each value of the target, in each half


@dataclass(frozen=True)
class Proxy:
    """A small classifier of one column; the score is the log-odds of the value that the row has."""

    network: SmallCNN
    levels: list[object]
    target: str
    device: torch.device

    def score(self, images: Tensor, table: pd.DataFrame) -> np.ndarray:
        codes = codes_of(table[self.target], self.levels)
        logs = functional.log_softmax(self._over(images, self.network), dim=1).double().numpy()
        known = codes >= 0
        own = logs[np.arange(len(codes)), np.where(known, codes, 0)]
        with np.errstate(divide="ignore"):
            odds = own - np.log(-np.expm1(np.minimum(own, -1e-12)))
        return np.where(known, odds, np.nan)

    def features(self, images: Tensor) -> np.ndarray:
        return self._over(images, self.network.features).numpy()

    @torch.inference_mode()
    def _over(self, images: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        self.network.eval()
        parts = [forward(to_signed(part.to(self.device))).float().cpu() for part in images.split(SCORED_AT_ONCE)]
        return torch.cat(parts)


def scorer(run: Scored) -> CrossFitted:
    """Return the proxies of a training run."""
    reward, data = run.reward, run.data
    images = data.images[:, : run.image_channels]
    target = str(reward.target)
    said, known = (sorted(table[target].dropna().unique().tolist()) for table in (run.real_table, data.table))
    if not set(said) <= set(known):
        raise SynthGainError(f"reward.labels {reward.labels!r} has the values {said}, and {target!r} has {known}")
    return train_proxies(images, run.real_table, data.columns, target, reward.proxy_steps, run.device, run.seed_keys)


def train_proxies(
    images: Tensor,
    table: pd.DataFrame,
    columns: Columns,
    target: str,
    steps: int,
    device: torch.device,
    keys: dict[str, str | int],
) -> CrossFitted:
    """Train a classifier of `target` on each half of the patients. images: (N, C, H, W) uint8, rows of `table`.

    Raises SynthGainError where a half lacks a value of the target.
    """
    if target not in columns or columns[target]["kind"] == "continuous":
        named = ", ".join(name for name, spec in columns.items() if spec["kind"] != "continuous")
        raise SynthGainError(f"reward.target {target!r}: a column with levels is needed; there are {named}")
    half_of = halves_of(table["patient_id"], keys)
    levels: list[object] = sorted(table[target].dropna().unique().tolist())
    codes = codes_of(table[target], levels)
    halves = half_of.loc[table["patient_id"].astype(str)].to_numpy()
    made = []
    for half in (0, 1):
        rows = np.flatnonzero((halves == half) & (codes >= 0))
        counts = np.bincount(codes[rows], minlength=len(levels))
        if len(levels) < 2 or counts.min() < LEAST_IMAGES:
            raise SynthGainError(
                f"reward.target {target!r}: half of the training patients have {counts.tolist()} images of its values "
                f"{levels}; a proxy needs {LEAST_IMAGES} of each of two or more"
            )
        network = _train(images, rows, codes, len(levels), steps, device, integer_seed(step="proxy", half=half, **keys))
        made.append(Proxy(network, levels, target, device))
    return CrossFitted(half_of, (made[0], made[1]), lambda odds: 1 / (1 + np.exp(-odds)), images.shape[1])


def codes_of(values: pd.Series, levels: list[object]) -> np.ndarray:
    """Return the position of each value among the levels, −1 where it is unknown: (N,) int64."""
    return pd.Categorical(values, categories=levels).codes.astype(np.int64)


def _train(
    images: Tensor, rows: np.ndarray, codes: np.ndarray, levels: int, steps: int, device: torch.device, seed: int
) -> SmallCNN:
    """Train a small classifier with equal shares of the levels in each batch."""
    torch.manual_seed(seed)
    network = build(images.shape[1], levels, images.shape[-1]).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    random = np.random.default_rng(seed)
    share = 1.0 / np.bincount(codes[rows], minlength=levels)[codes[rows]]
    share /= share.sum()
    for _ in range(steps):
        picked = rows[random.choice(len(rows), min(BATCH, len(rows)), p=share)]
        batch = to_signed(images[torch.from_numpy(picked)].to(device))
        loss = functional.cross_entropy(network(batch), torch.from_numpy(codes[picked]).to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network
