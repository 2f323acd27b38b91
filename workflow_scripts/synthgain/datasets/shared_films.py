"""Films that two data sets share, found by their pixels though they were renamed, saved anew or changed on the way.

Compared are small copies in which each place has the mean and contrast of its surroundings taken out: a window, another
depth of bits, a tone curve and an exposure change little there, and an inverted film is the same with the other sign.
Cropped, padded and mirrored films are looked for one way at a time (VIEWS). As within a set (duplicates.py) an image's
own further neighbours say what an unrelated film comes to, here those of both films: beside a few lateral or inverted
films in a set of others, all of their kind look alike.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from synthgain.datasets.duplicates import BLOCK, FALSE_ALARMS, MIN_IMAGES, WHOLE, Box, limits_of, reduced, unit

SURROUNDINGS = 2.0  # pixels of a small copy: sd of the Gaussian around each place; of its contrast half as much again
LEAST_CONTRAST = 0.01  # of the film's own sd: below it a place is even
# Correlation of a shared film, least. Of 500 films of NIH ChestX-ray14 and 500 of other patients the highest is .84;
# half of all films are above .93 beside themselves after a change of those named above.
LEAST = 0.9
TAIL = (4, 20)  # a film stands at most three times in the other set; its 4th to 20th neighbours are unrelated
MOST_VIEWED = 2000  # films of the smaller set that are looked for as cropped, padded or mirrored, evenly chosen


class View(NamedTuple):
    """One way in which a film of two sets may differ: the part of each that is compared, and whether one is mirrored.

    how: what the report of the audit calls it.
    """

    how: str
    first: Box = WHOLE
    second: Box = WHOLE
    mirrored: bool = False


def _cut(share: float) -> Box:
    return share, share, 1 - share, 1 - share


CUTS = (0.03, 0.06, 0.1)  # of each border; in between lies what two of them both see
FOOT: Box = (0.0, 0.0, 1.0, 0.92)
VIEWS = (
    View("the same"),
    *(View("the second is cropped", first=_cut(share)) for share in CUTS),
    *(View("the first is cropped", second=_cut(share)) for share in CUTS),
    View("the second is cut below", first=FOOT),
    View("the first is cut below", second=FOOT),
    View("mirrored", mirrored=True),
)
SIGNS = {1: "", -1: ", inverted"}


class SharedFilm(NamedTuple):
    """Row of the first set, row of the second, their similarity (0 to 1) and how they differ."""

    first: int
    second: int
    similarity: float
    how: str


def local_copies(images: np.ndarray, box: Box = WHOLE, mirrored: bool = False) -> np.ndarray:
    """Return (N, S²) float32 of images (N,H,W,C) uint8: grey, small, without local mean and contrast, of unit norm."""
    small = reduced(images, box)
    if mirrored:
        small = small[:, :, ::-1]
    spread = small.std(axis=(1, 2), keepdims=True)
    small = np.divide(small, spread, out=np.zeros_like(small), where=spread > 1e-3)
    small -= _surroundings(small, SURROUNDINGS)
    return unit(small / np.sqrt(_surroundings(small**2, 1.5 * SURROUNDINGS) + LEAST_CONTRAST**2))


def _surroundings(small: np.ndarray, sd: float) -> np.ndarray:
    return np.asarray(gaussian_filter(small, (0, sd, sd)))


def shared_films(first: np.ndarray, second: np.ndarray) -> list[SharedFilm] | None:
    """Return the films that stand in both of (N,H,W,C) and (M,H',W',C') uint8, None where too few say what is alike.

    Of the larger set at least MIN_IMAGES are needed. Less than FALSE_ALARMS pairs are expected of sets without any.
    """
    if max(len(first), len(second)) < MIN_IMAGES or not min(len(first), len(second)):
        return None
    if len(first) > len(second):
        turned = shared_films(second, first)
        return None if turned is None else sorted(_turned(film) for film in turned)
    found: dict[tuple[int, int], SharedFilm] = {}
    for film in (film for view in VIEWS for film in _seen(first, second, view)):
        known = found.setdefault((film.first, film.second), film)
        if film.similarity > known.similarity:
            found[film.first, film.second] = film
    return sorted(found.values())


def _turned(film: SharedFilm) -> SharedFilm:
    words = {"the first": "the second", "the second": "the first"}
    how = next((film.how.replace(old, new) for old, new in words.items() if old in film.how), film.how)
    return SharedFilm(film.second, film.first, film.similarity, how)


def _seen(first: np.ndarray, second: np.ndarray, view: View) -> Iterator[SharedFilm]:
    """Yield the films of the smaller `first` that are in `second` in this view, as they are or inverted."""
    rows = np.arange(len(first))
    if view is not VIEWS[0] and len(first) > MOST_VIEWED:
        rows = np.linspace(0, len(first) - 1, MOST_VIEWED).astype(int)
    asked = np.concatenate(
        [local_copies(first[rows[at : at + BLOCK]], view.first, view.mirrored) for at in range(0, len(rows), BLOCK)]
    )
    for sign, (values, others) in zip(SIGNS, _neighbours(asked, second, view.second), strict=True):
        hit, place = np.nonzero((values > _limits(values)[:, None]) & (values > LEAST))
        value, other = values[hit, place], others[hit, place]
        unique, where = np.unique(other, return_inverse=True)
        mutual = value > _limits_of_others(sign * asked, second, unique, view.second)[where]
        for row, column, similarity in zip(rows[hit[mutual]], other[mutual], value[mutual], strict=True):
            yield SharedFilm(int(row), int(column), round(float(similarity), 5), view.how + SIGNS[sign])


def _limits(values: np.ndarray) -> np.ndarray:
    return limits_of(values, FALSE_ALARMS / (len(VIEWS) * len(SIGNS)), [TAIL])


def _limits_of_others(asked: np.ndarray, images: np.ndarray, rows: np.ndarray, box: Box) -> np.ndarray:
    """Return (R,) limits of these rows of the images, by their neighbours among copies (N, D): none, if N is small."""
    limits = np.full(len(rows), -1.0)
    for at in range(0, len(rows) if len(asked) >= TAIL[1] else 0, BLOCK):
        similar = local_copies(images[rows[at : at + BLOCK]], box) @ asked.T
        limits[at : at + BLOCK] = _limits(-np.sort(-similar, axis=1)[:, : TAIL[1]])
    return limits


def _neighbours(asked: np.ndarray, images: np.ndarray, box: Box) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each sign the highest correlations (N, K) of copies (N, D) with the images', falling, and their rows.

    The images are read once, a block at a time; similarities are held a tile of BLOCK × BLOCK at a time.
    """
    count = min(TAIL[1], len(images))
    best = [(np.full((len(asked), count), -2, np.float32), np.full((len(asked), count), -1)) for _ in SIGNS]
    for start in range(0, len(images), BLOCK):
        copies = local_copies(images[start : start + BLOCK], box)
        others = np.arange(start, start + len(copies))
        for at in range(0, len(asked), BLOCK):
            similar = asked[at : at + BLOCK] @ copies.T
            for sign, (values, rows) in zip(SIGNS, best, strict=True):
                _keep_highest(values[at : at + BLOCK], rows[at : at + BLOCK], sign * similar, others)
    return best


def _keep_highest(values: np.ndarray, rows: np.ndarray, similar: np.ndarray, others: np.ndarray) -> None:
    """Put what of (n, m) similarities to the rows `others` is among the (n, K) highest so far in its place."""
    count = values.shape[1]
    every = np.hstack([values, similar])
    names = np.hstack([rows, np.broadcast_to(others, similar.shape)])
    chosen = np.argpartition(-every, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(every, chosen, axis=1), axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    values[:], rows[:] = (np.take_along_axis(one, chosen, axis=1) for one in (every, names))
