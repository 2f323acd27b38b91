"""Membership inference on the denoising loss: does the generator know its training images better than new ones?

Loss of a real image at a few noise levels under its own condition (SecMI family; Carlini et al. 2023): lower on
training images than on held-out ones means a leak, also where no sample is a copy.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from synthgain.data.pixels import mask_batch, to_batch
from synthgain.generators.loading import Denoiser
from synthgain.metrics import auroc
from synthgain.seeds import random_generator

COLUMNS = (
    "noise_level", "n_train", "n_held_out", "auroc", "low", "high", "tpr_at_1_fpr", "tpr_low", "tpr_high", "leak",
    "note",
)  # fmt: skip
NOISE_LEVELS = (0.2, 0.5, 1.0, 2.0)  # in units of sigma_data: where an image is partly destroyed
RED = 0.55  # AUROC whose interval lies above it is a red flag; above 0.5 a leak
FALSE_POSITIVES = 0.01
RESAMPLES = 500
BATCH = 64
COARSE = "fewer than 100 held-out images: TPR at 1 % FPR is coarse"


def denoising_losses(
    generator: Denoiser,
    images: np.ndarray,
    table: pd.DataFrame,
    levels: Sequence[float],
    draws: int,
    device: torch.device,
    masks: np.ndarray | None = None,
    **seed_keys: str | int,
) -> np.ndarray:
    """Mean squared denoising error per image and noise level, (N, levels) float64.

    images: (N, H, W, C) uint8; table: their rows, in the same order. masks: (N, H, W, K) in {0, 1} of the generator's
    structures, which it denoises together with the image (`output` image+mask) or takes as its condition. Noise
    depends on the seed keys, image id, level and draw only, so that losses do not depend on order or batch.
    """
    losses = np.zeros((len(images), len(levels)))
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        clean = to_batch(torch.from_numpy(np.array(images[rows])))
        planes = None if masks is None else mask_batch(masks[rows])
        if planes is not None and generator.output != "image":
            clean, planes = torch.cat([clean, planes], dim=1), None
        with torch.inference_mode():
            clean = generator.encode(clean.to(device))
        given = (table.iloc[rows],) if planes is None else (table.iloc[rows], planes)
        condition = generator.encode_conditions(*given)
        ids = table["image_id"].astype(str).iloc[rows].tolist()
        for column, level in enumerate(levels):
            sigma = torch.full((len(clean),), level * float(generator.sigma_data), device=device)
            for draw in range(draws):
                noise = torch.from_numpy(_noise(ids, clean.shape[1:], column, draw, seed_keys)).to(device)
                with torch.inference_mode():
                    found = generator.denoise(clean + sigma[:, None, None, None] * noise, sigma, condition)
                losses[rows, column] += ((found - clean) ** 2).flatten(1).mean(1).double().cpu().numpy() / draws
    return losses


def membership_rows(
    train: np.ndarray,
    held_out: np.ndarray,
    levels: Sequence[float],
    train_patients: np.ndarray,
    held_out_patients: np.ndarray,
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    """One row per noise level and one for "all" (mean of log losses) from (N, levels) losses.

    A training image counts as positive, its score is minus the loss. Intervals resample patients.
    """
    columns = {f"{level:g} sigma_data": (train[:, i], held_out[:, i]) for i, level in enumerate(levels)}
    tiny = np.finfo(np.float64).tiny
    columns["all"] = tuple(np.log(np.maximum(side, tiny)).mean(1) for side in (train, held_out))
    rows = []
    for name, (members, others) in columns.items():
        value = _scores(members, others)
        drawn = np.array(
            [
                _scores(_resample(members, train_patients, rng), _resample(others, held_out_patients, rng))
                for _ in range(RESAMPLES)
            ]
        )
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        leak = "red" if low[0] > RED else "leak" if low[0] > 0.5 else "none found"
        rows.append(
            {
                "noise_level": name, "n_train": len(members), "n_held_out": len(others), "auroc": value[0],
                "low": low[0], "high": high[0], "tpr_at_1_fpr": value[1], "tpr_low": low[1], "tpr_high": high[1],
                "leak": leak, "note": COARSE if len(others) < 100 else "",
            }
        )  # fmt: skip
    return rows


def not_applicable(reason: str) -> list[dict[str, object]]:
    """The one row of a pool without a diffusion generator."""
    blank = dict.fromkeys(COLUMNS, np.nan)
    return [{**blank, "noise_level": "all", "leak": "not applicable", "note": reason}]


def _scores(members: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    truth = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    area = auroc(truth, -np.concatenate([members, others]))
    cut = np.quantile(others, FALSE_POSITIVES, method="lower")
    return area, float((members < cut).mean())


def _resample(values: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, code = np.unique(patients, return_inverse=True)
    count = code.max() + 1
    drawn = np.bincount(rng.integers(count, size=count), minlength=count)
    return np.repeat(values, drawn[code])


def _noise(ids: list[str], shape: Sequence[int], level: int, draw: int, seed_keys: dict[str, str | int]) -> np.ndarray:
    rows = [random_generator(**seed_keys, image=name, level=level, draw=draw) for name in ids]
    return np.stack([rng.standard_normal(tuple(shape), dtype=np.float32) for rng in rows])
