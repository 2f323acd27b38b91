"""Does a fidelity number predict usefulness here? Rank correlation over pools.

A pool is one point: it has one fidelity and one effect of its own, however many ratios and replicates train on it. (A
relation within replicates counts each pool again in every replicate, and rejects a true null in half of the cases.)
"""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

COLUMNS = ("space", "reference", "metric", "method", "configurations", "n", "value", "low", "high", "p", "note")
LEAST_CONFIGURATIONS = 8  # below, a rank correlation over generators says nothing
RESAMPLES = 2000


def relate(fidelity: pd.DataFrame, gains: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return one row per fidelity number and method (`spearman`), columns COLUMNS.

    fidelity: configuration, index, space, reference, metric, excess. gains: configuration, index, replicate,
    gain. A configuration is a pool (generator, snapshot, sampler): its gain is the mean over ratios and replicates,
    since its fidelity is one number whatever the ratio, and counting ratios would feign independent points. The
    Spearman interval resamples configurations. Fewer than 8 give the row "too few".
    """
    rows = []
    keys = ["space", "reference", "metric"]
    for names, part in fidelity.dropna(subset="excess").groupby(keys, sort=True):
        joined = gains.merge(part[["configuration", "index", "excess"]], on=["configuration", "index"])
        means = joined.groupby("configuration")[["excess", "gain"]].mean()
        blank = dict.fromkeys(COLUMNS, np.nan) | dict(zip(keys, names, strict=True))
        blank |= {"configurations": len(means), "note": ""}
        rows.append(blank | {"method": "spearman", "n": len(means)} | _spearman(means, rng))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _spearman(means: pd.DataFrame, rng: np.random.Generator) -> dict[str, object]:
    if len(means) < LEAST_CONFIGURATIONS:
        return {"note": _too_few(len(means))}
    x, y = means["excess"].to_numpy(), means["gain"].to_numpy()
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return {"note": "not computed, because all values are equal"}
    found = spearmanr(x, y)
    drawn = []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(x), size=len(x))
        if len(np.unique(x[rows])) > 1 and len(np.unique(y[rows])) > 1:
            drawn.append(float(spearmanr(x[rows], y[rows]).statistic))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(found.statistic), "low": float(low), "high": float(high), "p": float(found.pvalue)}


def _too_few(count: int) -> str:
    return f"too few: {count} configurations, at least {LEAST_CONFIGURATIONS} are needed"
