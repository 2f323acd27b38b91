"""The memorisation gate: is the pool nearer to its training images than new patients are?

Rules after Dar et al. (arXiv 2402.01054), Akbar et al. 2025 and Carlini et al. 2023 (arXiv 2301.13188). Every
threshold comes from real images, and every rate is given with the same rate on held-out real images: these
checks detect copying, they do not certify privacy. A near-exact copy needs no rate: one decides alone, unless held-out
real images have such neighbours too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from synthgain.evaluation.matched_rates import Flagged, matched_excess
from synthgain.evaluation.nearest import Neighbours

COLUMNS = (
    "space", "rule", "threshold", "n", "flagged", "rate", "null_n", "null_rate", "excess", "low", "high",
    "p_adjusted", "note",
)  # fmt: skip
PIXEL_QUANTILE = 0.999  # of validation → nearest training similarities
FEATURE_QUANTILE = 0.95  # of training → nearest validation similarities (Dar et al.)
ALPHA = 0.5  # Carlini et al.: nearer than half of the usual distance to the 50 nearest
NEAR_EXACT = 1 / 3  # nearer than a third of it: the same picture up to noise and a shift
LEVEL = 0.025  # of the one-sided p, adjusted for the number of rules
# Among the training images as they are; and, of a generator in latents, as they come out of its autoencoder.
PIXELS, RECONSTRUCTIONS = "pixels", "reconstructions"
Pair = tuple[Flagged, Flagged]  # of the pool, and of held-out real images
EXCEEDED, COPIES_FOUND, UNDECIDED, WITHIN = "exceeded", "copies found", "undecided", "within limit"  # of the gate


class RuleRow(TypedDict):
    """A row of memorisation.csv: COLUMNS."""

    space: str
    rule: str
    threshold: float
    n: int
    flagged: int
    rate: float
    null_n: int
    null_rate: float
    excess: float
    low: float
    high: float
    p_adjusted: float
    note: str


@dataclass(frozen=True)
class Rates:
    """One rule on the images of the pool and on held-out real images."""

    space: str
    rule: str
    threshold: float
    pool: Flagged
    null: Flagged

    def row(self, rules: int, rng: np.random.Generator) -> RuleRow:
        """The CSV row; `null_rate` is that of held-out images of the pool's kinds, `p_adjusted` Bonferroni's."""
        found = matched_excess(self.pool, self.null, rng)
        return {
            "space": self.space, "rule": self.rule, "threshold": self.threshold,
            "n": len(self.pool.flags), "flagged": int(self.pool.flags.sum()), "rate": found.rate,
            "null_n": len(self.null.flags), "null_rate": found.null_rate,
            "excess": found.excess, "low": found.low, "high": found.high,
            "p_adjusted": min(1.0, rules * found.p), "note": "",
        }  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """Images under a rule. neighbours: among the training images; patients, kinds: (n,) str."""

    neighbours: Neighbours
    patients: np.ndarray
    kinds: np.ndarray

    def above(self, threshold: float) -> Flagged:
        """The images nearer to a training image than `threshold`, a similarity."""
        return Flagged(self.neighbours.nearest > threshold, self.patients, self.kinds)

    def near(self) -> Flagged:
        """The images whose distance ratio is below ALPHA."""
        return Flagged(self.neighbours.distance_ratio() < ALPHA, self.patients, self.kinds)


def nearest_rule(space: str, pool: Compared, null: Compared, calibration: np.ndarray, quantile: float) -> Rates:
    """The rule "nearest": similarity above a quantile of `calibration`.

    calibration: similarities between different real patients, of images that are not in `null`.
    """
    threshold = float(np.quantile(calibration, quantile))
    return Rates(space, "nearest", threshold, pool.above(threshold), null.above(threshold))


def pixel_rules(pool: Compared, test: Compared, validation: Compared, space: str = PIXELS) -> list[Rates]:
    """The rules "nearest" and "distance ratio" in pixels, or in pixels of reconstructions.

    The ratio's threshold is fixed, so validation images are a null for it too.
    """
    ratios = [test.near(), validation.near()]
    null = Flagged(
        *(np.concatenate([getattr(side, name) for side in ratios]) for name in ("flags", "patients", "kinds"))
    )
    return [
        nearest_rule(space, pool, test, validation.neighbours.nearest, PIXEL_QUANTILE),
        Rates(space, "distance ratio", ALPHA, pool.near(), null),
    ]


def near_exact(neighbours: Neighbours) -> np.ndarray:
    """(n,) bool: the same picture as its nearest neighbour, up to a flip, a small shift, contrast and noise."""
    return neighbours.distance_ratio() < NEAR_EXACT


def near_exact_sides(sides: Sequence[Compared], same: Sequence[np.ndarray] = ()) -> Pair:
    """Near-exact copies in the pool (the first side), and the same among all held-out images (the others).

    same: per side (n,) bool, images that are known to equal a training image.
    """
    found = [near_exact(side.neighbours) for side in sides]
    found = [near | known for near, known in zip(found, same, strict=True)] if same else found
    joined = (found[1:], [side.patients for side in sides[1:]], [side.kinds for side in sides[1:]])
    return Flagged(found[0], sides[0].patients, sides[0].kinds), Flagged(*map(np.concatenate, joined))


def either(first: Pair, second: Pair) -> Pair:
    """Near-exact copies of the training images or of what they are compared as besides, of the same images."""
    pool, real = (
        Flagged(one.flags | other.flags, one.patients, one.kinds) for one, other in zip(first, second, strict=True)
    )
    return pool, real


@dataclass(frozen=True)
class Copies:
    """Near-exact copies of training images in one space: `found` of `images` synthetic ones.

    twins of held_out real images are as near to a training image of another patient. p: one-sided, adjusted, of a rate
    above theirs among images of the same kinds; 1 where there are no twins and nothing is to be compared.
    identical: of the found ones, those that equal a training image to the bit; 0 where a held-out image does too.
    """

    space: str
    found: int
    images: int
    twins: int
    held_out: int
    p: float = 1.0
    identical: int = 0

    @property
    def beyond_twins(self) -> bool:
        """True if real images do not explain them: none is so near (or the same to the bit), or far fewer are."""
        return self.found > 0 and (self.twins == 0 or self.identical > 0 or self.p < LEVEL)

    @property
    def certain(self) -> bool:
        """True if they decide alone. In features alone a neighbour may be near for other reasons than copying."""
        return self.beyond_twins and self.space == PIXELS

    @property
    def doubtful(self) -> bool:
        """True if they prove nothing, yet nothing reassuring may be said."""
        return self.beyond_twins != (self.space == PIXELS) and self.found > 0

    def sentence(self) -> str:
        """What was found, and the same among held-out real images."""
        ours, theirs = f"{self.found} of {self.images} synthetic images", f"{self.held_out} held-out real images"
        if self.space != PIXELS:
            near = f"as near to a training image in {self.space} as a copy would be"
            return f"{ours} are {near}, against {self.twins or 'none'} of {theirs}"
        if self.twins == 0:
            return f"{ours} are near-exact copies of training images, and none of {theirs} is"
        text = f"{ours} are near-exact copies of training images, as are {self.twins} of {theirs}, twins of others"
        if self.identical:
            return f"{text}; {self.identical} of them equal a training image to the bit, which no held-out image does"
        return text if self.beyond_twins else f"{text}: the rates do not differ beyond chance"


def count_copies(
    space: str, pool: Flagged, real: Flagged, rules: int, rng: np.random.Generator, identical: int = 0
) -> Copies:
    """Count near-exact copies. pool, real: their flags; rules: how many tests share the level (Bonferroni)."""
    found, twins = int(pool.flags.sum()), int(real.flags.sum())
    p = min(1.0, rules * matched_excess(pool, real, rng).p) if found and twins else 1.0
    return Copies(space, found, len(pool.flags), twins, len(real.flags), p, identical)


def judge(
    rows: Sequence[RuleRow], limit: float, barred: Sequence[str], copies: Sequence[Copies] = ()
) -> dict[str, object]:
    """The gate: exceeded where near-exact copies decide, or a rule's excess is above `limit` and its p below LEVEL.

    Returns {excess, low, high, limit, exceeded, state, rule, flagged, images, copies, held_out_copies, held_out,
    none_found (nothing like a copy, and all was computed), barred_sets, sentence}; excess to images are those of the
    rule that decides: the largest excess among those beyond noise, else the largest of all. state is "exceeded" (a
    rule's excess), "copies found" (near-exact copies alone; `exceeded` is true as well), "undecided" (too few held-out
    images to tell, copies that twins may explain, or a rule that could not be computed) or "within limit" (the whole
    interval is, and no copy was found).
    """
    known = [row for row in rows if _computed(row)]
    proven = [row for row in known if row["p_adjusted"] < LEVEL]
    worst = max(proven or known or rows[:1], key=lambda row: row["excess"])
    unknown = [row for row in rows if not _computed(row)]
    if proven and worst["excess"] > limit:
        state = EXCEEDED
    elif any(found.certain for found in copies):
        state = COPIES_FOUND
    elif unknown or any(found.doubtful for found in copies) or max(row["high"] for row in known) > limit:
        state = UNDECIDED
    else:
        state = WITHIN
    pixels = [found for found in copies if found.space == PIXELS]
    return {
        "excess": _finite(worst["excess"]), "low": _finite(worst["low"]), "high": _finite(worst["high"]),
        "limit": limit,
        "exceeded": state in (EXCEEDED, COPIES_FOUND), "state": state, "rule": f"{worst['rule']} in {worst['space']}",
        "flagged": worst["flagged"], "images": worst["n"], "copies": sum(found.found for found in pixels),
        "held_out_copies": sum(found.twins for found in pixels), "held_out": sum(found.held_out for found in pixels),
        "none_found": state in (UNDECIDED, WITHIN) and not unknown and not any(found.doubtful for found in copies),
        "barred_sets": list(barred), "sentence": _sentence(worst, unknown, limit, state, copies, barred),
    }  # fmt: skip


def _computed(row: RuleRow) -> bool:
    """False where a rate, its interval or its threshold is not a number: such a rule has seen nothing."""
    return all(map(math.isfinite, (row["excess"], row["low"], row["high"], row["p_adjusted"], row["threshold"])))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sentence(
    worst: RuleRow,
    unknown: Sequence[RuleRow],
    limit: float,
    state: str,
    copies: Sequence[Copies],
    barred: Sequence[str],
) -> str:
    noted = [found.sentence() for found in copies if found.certain or found.doubtful]
    noted += [f"{row['rule']} in {row['space']} could not be computed" for row in unknown]
    found = (
        f"{_percent(worst['rate'])} of the synthetic images are nearer to a training image than the threshold, "
        f"against {_percent(worst['null_rate'])} of held-out real images of the same kinds "
        f"({worst['rule']} in {worst['space']}): excess {_percent(worst['excess'])}, "
        f"95 % interval {_percent(worst['low'])} to {_percent(worst['high'])}"
    )
    if not _computed(worst):
        found = ""
    if state == EXCEEDED:
        texts = [f"Memorisation warning: {found}, above the limit of {_percent(limit)}", *noted]
    elif state == COPIES_FOUND:
        texts = [f"Memorisation warning: {noted[0]}", *noted[1:], found]
    elif noted:
        texts = [f"Copying is not excluded: {noted[0]}", *noted[1:], found]
    elif state == UNDECIDED:
        excess = f"an excess above {_percent(limit)} is not excluded"
        texts = [f"No copying beyond chance was found, but {excess}: {found}"]
    else:
        texts = [f"No copying above the limit of {_percent(limit)} was found: {found}"]
    if barred:
        texts.append(f"The pool holds copies of images of {', '.join(barred)}: no verdict may be given on these")
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in texts if text)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace("-", "−")
