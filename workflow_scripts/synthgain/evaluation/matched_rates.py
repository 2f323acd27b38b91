"""Is a rate among synthetic images above that among held-out real images of the same kind?

A pool copies the labels and covariates of its rows, or changes them on purpose, and images of one kind resemble each
other: men's films are nearer to other men's. Compared with all held-out images, a pool of men alone seems to copy. So
the held-out images are weighted to the pool's composition (direct standardisation), and the test permutes whole
patients between pool and held-out images within each kind.
"""

from dataclasses import dataclass

import numpy as np

from synthgain.evaluation.resampling import Z_95, rate_interval

SMALLEST = 20  # held-out images of a kind; a rarer kind is compared together with the next rarest
PERMUTATIONS = 4000  # the smallest p, 1/4001, is far below 0.025 shared by a few rules
CHUNK = 250  # permutations at a time: 250 × 10,000 patients take 20 MB


@dataclass(frozen=True)
class Flagged:
    """Images of one side. flags: (n,) bool; patients, kinds: (n,) str, the patient (or parent) and kind of each."""

    flags: np.ndarray
    patients: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class Excess:
    """Rate of the pool, of held-out images of the same kinds, difference, 95 % interval, one-sided p."""

    rate: float
    null_rate: float
    excess: float
    low: float
    high: float
    p: float


def matched_excess(pool: Flagged, null: Flagged, rng: np.random.Generator) -> Excess:
    """Compare two rates, `null` weighted to the kinds of `pool`.

    The interval is Newcombe's hybrid (1998, method 10) of the two `rate_interval`s; p counts patient permutations
    within kinds whose excess is at least as large (Phipson & Smyth 2010: never 0), 1 where there is no excess. It is
    exact where new images of a kind are exchangeable with real ones, also with a handful of flags, where
    the interval's lower bound is too high (3 of 120 against 2 of 622: above 0, Fisher's exact p 0.03).
    """
    names = merged_kinds(pool.kinds, null.kinds)
    ours, theirs = (np.array([names[kind] for kind in side.kinds], dtype=np.int64) for side in (pool, null))
    share = np.bincount(ours, minlength=max(names.values()) + 1) / len(ours)
    weights = share[theirs] / np.bincount(theirs, minlength=len(share))[theirs]
    rate, null_rate = float(pool.flags.mean()), float((weights * null.flags).sum())
    low, high = rate_interval(pool.flags, pool.patients, Z_95)
    null_low, null_high = rate_interval(null.flags, null.patients, Z_95, weights)
    excess = rate - null_rate
    p = permutation_p(pool, ours, null, theirs, share, rng) if excess > 0 else 1.0
    below, above = np.hypot(rate - low, null_high - null_rate), np.hypot(high - rate, null_rate - null_low)
    return Excess(rate, null_rate, excess, excess - float(below), excess + float(above), p)


def merged_kinds(ours: np.ndarray, theirs: np.ndarray) -> dict[str, int]:
    """Return {kind: number}: kinds with fewer than SMALLEST held-out images share one, joined by the next rarest."""
    known, counts = np.unique(theirs, return_counts=True)
    held_out = dict.fromkeys(np.unique(ours).tolist(), 0) | dict(zip(known.tolist(), counts.tolist(), strict=True))
    order = sorted(held_out, key=lambda kind: (held_out[kind], kind))
    rare = [kind for kind in order if held_out[kind] < SMALLEST]
    rest = order[len(rare) :]
    while rare and rest and sum(held_out[kind] for kind in rare) < SMALLEST:
        rare.append(rest.pop(0))
    return dict.fromkeys(rare, 0) | {kind: number + bool(rare) for number, kind in enumerate(rest)}


def permutation_p(
    pool: Flagged, ours: np.ndarray, null: Flagged, theirs: np.ndarray, share: np.ndarray, rng: np.random.Generator
) -> float:
    """One-sided p of the standardised excess. ours, theirs: kind number per image; share: (kinds,) of the pool."""
    observed, drawn = 0.0, np.zeros(PERMUTATIONS)
    for kind in np.flatnonzero(share):
        first, second = _patients(pool, ours == kind), _patients(null, theirs == kind)
        flagged, images = (np.concatenate(pair) for pair in zip(first, second, strict=True))
        mine = np.arange(len(images)) < len(first[0])
        observed += share[kind] * float(_difference(flagged, images, mine[None])[0])
        if not flagged.any():  # every permutation gives 0 here
            continue
        for start in range(0, PERMUTATIONS, CHUNK):
            shuffled = rng.permuted(np.repeat(mine[None], min(CHUNK, PERMUTATIONS - start), axis=0), axis=1)
            drawn[start : start + CHUNK] += share[kind] * _difference(flagged, images, shuffled)
    rounding = 1e-9
    return float(1 + (drawn >= observed - rounding).sum()) / (1 + PERMUTATIONS)


def _patients(side: Flagged, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flagged images and images of each patient among `rows`, two (patients,) arrays."""
    _, code = np.unique(side.patients[rows], return_inverse=True)
    return np.bincount(code, weights=side.flags[rows]), np.bincount(code).astype(np.float64)


def _difference(flagged: np.ndarray, images: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """Rate of the patients in `mine` (k, patients) bool minus the rate of the others, (k,)."""
    ours, all_flagged, all_images = mine @ np.stack([flagged, images], axis=1), flagged.sum(), images.sum()
    return np.asarray(ours[:, 0] / ours[:, 1] - (all_flagged - ours[:, 0]) / (all_images - ours[:, 1]))
