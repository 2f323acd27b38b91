"""Bodies that a vertical ray crosses in one interval, and the lengths of what is left of them.

The beam runs along z (towards the detector), x to the viewer's right (the patient's left), y down; all in cm.
A body is {|z - centre(x, y)| <= half(x, y)}: chords and set differences along a ray are then exact.
"""

from typing import Literal, NamedTuple

import numpy as np

Power = Literal[2, 3, 4, 8]


class Interval(NamedTuple):
    """Part of each ray inside a body: `centre` (cm) and `half` length (cm, 0 outside)."""

    centre: float
    half: np.ndarray


def superellipsoid(
    u: np.ndarray, v: np.ndarray, depth: float, powers: tuple[Power, Power, Literal[2, 4]] = (2, 2, 2)
) -> np.ndarray:
    """Return half the chord of |u|^p + |v|^q + |w/depth|^r <= 1 along w; u, v are x, y over the half axes.

    An ellipsoid for powers (2, 2, 2): depth · sqrt(1 - u² - v²).
    """
    p, q, r = powers
    rest = np.maximum(1.0 - _power(u, p) - _power(v, q), 0.0)
    root = np.sqrt(rest)
    return np.asarray(depth * (np.sqrt(root) if r == 4 else root))


def _power(value: np.ndarray, exponent: Power) -> np.ndarray:
    """|value|^exponent by products: ten times as fast as a general power."""
    square = value * value
    if exponent == 2:
        return square
    if exponent == 3:
        return np.asarray(square * np.abs(value))
    fourth = square * square
    return fourth if exponent == 4 else np.asarray(fourth * fourth)


def ellipsoid(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float, float], axes: tuple[float, float, float],
    angle: float = 0.0,
) -> Interval:  # fmt: skip
    """Return the ray intervals of an ellipsoid turned by `angle` (radians, clockwise on screen) in the film plane."""
    dx, dy = x - centre[0], y - centre[1]
    if angle:
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    return Interval(centre[2], superellipsoid(dx / axes[0], dy / axes[1], axes[2]))


def tube(distance: np.ndarray, radius: float, slant: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the chord (cm) of a round tube at `distance` from its axis; `slant` = 1 / sine(axis, beam)."""
    return np.asarray(2.0 * np.sqrt(np.maximum(radius * radius - distance * distance, 0.0)) * slant)


def remaining_length(body: Interval, obstacles: list[Interval]) -> np.ndarray:
    """Return the length (cm) of `body` outside all `obstacles` on each ray: |A| - |A ∩ (B1 ∪ B2 ∪ …)|.

    Overlapping obstacles are counted once: clipped to A, sorted by their start, summed past what is covered.
    """
    hit = np.flatnonzero(body.half > 0.0)  # the other rays miss the body: most of the work is saved
    half = body.half.ravel()[hit]
    low, high = body.centre - half, body.centre + half
    halves = np.stack([item.half.ravel()[hit] for item in obstacles])
    centres = np.array([item.centre for item in obstacles], dtype=half.dtype)[:, None]
    starts = np.minimum(np.maximum(centres - halves, low), high)
    ends = np.minimum(np.maximum(centres + halves, low), high)
    lengths = ends - starts
    covered = lengths.sum(axis=0)
    several = np.flatnonzero((lengths > 0.0).sum(axis=0) > 1)
    covered[several] = _union_length(starts[:, several], ends[:, several])
    remaining = np.zeros_like(body.half)
    remaining.ravel()[hit] = 2.0 * half - covered
    return remaining


def _union_length(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Length of the union of K intervals (K, P) per column: (P,)."""
    order = np.argsort(starts, axis=0)
    starts, ends = np.take_along_axis(starts, order, 0), np.take_along_axis(ends, order, 0)
    reached = np.maximum.accumulate(ends, axis=0)
    before = np.concatenate([starts[:1], reached[:-1]])
    return np.asarray(np.maximum(ends - np.maximum(starts, before), 0.0).sum(axis=0))
