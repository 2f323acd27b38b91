"""Adjusted p-values within a family of comparisons (pingouin.multicomp)."""

import numpy as np
import pingouin

METHODS = {"holm": "holm", "bonferroni": "bonf", "benjamini_hochberg": "fdr_bh"}


def adjust(p_values: np.ndarray, method: str) -> np.ndarray:
    """Adjust (K,) p-values by `holm`, `bonferroni` or `benjamini_hochberg`; NaN stays NaN and is not counted."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    values = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(values)
    adjusted = np.full(len(values), np.nan)
    if known.any():
        adjusted[known] = pingouin.multicomp(values[known], method=METHODS[method])[1]
    return adjusted
