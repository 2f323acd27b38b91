"""What the analysis of a model reads, and the test sets made of it, ready to analyse."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict

import numpy as np
import pandas as pd

from synthgain.attempts import Attempts
from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import random_generator
from synthgain.statistics.analysis import Analysis
from synthgain.statistics.endpoints import Resamples, estimable_labels
from synthgain.statistics.memorisation_gate import Gates
from synthgain.statistics.metric_registry import MACRO, METRICS
from synthgain.statistics.predictions import Panel, build_panel, validation_dataset
from synthgain.statistics.thresholds import (
    ARGMAX,
    F1_RESAMPLES,
    FIXED,
    Fitted,
    apply_thresholds,
    argmax_decisions,
    fit_thresholds,
)


class TestEntry(TypedDict):
    """A test set in the slice; split: does it have a part of its own to test on?"""

    dataset: str
    split: bool


@dataclass(frozen=True)
class Inputs:
    """What the stage reads.

    predictions: arm → its table. test_sets: [{dataset, split}]. targets: names of the model's targets.
    excluded: data set → image ids that the audit bars from testing. datasets, splits: data set → its table.
    gates: arm → the memorisation gate of each draw of its pool. Segmentation only: sizes: data set → image_id, label,
    area of the true structure; floors: predictions that look at no image, with a column `floor`; diagonal: of an image,
    in px.
    """

    predictions: Mapping[str, pd.DataFrame]
    test_sets: list[TestEntry]
    targets: list[str]
    excluded: Mapping[str, list[str]] = field(default_factory=dict)
    datasets: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    splits: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    gates: Gates = field(default_factory=dict)
    sizes: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    floors: pd.DataFrame | None = None
    diagonal: float = float("nan")


Validation = dict[str, Panel]  # arm → its predictions on its validation set


@dataclass(frozen=True)
class TestSet:
    """One test set, ready to analyse. decisions: policy → (R, L, N) bool; thresholds: policy → fitted, of (R, L)."""

    panel: Panel
    validation: Validation
    labels: list[int]
    decisions: dict[str, np.ndarray]
    thresholds: dict[str, Fitted]
    policy: str
    resamples: Resamples


def all_predictions(inputs: Inputs, analysis: Analysis) -> pd.DataFrame:
    """Predictions of every arm, with a column `arm`; SynthGainError where those of one are not there."""
    missing = [arm for arm in analysis.arms if arm not in inputs.predictions]
    if missing:
        raise SynthGainError(f"no predictions of arm {missing[0]}; run snakemake again to make them")
    return pd.concat(
        [table.assign(arm=arm) for arm, table in inputs.predictions.items() if arm in analysis.arms], ignore_index=True
    )


def make_test_set(
    table: pd.DataFrame,
    entry: TestEntry,
    inputs: Inputs,
    validation: Validation,
    analysis: Analysis,
    seed: int,
    attempt: Attempts,
) -> TestSet:
    """Return one test set; thresholds that no declared comparison rests on may fail."""
    dataset = entry["dataset"]
    panel = build_panel(table, dataset, "test", inputs.excluded.get(dataset, ()), inputs.diagonal)
    _check_labels(panel, analysis)
    labels = estimable_labels(panel, analysis.minimum_positives)
    random = random_generator(study=seed, step="compare_arms", purpose="patients", dataset=dataset)
    resamples = Resamples.of(panel.patients, analysis.bootstrap, random)
    if panel.image_scores:
        return TestSet(panel, validation, labels, {}, {}, "", resamples)
    if len(panel.labels) > 1 and len(inputs.targets) == 1:  # multi-class: one label per level
        return TestSet(panel, validation, labels, {ARGMAX: argmax_decisions(panel)}, {}, ARGMAX, resamples)
    fitted_here = partial(_thresholds, panel, validation, analysis, seed)
    declared = any(METRICS[p.metric].needs == "decisions" for p in analysis.primaries if p.test_set == dataset)
    nothing: dict[str, Fitted] = {}
    thresholds = fitted_here() if declared else attempt("thresholds", fitted_here, nothing, dataset)
    decisions = {policy: apply_thresholds(panel, fitted.thresholds) for policy, fitted in thresholds.items()}
    return TestSet(panel, validation, labels, decisions, thresholds, analysis.policy, resamples)


def _thresholds(panel: Panel, validation: Validation, analysis: Analysis, seed: int) -> dict[str, Fitted]:
    """Policy → thresholds of the panel's runs and labels, each from its arm's real validation predictions."""
    shape = (len(panel.runs), len(panel.labels))
    found = {
        policy: Fitted(np.full(shape, np.nan), None if policy == FIXED else np.full((F1_RESAMPLES, *shape), np.nan))
        for policy in analysis.policies
    }
    for arm, own in validation.items():
        order = [own.labels.index(label) for label in panel.labels]
        wanted = panel.runs[panel.runs["arm"] == arm]
        source = pd.MultiIndex.from_frame(own.runs).get_indexer(pd.MultiIndex.from_frame(wanted))
        for policy, filled in found.items():
            # One generator per validation set: arms that share it share its resamples, and stay paired.
            random = random_generator(study=seed, step="compare_arms", purpose="thresholds", dataset=own.dataset)
            fitted = fit_thresholds(own, policy, analysis.target_sensitivity, random)
            filled.thresholds[wanted.index] = fitted.thresholds[source][:, order]
            if filled.draws is not None and fitted.draws is not None:
                filled.draws[:, wanted.index] = fitted.draws[:, source][:, :, order]
    return found


def validation_panels(table: pd.DataFrame, analysis: Analysis) -> Validation:
    """Each arm's predictions on the real validation part that chose its checkpoint."""
    panels = {}
    for arm in analysis.arms:
        own = table[table["arm"] == arm]
        panels[arm] = build_panel(own, validation_dataset(arm, analysis.arms, own), "validation")
    return panels


def _check_labels(panel: Panel, analysis: Analysis) -> None:
    for primary in analysis.primaries:
        if primary.labels != MACRO and primary.labels not in panel.labels:
            known = ", ".join((MACRO, *panel.labels))
            place = f"analysis.primary.labels: {panel.dataset}"
            raise SynthGainError(f"{place} has no label {primary.labels!r}; known: {known}")
