"""What varies in a comparison, and so what its claim is about: classifier seeds, generators, draws of a pool.

Seeds say something about *these* generators, generators about the way of making one. With fewer than GENERATORS_NEEDED
generators the claim is conditional on them, and seeds vary within each; from there on generators are the units.
"""

from dataclasses import dataclass
from math import lcm

import numpy as np

GENERATORS_NEEDED = 4  # fewer say too little about their own spread: the claim is then about these generators
LEAST_UNITS = 4  # fewer give no verdict word
PILOT_BELOW = 5  # seeds of a claim about these generators
REAL, DRAWN, GENERATED = "real", "drawn", "generated"  # where an arm's images come from
GENERATORS, DRAWS, SEEDS = "generators", "pool draws", "seeds"


@dataclass(frozen=True)
class Design:
    """How often a comparison trains what its synthetic images come from. source: REAL, DRAWN (a pool that no generator
    made) or GENERATED; replicate i uses generator i mod `generators` and pool draw i mod `pools`."""

    generators: int = 1
    pools: int = 1
    source: str = GENERATED


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one comparison.

    averaging: (U, S) matrix that makes units of replicates. strata: (U,) codes of what the claim is conditional on.
    unit: SEEDS, GENERATORS or DRAWS. claim: words that belong to the verdict's word, "" where it is unconditional.
    too_few: why no verdict word may be given, else "".
    """

    averaging: np.ndarray
    strata: np.ndarray
    unit: str
    claim: str
    too_few: str

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.averaging)

    @property
    def pilot(self) -> bool:
        """True for a conditional claim from fewer than PILOT_BELOW seeds."""
        return self.unit == SEEDS and self.count < PILOT_BELOW


def units_of(replicates: np.ndarray, design: Design) -> Units:
    """Units of a comparison over `replicates` (S,), numbers from 0."""
    replicates = np.asarray(replicates)
    if design.source == REAL:
        return _units(replicates, np.zeros_like(replicates), SEEDS, "")
    draws = lcm(design.generators, design.pools)
    sources = design.generators if design.source == GENERATED else draws
    source, draw = replicates % sources, replicates % draws
    count = len(np.unique(source))
    if count >= GENERATORS_NEEDED:
        return _units(source, np.zeros_like(source), GENERATORS if design.source == GENERATED else DRAWS, "")
    claim = _conditional(count, "generator" if design.source == GENERATED else "pool")
    if len(np.unique(draw)) >= GENERATORS_NEEDED * count:  # draws vary within each generator: replicates share them
        return _units(draw, source, DRAWS, claim)
    return _units(replicates, draw, SEEDS, claim)


def _conditional(count: int, noun: str) -> str:
    return f"for this {noun}" if count == 1 else f"for these {count} {noun}s"


def _units(group: np.ndarray, strata: np.ndarray, unit: str, claim: str) -> Units:
    member = (group[None, :] == np.unique(group)[:, None]).astype(np.float64)
    own = np.array([strata[row > 0][0] for row in member])
    few = ""
    if len(member) < LEAST_UNITS:
        few = f"{len(member)} {unit}, at least {LEAST_UNITS} are needed"
    elif len(member) - len(np.unique(own)) < LEAST_UNITS - 1:
        few = f"{len(member)} {unit} over {len(np.unique(own))} generators or pool draws say too little of their spread"
    return Units(member / member.sum(axis=1, keepdims=True), own, unit, claim, few)


def mean_influence(of_units: np.ndarray | None, strata: np.ndarray) -> np.ndarray | None:
    """Influence (K,) of the mean difference, from (2U, K) of the units of both arms."""
    if of_units is None:
        return None
    member = (strata[None, :] == np.unique(strata)[:, None]).astype(np.float64)
    weights = (member / member.sum(axis=1, keepdims=True)).mean(axis=0)
    half = len(of_units) // 2
    result: np.ndarray = weights @ (of_units[:half] - of_units[half:]).astype(np.float64)
    return result
