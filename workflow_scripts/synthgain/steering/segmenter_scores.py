"""Scores of a segmenter, for image and mask pairs: two small segmenters, each trained on half of the training patients,

say how well a sample's own mask fits its image.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional

from synthgain.data.pixels import to_signed
from synthgain.generators.steering_options import PROXY_NETWORKS, SEGMENTER_CHANNELS
from synthgain.generators.training_data import INSIDE
from synthgain.networks.monai_segmenters import build, features
from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import integer_seed
from synthgain.steering.scores import CrossFitted, Scored, halves_of

BATCH, LEARNING_RATE, WEIGHT_DECAY = 16, 1e-2, 0.01
SCORED_AT_ONCE = 64
LEAST_IMAGES = 16  # pairs in each half
_DICE = DiceLoss(sigmoid=True)


@dataclass(frozen=True)
class SegmenterProxy:
    """A small segmenter; the score is the Dice coefficient of a pair's own masks and the predicted ones.

    The mean over structures; one px is added to overlap and sizes, so that two empty masks agree.
    """

    network: nn.Module
    image_channels: int
    device: torch.device

    @torch.inference_mode()
    def score(self, images: Tensor, table: pd.DataFrame) -> np.ndarray:
        """Return the score (N,) of pairs (N, C + K, H, W) uint8: the planes of the image, then those of its masks."""
        self.network.eval()
        found = []
        for part in images.split(SCORED_AT_ONCE):
            predicted = self.network(to_signed(part[:, : self.image_channels].to(self.device))) > 0
            own = part[:, self.image_channels :].to(self.device) > INSIDE // 2
            both, sizes = (predicted & own).sum(dim=(2, 3)), predicted.sum(dim=(2, 3)) + own.sum(dim=(2, 3))
            found.append(((2 * both + 1) / (sizes + 1)).double().mean(dim=1).cpu().numpy())
        return np.concatenate(found)

    @torch.inference_mode()
    def features(self, images: Tensor) -> np.ndarray:
        """Return the (N, d) bottleneck of images (N, C, H, W) uint8, averaged over pixels."""
        self.network.eval()
        parts = [features(self.network, to_signed(part.to(self.device))).cpu() for part in images.split(SCORED_AT_ONCE)]
        return torch.cat(parts).numpy()


def scorer(run: Scored) -> CrossFitted:
    """Return the segmenters of a training run of pairs."""
    table, keys = run.data.table, run.seed_keys
    return train_segmenters(run.data.images, table, run.image_channels, run.reward.proxy_steps, run.device, keys)


def train_segmenters(
    pairs: Tensor,
    table: pd.DataFrame,
    image_channels: int,
    steps: int,
    device: torch.device,
    keys: dict[str, str | int],
) -> CrossFitted:
    """Train a segmenter on each half of the patients. pairs: (N, C + K, H, W) uint8, rows of `table`.

    Raises SynthGainError where a half has too few pairs.
    """
    half_of = halves_of(table["patient_id"], keys)
    halves = half_of.loc[table["patient_id"].astype(str)].to_numpy()
    made = []
    for half in (0, 1):
        rows = np.flatnonzero(halves == half)
        if len(rows) < LEAST_IMAGES:
            raise SynthGainError(
                f"reward.scores: segmenter: half of the training patients have {len(rows)} pairs; a segmenter needs "
                f"{LEAST_IMAGES}"
            )
        seed = integer_seed(step="segmenter proxy", half=half, **keys)
        made.append(SegmenterProxy(_train(pairs, image_channels, rows, steps, device, seed), image_channels, device))
    return CrossFitted(half_of, (made[0], made[1]), lambda scores: scores)


def _train(
    pairs: Tensor, image_channels: int, rows: np.ndarray, steps: int, device: torch.device, seed: int
) -> nn.Module:
    """Train a small segmenter on rows of the pairs."""
    torch.manual_seed(seed)
    structures, name = pairs.shape[1] - image_channels, PROXY_NETWORKS["segmenter"]
    network = build(image_channels, structures, pairs.shape[-1], name, channels=SEGMENTER_CHANNELS).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        picked = pairs[torch.from_numpy(rows[random.integers(0, len(rows), BATCH)])].to(device)
        inside = (picked[:, image_channels:] > INSIDE // 2).float()
        logits = network(to_signed(picked[:, :image_channels]))
        loss = _DICE(logits, inside) + functional.binary_cross_entropy_with_logits(logits, inside)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network
