"""Balanced conditions: real rows redrawn with raked weights until each named column meets its target."""

import difflib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from synthgain.data.image_set import Columns
from synthgain.runtime.errors import SynthGainError

RAKING_ROUNDS = 2000
RAKING_TOLERANCE = 1e-9
SHARE_TOLERANCE = 1e-6  # how far shares that name every level may miss 1


def level_names(values: pd.Series, kind: str) -> np.ndarray:
    """Return each value's level as text ("0"/"1" for binary columns), None where unknown: (N,) object."""
    known = values.notna().to_numpy()
    texts = np.full(len(values), None, dtype=object)
    present = values.to_numpy()[known]
    texts[known] = [str(int(value)) for value in present] if kind == "binary" else [str(value) for value in present]
    return texts


def target_shares(
    table: pd.DataFrame, columns: Columns, balance: Mapping[str, float | dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Return {column: {level: share}} summing to 1 per column, from {column: share of positives | {level: share}}.

    Levels that are not named keep their proportions in what is left. Raises SynthGainError for an unknown
    or continuous column, an unknown level, shares outside [0, 1] or a level that no row has.
    """
    if not balance:
        raise SynthGainError("balance: names no column; give for example {sex: {F: 0.5, M: 0.5}}")
    return {name: _column_shares(table, columns, name, wanted) for name, wanted in balance.items()}


def _column_shares(
    table: pd.DataFrame, columns: Columns, name: str, wanted: float | Mapping[str, float]
) -> dict[str, float]:
    where = f"balance.{name}"
    if name not in columns:
        near = difflib.get_close_matches(name, list(columns), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"columns are {', '.join(columns)}"
        raise SynthGainError(f"{where}: the data set has no such column; {hint}")
    kind = columns[name]["kind"]
    if kind == "continuous":
        raise SynthGainError(f"{where}: is continuous; bin it in the data set's table and balance the bins")
    if not isinstance(wanted, Mapping):
        if kind != "binary":
            raise SynthGainError(f"{where}: got {wanted!r}; a column with levels needs {{level: share}}")
        wanted = {"1": float(wanted), "0": 1 - float(wanted)}
    shares = {str(level): float(share) for level, share in wanted.items()}
    known = pd.Series([text for text in level_names(table[name], kind) if text is not None], dtype=object)
    present = {str(level): int(count) for level, count in known.value_counts().items()}
    absent = [level for level, share in shares.items() if share > 0 and level not in present]
    if absent:
        raise SynthGainError(f"{where}: no training row has level {absent[0]!r}; levels are {sorted(present)}")
    rest = {level: count for level, count in present.items() if level not in shares}
    left = 1 - sum(shares.values())
    if min(shares.values()) < 0 or left < -SHARE_TOLERANCE or (not rest and left > SHARE_TOLERANCE):
        raise SynthGainError(f"{where}: shares {shares} must lie in [0, 1] and add up to 1")
    total = sum(rest.values())
    return shares | {level: max(left, 0.0) * count / total for level, count in rest.items()}


def raked_weights(table: pd.DataFrame, columns: Columns, shares: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """Return row weights (N,) float64, sum 1, under which every column meets its target shares.

    Iterative proportional fitting (Deming and Stephan 1940) from equal weights: the solution nearest to
    the given rows in Kullback–Leibler divergence. A row of which a named column is unknown gets weight 0.
    Raises SynthGainError where the targets cannot be met together.
    """
    codes, targets = [], []
    for name, wanted in shares.items():
        order = {level: code for code, level in enumerate(wanted)}
        texts = level_names(table[name], columns[name]["kind"])
        codes.append(np.array([order.get(text, -1) for text in texts], dtype=np.int64))
        targets.append(np.array(list(wanted.values())))
    known = np.all([code >= 0 for code in codes], axis=0)
    if not known.any():
        raise SynthGainError(f"balance: no training row has all of {', '.join(shares)} known")
    weights = known / known.sum()
    for _ in range(RAKING_ROUNDS):
        worst = 0.0
        for code, target in zip(codes, targets, strict=True):
            current = np.bincount(code[known], weights[known], minlength=len(target))
            worst = max(worst, float(np.abs(current - target).max()))
            factor = np.divide(target, current, out=np.zeros_like(target), where=current > 0)
            weights[known] *= factor[code[known]]
        if worst < RAKING_TOLERANCE:
            return np.asarray(weights / weights.sum())
    raise SynthGainError(
        f"balance: the targets of {', '.join(shares)} cannot be met together by these rows "
        f"(off by {worst:.3f} after {RAKING_ROUNDS} rounds); relax one of them"
    )


def redraw_rows(weights: np.ndarray, cells: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Return `count` row positions (int64) drawn with `weights`, ordered so that prefixes keep the proportions.

    Systematic sampling over rows sorted by cell: every cell's count is within one of its expectation, and
    rows of one cell are used equally often, up to one. cells: (N,) label of the joint levels of the balanced columns.
    """
    _, codes = np.unique(cells.astype(str), return_inverse=True)
    order = np.lexsort((random.permutation(len(weights)), codes))
    points = (random.random() + np.arange(count)) / count
    edges = np.cumsum(weights[order])
    picked = order[np.searchsorted(edges, np.minimum(points, 1 - np.finfo(float).eps) * edges[-1], side="right")]
    picked = picked[random.permutation(count)]
    return picked[interleaved(codes[picked])]


def interleaved(strata: np.ndarray) -> np.ndarray:
    """Return an order (N,) int64 in which each stratum is spread evenly; within a stratum the given order stays."""
    ranks = pd.Series(strata).groupby(strata).cumcount().to_numpy()
    sizes = pd.Series(strata).map(pd.Series(strata).value_counts()).to_numpy()
    return np.lexsort((np.arange(len(strata)), (ranks + 0.5) / sizes))
