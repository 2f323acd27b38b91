"""Mask agreement: does the real-only segmenter find in a synthetic image the mask that belongs to it?

Dice between the pair's own mask and the prediction, and of the same model on real validation images. Lower than on real
images: masks do not follow the object (below 0.5 a bad pair). Higher: the synthetic cases are easier.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from synthgain.data.pixels import to_batch
from synthgain.evaluation.inputs import Images, Masks, members_of, pool_masks, real_masks
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError

COLUMNS = (
    "structure", "group", "n", "empty", "mean", "low", "high", "median", "p5", "below_half", "real_n", "real_mean",
    "real_low", "real_high", "real_median", "real_p5", "real_below_half", "difference", "note",
)  # fmt: skip
BAD_PAIR = 0.5  # Dice below which a pair counts as bad
LOWEST_SHARE = 0.05
RESAMPLES = 500
BATCH = 64
Predict = Callable[[np.ndarray], np.ndarray]  # (n, H, W, C) uint8 -> (n, H, W, K) bool


def predictor(logits: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> Predict:
    """Return the decision of a segmenter on uint8 images: probability above 0.5, per structure.

    logits: (n, C, H, W) in [−1, 1] on `device` -> (n, K, H, W).
    """

    def predict(images: np.ndarray) -> np.ndarray:
        x = to_batch(torch.from_numpy(np.ascontiguousarray(images)).to(device))
        with torch.inference_mode():
            return (logits(x) > 0).permute(0, 2, 3, 1).cpu().numpy()

    return predict


def masks_of(job: Job, pool: str, index: int, dataset: str) -> tuple[Masks, Masks]:
    """Masks of a pool and of the real set that it is held against; SynthGainError where one of them has none."""
    ours, theirs = pool_masks(job, pool, index), real_masks(job, dataset)
    if ours is None:
        raise SynthGainError(
            f"pools.{pool}: its images have no masks, so no segmentation can be scored; draw it from a generator with "
            "output: image+mask or from one that is conditioned on masks, or leave it out of evaluation.pools"
        )
    if theirs is None:
        raise SynthGainError(f"datasets.{dataset}: has no masks; give it `mask:` or score another pool")
    return ours, theirs


def dice_scores(predict: Predict, images: Images, masks: Masks, structures: Sequence[str]) -> pd.DataFrame:
    """One row per image: image_id, dice_<structure>, empty_<structure>, and `dice`, their mean over structures.

    One empty mask of two agrees with nothing (0); NaN where both are empty, so that nothing tells whether masks follow
    objects, and where the image has no mask of the structure.
    """
    ids = images.table["image_id"].astype(str).to_numpy()
    positions = {name: masks.positions(ids, name) for name in structures}
    dice = np.full((len(ids), len(structures)), np.nan)
    empty = np.zeros(dice.shape, dtype=bool)
    for start in range(0, len(ids), BATCH):
        rows = np.arange(start, min(start + BATCH, len(ids)))
        predicted = predict(images.pixels(rows))
        for column, name in enumerate(structures):
            has = positions[name][rows] >= 0
            own = masks.plane(positions[name][rows][has], name)
            dice[rows[has], column] = overlap(own, predicted[has][..., column])
            empty[rows[has], column] = ~own.any(axis=(1, 2))
    known = np.isfinite(dice)
    mean = np.divide(np.where(known, dice, 0).sum(1), known.sum(1), out=np.full(len(ids), np.nan), where=known.any(1))
    columns: dict[str, np.ndarray] = {"image_id": ids}
    for column, name in enumerate(structures):
        columns |= {f"dice_{name}": dice[:, column].astype(np.float32), f"empty_{name}": empty[:, column]}
    return pd.DataFrame(columns | {"dice": mean.astype(np.float32)})


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dice of each pair of masks (n, H, W) bool: (n,) float64, NaN where both are empty."""
    both = (first & second).sum(axis=(1, 2), dtype=np.float64)
    total = first.sum(axis=(1, 2), dtype=np.float64) + second.sum(axis=(1, 2), dtype=np.float64)
    return np.divide(2 * both, total, out=np.full_like(both, np.nan), where=total > 0)


def agreement_rows(
    structure: str,
    synthetic: tuple[pd.DataFrame, np.ndarray, Mapping[str, np.ndarray]],
    real: tuple[pd.DataFrame, np.ndarray, Mapping[str, np.ndarray]],
    minimum: int,
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    """One row per group of one structure. Each side: `dice_scores`, patients (N,), groups {name: (N,) bool}.

    Only images whose own mask is not empty count; `empty` says how many synthetic ones are. Intervals of the mean
    resample patients. A group with fewer than `minimum` images on a side says so instead.
    """
    rows = []
    for group, members in synthetic[2].items():
        ours = _summary(synthetic, structure, members, minimum, rng)
        theirs = _summary(real, structure, members_of(real[2], group, len(real[0])), minimum, rng)
        row: dict[str, object] = {"structure": structure, "group": group, **ours}
        row |= {f"real_{name}": value for name, value in theirs.items() if name != "empty"}
        row["difference"] = ours["mean"] - theirs["mean"]
        short = [name for name, side in (("synthetic", ours), ("real", theirs)) if np.isnan(side["mean"])]
        what = f"not computed on {' and '.join(short)}: fewer than {minimum} images with a mask that is not empty"
        rows.append(row | {"note": what if short else ""})
    return rows


def _summary(
    side: tuple[pd.DataFrame, np.ndarray, Mapping[str, np.ndarray]],
    structure: str,
    members: np.ndarray,
    minimum: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    table, patients, _ = side
    dice, empty = table[f"dice_{structure}"].to_numpy(np.float64), table[f"empty_{structure}"].to_numpy(bool)
    used = members & np.isfinite(dice) & ~empty
    counts = {"n": int(used.sum()), "empty": int((members & empty).sum())}
    if counts["n"] < minimum:
        return counts | dict.fromkeys(("mean", "low", "high", "median", "p5", "below_half"), np.nan)
    values = dice[used]
    low, high = _mean_interval(values, patients[used], rng)
    return counts | {
        "mean": float(values.mean()), "low": low, "high": high, "median": float(np.median(values)),
        "p5": float(np.quantile(values, LOWEST_SHARE)), "below_half": float((values < BAD_PAIR).mean()),
    }  # fmt: skip


def _mean_interval(values: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    _, code = np.unique(patients, return_inverse=True)
    owners = int(code.max()) + 1
    total, count = np.bincount(code, values, owners), np.bincount(code, minlength=owners)
    drawn = rng.multinomial(owners, np.full(owners, 1 / owners), size=RESAMPLES)
    low, high = np.quantile(drawn @ total / (drawn @ count), [0.025, 0.975])
    return float(low), float(high)
