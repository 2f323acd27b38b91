"""Random geometric changes of condition masks that anatomy allows; all planes of an image move together."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from synthgain.pools.options import MaskTransform

TRIES = 10  # draws of a transform before the mask stays as it is
# Width of the Gaussian that smooths the elastic field, as a share of the side, but at least twice the largest
# displacement: then no displacement grows by more than about half a pixel per pixel and the field cannot fold.
ELASTIC_WIDTH = 0.1
FIELD_POINTS = 32  # points a side on which the field is drawn: three to a width
PIECE_SHARE = 0.1  # pieces below this share of their plane's area say nothing about left and right


@dataclass(frozen=True)
class Transform:
    """One drawn transform: rotation (degrees, counter-clockwise) and scale about the masks' centre, then a shift.

    down, right: shares of the side; elastic: largest displacement, share of the side; field_seed: of its field.
    """

    mirror: bool
    rotation: float
    scale: float
    down: float
    right: float
    elastic: float
    field_seed: int

    def described(self) -> dict[str, object]:
        """Return what a table says of it (JSON values)."""
        numbers = {name: getattr(self, name) for name in ("rotation", "scale", "down", "right", "elastic")}
        return {"mirror": self.mirror, **{name: round(value, 4) for name, value in numbers.items()}}


def transformed(
    masks: np.ndarray, limits: MaskTransform, random: np.random.Generator
) -> tuple[np.ndarray, Transform | None, int]:
    """Return masks (H, W, K) uint8 in {0, 1} changed at random, the transform, and how many draws were refused.

    Refused is what `allowed` refuses; after TRIES refusals the masks stay as they are and the transform is None,
    as it is for empty masks, where there is nothing to move.
    """
    if not masks.any():
        return masks, None, 0
    for refused in range(TRIES):
        transform = draw_transform(limits, random)
        start = masks[:, ::-1] if transform.mirror else masks
        canvas, pieces = _moved(start, transform)
        if allowed(start, canvas, pieces, limits):
            return _frame(canvas, masks.shape), transform, refused
    return masks, None, TRIES


def draw_transform(limits: MaskTransform, random: np.random.Generator) -> Transform:
    """Return a transform drawn uniformly within the limits."""
    mirror = bool(random.random() < 0.5) and limits.mirror
    rotation, scale, down, right = random.uniform(-1, 1, 4)
    return Transform(
        mirror=mirror,
        rotation=float(rotation * limits.rotation),
        scale=float(1 + scale * limits.scale),
        down=float(down * limits.translation),
        right=float(right * limits.translation),
        elastic=float(random.uniform(0, 1) * limits.elastic),
        field_seed=int(random.integers(2**62)),
    )


def apply(masks: np.ndarray, transform: Transform) -> np.ndarray:
    """Return masks (H, W, K) uint8 in {0, 1} under a transform: bilinear, then cut at one half."""
    start = masks[:, ::-1] if transform.mirror else masks
    return _frame(_moved(start, transform)[0], masks.shape)


def allowed(masks: np.ndarray, canvas: np.ndarray, pieces: np.ndarray, limits: MaskTransform) -> bool:
    """Return whether a moved mask is one that anatomy allows.

    masks: (H, W, K) before (mirrored already where the transform mirrors); canvas: (2H, 2W, K) after, the frame
    in its middle; pieces: (2H, 2W) labels of `_pieces` after. Refused are planes that vanish or whose area changes
    too much, structures that leave the frame by a side that they did not touch before (if `keep_inside`), and
    pieces that stood side by side, such as lungs, and change sides (unless `mirror`: then sides mean nothing).
    """
    frame = _frame(canvas, masks.shape)
    before, after = masks.sum(axis=(0, 1)), frame.sum(axis=(0, 1))
    present = before > 0
    if (after[present] == 0).any():
        return False
    if (np.abs(after[present] / before[present] - 1) > limits.area_change).any():
        return False
    if limits.keep_inside and _leaves(masks, canvas):
        return False
    return limits.mirror or not _sides_swapped(_pieces(masks), _frame(pieces, masks.shape))


def _leaves(masks: np.ndarray, canvas: np.ndarray) -> bool:
    """Return whether a plane lies beyond a side of the frame that it did not touch before.

    A structure that the frame cut from the start goes on beyond that side, and may be cut there again.
    """
    height, width = masks.shape[:2]
    top, left = _margins(masks.shape)
    rows, columns = slice(top, top + height), slice(left, left + width)
    beyond = (canvas[:top, columns], canvas[top + height :, columns], canvas[rows, :left], canvas[rows, left + width :])
    touched = (masks[0], masks[-1], masks[:, 0], masks[:, -1])
    return any((out.any(axis=(0, 1)) & ~edge.any(axis=0)).any() for out, edge in zip(beyond, touched, strict=True))


def _pieces(masks: np.ndarray) -> np.ndarray:
    """Return (H, W) int32 labels 1, 2 … of the large connected pieces of all planes (the last plane on top)."""
    labels, last = np.zeros(masks.shape[:2], dtype=np.int32), 0
    for plane in np.moveaxis(masks, 2, 0):
        found, count = ndimage.label(plane)
        areas = np.bincount(found.ravel(), minlength=count + 1)
        for piece in range(1, count + 1):
            if areas[piece] >= PIECE_SHARE * plane.sum():
                last += 1
                labels[found == piece] = last
    return labels


def _sides_swapped(before: np.ndarray, after: np.ndarray) -> bool:
    """Return whether two pieces that share rows but no column have changed their horizontal order."""
    numbers = np.intersect1d(before[before > 0], after[after > 0])
    columns = {n: np.flatnonzero((before == n).any(axis=0))[[0, -1]] for n in numbers}
    rows = {n: np.flatnonzero((before == n).any(axis=1))[[0, -1]] for n in numbers}
    centres = {n: np.nonzero(after == n)[1].mean() for n in numbers}
    left_of = [(a, b) for a in numbers for b in numbers if columns[a][1] < columns[b][0]]
    beside = [(a, b) for a, b in left_of if rows[a][0] <= rows[b][1] and rows[b][0] <= rows[a][1]]
    return any(centres[a] >= centres[b] for a, b in beside)


def _moved(masks: np.ndarray, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks on a canvas of twice the side, (2H, 2W, K) uint8, and their pieces there, (2H, 2W) int32.

    Beyond the frame the edge is repeated, so that a structure cut by the frame shows no straight end inside it.
    """
    coordinates = _source_coordinates(masks, transform)
    planes = [ndimage.map_coordinates(plane.astype(np.float32), coordinates, order=1, mode="nearest") >= 0.5
              for plane in np.moveaxis(masks, 2, 0)]  # fmt: skip
    pieces = ndimage.map_coordinates(_pieces(masks), coordinates, order=0, mode="nearest")
    return np.stack(planes, axis=-1).astype(np.uint8), pieces


def _source_coordinates(masks: np.ndarray, transform: Transform) -> np.ndarray:
    """Return for every pixel of the canvas the place (row, column) that it comes from: (2, 2H, 2W) float64."""
    height, width = masks.shape[:2]
    top, left = _margins(masks.shape)
    grid = np.mgrid[-top : height + top, -left : width + left].astype(np.float64)
    shift = np.array([transform.down * height, transform.right * width]).reshape(2, 1, 1)
    centre = np.argwhere(masks.any(axis=2)).mean(axis=0).reshape(2, 1, 1)
    cos, sin = np.cos(np.deg2rad(transform.rotation)), np.sin(np.deg2rad(transform.rotation))
    inverse = np.array([[cos, sin], [-sin, cos]]) / transform.scale
    moved = np.einsum("ij,jhw->ihw", inverse, grid - shift - centre) + centre
    if transform.elastic > 0:
        moved += elastic_field(transform, height)[:, : grid.shape[1], : grid.shape[2]]
    return moved


def elastic_field(transform: Transform, side: int) -> np.ndarray:
    """Return a smooth random displacement of the canvas in pixels, (2, 2·side, 2·side) float64 (Simard et al. 2003).

    Drawn on a coarse grid, so that it has the same shape for images of any size.
    """
    random = np.random.Generator(np.random.PCG64(transform.field_seed))
    width = max(ELASTIC_WIDTH, 2 * transform.elastic) * FIELD_POINTS
    rough = random.standard_normal((2, 2 * FIELD_POINTS, 2 * FIELD_POINTS))
    smooth = ndimage.gaussian_filter(rough, (0, width, width), mode="wrap")
    zoom = side / FIELD_POINTS
    return np.asarray(
        ndimage.zoom(smooth * (transform.elastic * side / np.abs(smooth).max()), (1, zoom, zoom), order=1)
    )


def _margins(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0] // 2, shape[1] // 2


def _frame(canvas: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    top, left = _margins(shape)
    return canvas[top : top + shape[0], left : left + shape[1]]
