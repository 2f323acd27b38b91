"""MS-SSIM diversity: how similar images of one class are, and the same among real images."""

from collections.abc import Callable

import numpy as np

from synthgain.evaluation.diversity import draw_cross_pairs, draw_pairs, ms_ssim, scales_for
from synthgain.evaluation.fidelity import empty_row, interval
from synthgain.evaluation.inputs import Images, parents, strata
from synthgain.evaluation.resampling import JACKKNIFE_GROUPS, patient_groups
from synthgain.runtime.errors import SynthGainError

PAIRS = 1000  # method: at least; 100 is the historic minimum


def measure_pixels(
    synthetic: Images,
    real: Images,
    seeded: Callable[..., np.random.Generator],
    pairs: int = PAIRS,
    splits: int = 5,
) -> list[dict[str, object]]:
    """Rows `ms_ssim` (within the pool) and `ms_ssim_cross` (pool against real), space "pixels", n = pairs.

    Pairs share their class (joint target values) and never their patient. The floor is the same statistic
    on real images, mean and SD over `splits` draws. Interval: jackknife over groups of patients.
    """
    try:
        scales = scales_for(min(synthetic.arrays[0].shape[1:3]))
    except SynthGainError as error:
        return [empty_row(f"not computed, because {error}", space="pixels", reference="held_out", metric="ms_ssim")]
    rng = seeded(step="ms_ssim")
    our_class, their_class = strata(synthetic.table, synthetic.columns), strata(real.table, real.columns)
    our_parents = parents(synthetic.table)
    floors = [_within(real, their_class, real.patients, max(pairs // splits, 2), rng)[0].mean() for _ in range(splits)]
    inner, first, second = _within(synthetic, our_class, our_parents, pairs, rng)
    a, b = draw_cross_pairs(our_class, their_class, pairs, rng)
    cross = ms_ssim(synthetic.pixels(a), real.pixels(b))
    unit = np.concatenate([our_parents, real.patients.astype(str)])
    group = patient_groups(unit, rng)
    found = {
        "ms_ssim": (inner, group[first], group[second]),
        "ms_ssim_cross": (cross, group[a], group[len(our_parents) + b]),
    }
    rows = []
    for metric, (values, left, right) in found.items():
        note = f"{scales} scales; within class; lower is more varied, aim at the real value"
        if not len(values):
            rows.append(empty_row("not computed, because no two patients share a class", space="pixels", metric=metric))
            continue
        se = _pair_se(values, left, right)
        mean, floor = float(values.mean()), float(np.mean(floors))
        rows.append(
            {
                "space": "pixels", "reference": "held_out", "group": "all", "metric": metric, "n": len(values),
                "value": mean, **interval(metric, mean, se), "floor": floor,
                "floor_sd": float(np.std(floors, ddof=1)), "excess": mean - floor, "p": np.nan, "note": note,
            }
        )  # fmt: skip
    return rows


def _within(
    images: Images, classes: np.ndarray, patients: np.ndarray, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = draw_pairs(classes, patients, pairs, rng)
    return ms_ssim(images.pixels(first), images.pixels(second)), first, second


def _pair_se(values: np.ndarray, left: np.ndarray, right: np.ndarray, groups: int = JACKKNIFE_GROUPS) -> float:
    """Delete-group jackknife: a group of patients takes along every pair that it has a part in."""
    kept = [values[(left != group) & (right != group)] for group in range(groups)]
    means = np.array([part.mean() for part in kept if len(part)])
    return float(np.sqrt((len(means) - 1) / len(means) * ((means - means.mean()) ** 2).sum()))
