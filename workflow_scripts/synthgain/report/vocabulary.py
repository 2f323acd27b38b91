"""What the tables of the evaluation call things, and what a reader calls them."""

import re
from collections.abc import Mapping, Sequence
from types import ModuleType

import pandas as pd

from synthgain.registry import FAMILY_PROSE
from synthgain.runtime.loading import load
from synthgain.statistics.metric_registry import METRICS, metric_label

# In the order in which they are shown.
MEASURES = {
    "fid": "FID",
    "kid": "KID",
    "fd": "Fréchet distance",
    "precision": "Precision",
    "density": "Density",
    "recall": "Recall",
    "coverage": "Coverage",
    "vendi": "Vendi score",
    "ms_ssim": "MS-SSIM, within synthetic",
    "ms_ssim_cross": "MS-SSIM, synthetic with real",
    "frd": "Fréchet radiomics distance (log)",
}
DISTANCES = ("fid", "kid")  # the first of them that was measured is a pool's headline
SPACES = {
    "pixels": "pixels",
    "downstream": "real-only model",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "inception": "Inception",
    "mask": "masks",
}
REFERENCES = {
    "held_out": "held-out real",
    "train": "training real",
    "train - held_out": "training minus held-out",
}
POLICIES = {
    "fixed_0.5": "fixed at 0.5",
    "f1_max": "highest F1 on validation",
    "target_sensitivity": "target sensitivity on validation",
    "argmax": "most probable class",
}
CORRECTIONS = {"none": "as predicted", "prior": "shifted to the real prevalence"}
METHODS = {"spearman": "Spearman, over configurations"}
LEAKS = {"none found": "none found", "leak": "leak", "red": "strong leak", "not applicable": "not applicable"}
RULES = {
    "nearest": "nearest training image",
    "distance ratio": "much nearer than the 50 next",
    "nearest is parent": "nearest is the copied row",
}


def listed(items: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def measure_words(name: str) -> str:
    """Return a measure or metric in a reader's words; `area_share:lung` is one of masks: `area share of lung`."""
    if name in METRICS:
        return metric_label(name)
    measure, _, structure = name.partition(":")
    return MEASURES.get(name, measure.replace("_", " ") + (f" of {structure.replace('_', ' ')}" if structure else ""))


def space_words(name: str) -> str:
    """Return what a reader calls a feature space."""
    return SPACES.get(name, name)


def words(values: pd.Series, names: Mapping[str, str]) -> pd.Series:
    """Return `values` in a reader's words; what has no entry loses its underscores."""
    return values.map(lambda value: names.get(value, value.replace("_", " ")) if isinstance(value, str) else value)


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of the evaluation or of operating points with the codes of its columns spelt out."""
    columns: dict[str, Mapping[str, str]] = {
        "space": SPACES,
        "reference": REFERENCES,
        "policy": POLICIES,
        "correction": CORRECTIONS,
        "method": METHODS,
        "leak": LEAKS,
        "rule": RULES,
    }
    found = {name: words(table[name], known) for name, known in columns.items() if name in table}
    if "metric" in table:
        found["metric"] = table["metric"].map(lambda name: measure_words(name) if isinstance(name, str) else name)
    return table.assign(**found)


def noise_level(text: str) -> str:
    """Return `0.2 × data SD` for `0.2 sigma_data`."""
    return re.sub(r"\s*sigma_data$", " × data SD", text)


def prose_of(family: str) -> ModuleType:
    """Return the module that describes a family of generators: NAME, kind, training, drawing, sampler."""
    return load(FAMILY_PROSE, family)
