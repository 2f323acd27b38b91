"""Label consistency: does the real-only model see in a synthetic image what its row says?

Train on real, test on synthetic (Ravuri & Vinyals 2019 the other way round): AUROC per label and subgroup, and
of the same model on real validation images. Lower than real: labels are lost. Higher: synthetic cases are easier.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from synthgain.data.pixels import to_batch
from synthgain.evaluation.inputs import members_of
from synthgain.metrics import auroc

COLUMNS = (
    "label", "group", "n", "positives", "value", "low", "high", "real_n", "real_value", "real_low", "real_high",
    "difference", "note",
)  # fmt: skip
RESAMPLES = 300
BATCH = 256


def logits_of(network: nn.Module, images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return (N, K) float32 logits on the CPU of (N, H, W, C) uint8 images."""
    network.eval().to(device)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)
            parts.append(network(to_batch(batch)).float().cpu())
    return torch.cat(parts)


def agreement(truth: np.ndarray, scores: np.ndarray, exclusive: bool) -> np.ndarray:
    """Probability that the model gives to the row's own labels, (N,) float32, NaN where none is known.

    truth (N, K) in {0, 1, NaN}, scores (N, K) probabilities. exclusive: one level is true (multi-class), and its
    probability counts; else the mean over known labels.
    """
    known = ~np.isnan(truth)
    given = np.where(truth == 1, scores, 0.0 if exclusive else 1.0 - scores)
    count = known.any(1).astype(float) if exclusive else known.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, given, 0.0).sum(1) / count, dtype=np.float32)


def consistency_rows(
    label: str,
    synthetic: tuple[np.ndarray, np.ndarray, np.ndarray, Mapping[str, np.ndarray]],
    real: tuple[np.ndarray, np.ndarray, np.ndarray, Mapping[str, np.ndarray]],
    minimum: int,
    rng: np.random.Generator,
) -> list[dict[str, float | str]]:
    """One row per group of one label. Each side: truth (N,), score (N,), patients (N,), groups {name: (N,) bool}.

    Intervals resample patients. A group with fewer than `minimum` positives or negatives says so instead.
    """
    rows = []
    for group, members in synthetic[3].items():
        blank: dict[str, float | str] = dict.fromkeys(COLUMNS, np.nan) | {"label": label, "group": group, "note": ""}
        ours = _area(synthetic, members, minimum, rng)
        theirs = _area(real, members_of(real[3], group, len(real[0])), minimum, rng)
        row = blank | {"n": ours["n"], "positives": ours["positives"], "real_n": theirs["n"]}
        row |= {"value": ours["value"], "low": ours["low"], "high": ours["high"]}
        row |= {"real_value": theirs["value"], "real_low": theirs["low"], "real_high": theirs["high"]}
        row["difference"] = ours["value"] - theirs["value"]
        short = [name for name, side in (("synthetic", ours), ("real", theirs)) if np.isnan(side["value"])]
        if short:
            row["note"] = f"not computed on {' and '.join(short)}: fewer than {minimum} positives or negatives"
        rows.append(row)
    return rows


def _area(
    side: tuple[np.ndarray, np.ndarray, np.ndarray, Mapping[str, np.ndarray]],
    members: np.ndarray,
    minimum: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    used = members & ~np.isnan(side[0])
    truth, score, patients = side[0][used], side[1][used], side[2][used]
    positives = int((truth == 1).sum())
    counts = {"n": len(truth), "positives": positives}
    if min(positives, len(truth) - positives) < minimum:
        return {**counts, "value": np.nan, "low": np.nan, "high": np.nan}
    _, code = np.unique(patients, return_inverse=True)
    drawn = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(code.max() + 1, size=code.max() + 1), minlength=code.max() + 1)[code]
        drawn.append(auroc(np.repeat(truth, times), np.repeat(score, times)))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {**counts, "value": auroc(truth, score), "low": float(low), "high": float(high)}
