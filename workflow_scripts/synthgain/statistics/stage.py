"""The whole analysis of one model: predictions in, tables out. Nothing is read or written here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import random_generator
from synthgain.statistics import sentences
from synthgain.statistics.analysis import Analysis
from synthgain.statistics.calibration import COLUMNS as CALIBRATION_COLUMNS
from synthgain.statistics.calibration import calibration_table
from synthgain.statistics.comparisons import PRIMARY, comparison_rows, finish
from synthgain.statistics.endpoints import Endpoint, Resamples, endpoints, estimable_labels
from synthgain.statistics.estimability import look_at
from synthgain.statistics.further import (
    DOSE_COLUMNS,
    THRESHOLD_COLUMNS,
    dose_response_of,
    headline_endpoint,
    patient_bootstrap,
    power_of,
    real_equivalents_of,
    threshold_rows,
)
from synthgain.statistics.guards import guard
from synthgain.statistics.memorisation_gate import Gates, apply_gates
from synthgain.statistics.metric_registry import MACRO
from synthgain.statistics.pairs import Pair, planned_pairs
from synthgain.statistics.predictions import Panel, build_panel, validation_dataset
from synthgain.statistics.segmentation import best_floor, segmentation_tables
from synthgain.statistics.subgroups import COLUMNS as SUBGROUP_COLUMNS
from synthgain.statistics.subgroups import subgroup_table
from synthgain.statistics.summary import METRIC_COLUMNS, SUMMARY_COLUMNS, dashes, metric_rows, summary_rows
from synthgain.statistics.thresholds import ARGMAX, apply_thresholds, argmax_decisions, fit_thresholds


@dataclass(frozen=True)
class Inputs:
    """What the stage reads.

    predictions: arm → its table. test_sets: [{dataset, split}]. targets: names of the model's targets.
    excluded: data set → image ids that the audit bars from testing. datasets, splits: data set → its table.
    gates: arm → the memorisation gate of each draw of its pool. Segmentation only: sizes: data set → image_id, label,
    area of the true structure; floors: predictions that look at no image, with a column `floor`.
    """

    predictions: Mapping[str, pd.DataFrame]
    test_sets: list[dict[str, Any]]
    targets: list[str]
    excluded: Mapping[str, list[str]] = field(default_factory=dict)
    datasets: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    splits: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    gates: Gates = field(default_factory=dict)
    sizes: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    floors: pd.DataFrame | None = None


Validation = dict[str, Panel]  # arm → its predictions on its validation set


@dataclass(frozen=True)
class TestSet:
    """One test set, ready to analyse. decisions: policy → (R, L, N) bool; thresholds: policy → (R, L)."""

    panel: Panel
    validation: Validation
    labels: list[int]
    decisions: dict[str, np.ndarray]
    thresholds: dict[str, np.ndarray]
    policy: str
    resamples: Resamples


def analyse(inputs: Inputs, analysis: Analysis, seed: int) -> dict[str, Any]:
    """Return {file name: DataFrame or JSON value} of `statistics/<model>/`."""
    table = _all_predictions(inputs, analysis)
    validation = {} if "dice" in table else _validation(table, analysis)
    sets = [_test_set(table, entry, inputs, validation, analysis, seed) for entry in inputs.test_sets]
    parts = [_analyse_set(test, inputs, analysis, seed) for test in sets]
    comparisons, alarms = guard(finish([row for part in parts for row in part["comparisons"]], analysis), analysis)
    comparisons, alarms["memorisation"] = apply_gates(comparisons, inputs.gates, analysis)
    segmentation: dict[str, pd.DataFrame] = {}
    if sets[0].panel.image_scores:
        judged = [(test.panel, test.labels, test.resamples) for test in sets]
        segmentation = segmentation_tables(judged, analysis, inputs.sizes, inputs.floors, inputs.excluded)
    verdict = verdict_of(comparisons, alarms, analysis, segmentation.get("floor.csv"))
    verdict["patient_bootstrap"] = [entry for part in parts for entry in part["patient_bootstrap"]]
    return {
        "metrics.parquet": _stacked([frame for part in parts for frame in part["metrics"]], METRIC_COLUMNS),
        "summary.csv": pd.DataFrame([row for part in parts for row in part["summary"]], columns=SUMMARY_COLUMNS),
        "comparisons.csv": comparisons,
        "verdict.json": verdict,
        "dose_response.csv": _stacked([frame for part in parts for frame in part["points"]], DOSE_COLUMNS),
        "dose_response.json": [fit for part in parts for fit in part["fits"]],
        "learning_curve.json": [entry for part in parts for entry in part["equivalents"]],
        "power.json": [entry for part in parts for entry in part["power"]],
        "thresholds.csv": pd.DataFrame(
            [row for part in parts for row in part["thresholds"]], columns=THRESHOLD_COLUMNS
        ),
        "calibration.csv": _stacked([part["calibration"] for part in parts], CALIBRATION_COLUMNS),
        "subgroups.csv": _stacked([part["subgroups"] for part in parts], SUBGROUP_COLUMNS),
        **segmentation,
    }


def _analyse_set(test: TestSet, inputs: Inputs, analysis: Analysis, seed: int) -> dict[str, Any]:
    """Every table of one test set, before p-values are adjusted."""
    panel, runs = test.panel, test.panel.runs
    pairs = look_at(planned_pairs(runs, analysis), panel, test.labels, analysis)
    names = list(analysis.metrics)
    found = list(endpoints(panel, names, test.labels, test.decisions, test.policy, test.resamples))
    random = random_generator(study=seed, step="compare_arms", purpose="further", dataset=panel.dataset)
    compared = [e for e in found if "@" not in e.metric and not _repeats_macro(e, test, analysis)]
    headline = headline_endpoint(found, analysis, panel.dataset)
    points, fits = dose_response_of(headline, pairs, analysis, random) if headline else ([], [])
    patients = {name: int(s.loc[s["part"] == "train", "patient_id"].nunique()) for name, s in inputs.splits.items()}
    primaries = [primary for primary in analysis.primaries if primary.test_set == panel.dataset]
    power = [power_of(found, primary, pairs, panel.patients, analysis) for primary in primaries]
    resampled = [
        patient_bootstrap(panel, test.labels, primary, pairs, test.resamples, analysis) for primary in primaries
    ]
    return {
        "metrics": [
            *(metric_rows(endpoint, runs) for endpoint in found),
            *dashes(runs, panel.dataset, panel.part, _without_estimate(test), names),
        ],
        "summary": [row for endpoint in found for row in summary_rows(endpoint, runs, analysis.confidence)],
        "comparisons": [row for e in compared for row in comparison_rows(e, panel.patients, pairs, analysis)],
        "points": points,
        "fits": fits,
        "equivalents": real_equivalents_of(headline, runs, analysis, patients) if headline else [],
        "power": [entry for entry in power if entry],
        "patient_bootstrap": [entry for entry in resampled if entry],
        "thresholds": threshold_rows(found, runs, panel.labels, test.thresholds, test.policy, pairs, analysis),
        "calibration": calibration_table(panel, test.labels, test.validation) if test.validation else pd.DataFrame(),
        "subgroups": _subgroups(test, inputs, pairs, analysis, random),
    }


def _subgroups(
    test: TestSet, inputs: Inputs, pairs: list[Pair], analysis: Analysis, random: np.random.Generator
) -> pd.DataFrame:
    table = inputs.datasets.get(test.panel.dataset)
    if table is None or not analysis.subgroups or test.panel.image_scores:
        return pd.DataFrame(columns=SUBGROUP_COLUMNS)
    decided = test.decisions[test.policy]
    return subgroup_table(test.panel, test.labels, decided, table, pairs, analysis, test.resamples, random)


def _stacked(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)


def verdict_of(
    comparisons: pd.DataFrame, alarms: dict[str, dict], analysis: Analysis, floors: pd.DataFrame | None = None
) -> dict[str, Any]:
    """`verdict.json`: the declared comparison's row and sentence, alarms, notes; every one in `comparisons`.

    floors: `floor.csv` of a segmentation model; the best one stands beside the declared comparison.
    """
    declared = [_declared(comparisons, primary, alarms, analysis, floors) for primary in analysis.primaries]
    none = {"primary": None, "verdict": None, "reason": "", "sentence": sentences.without_primary(analysis)}
    first = declared[0] if declared else none
    return {
        **first,
        "comparisons": declared,
        "alarms": alarms,
        "notes": sentences.notes(analysis),
        "alpha": analysis.alpha,
        "margin": analysis.margin,
        "alternative": analysis.alternative,
        "replicates": analysis.replicates,
        "pilot": analysis.replicates < sentences.PILOT_BELOW,
        "rehearsal": analysis.rehearsal,
    }


def _declared(
    comparisons: pd.DataFrame,
    primary: Any,
    alarms: dict[str, dict],
    analysis: Analysis,
    floors: pd.DataFrame | None,
) -> dict[str, Any]:
    chosen = comparisons[
        (comparisons["family"] == PRIMARY)
        & (comparisons["arm"] == primary.arm)
        & (comparisons["ratio"] == primary.ratio)
        & (comparisons["dataset"] == primary.test_set)
        & (comparisons["label"] == primary.labels)
        & (comparisons["metric"] == primary.metric)
    ]
    if chosen.empty:
        sentence = sentences.not_estimable(primary, analysis)
        return {"primary": None, "verdict": None, "reason": "too few patients", "sentence": sentence}
    row = chosen.iloc[0].to_dict()
    if floors is not None:
        row["floor"] = best_floor(floors, primary.test_set, primary.labels, primary.metric)
    if analysis.rehearsal:
        return {"primary": row, "verdict": None, "reason": "", "sentence": sentences.without_primary(analysis)}
    return {
        "primary": row,
        "verdict": row["verdict"],
        "reason": row["reason"],
        "sentence": sentences.verdict_sentence(row, analysis, alarms),
    }


def _all_predictions(inputs: Inputs, analysis: Analysis) -> pd.DataFrame:
    missing = [arm for arm in analysis.arms if arm not in inputs.predictions]
    if missing:
        raise SynthGainError(f"no predictions of arm {missing[0]}; run snakemake again to make them")
    return pd.concat(
        [table.assign(arm=arm) for arm, table in inputs.predictions.items() if arm in analysis.arms], ignore_index=True
    )


def _test_set(
    table: pd.DataFrame,
    entry: dict[str, Any],
    inputs: Inputs,
    validation: Validation,
    analysis: Analysis,
    seed: int,
) -> TestSet:
    dataset = entry["dataset"]
    panel = build_panel(table, dataset, "test", inputs.excluded.get(dataset, ()))
    _check_labels(panel, analysis)
    labels = estimable_labels(panel, analysis.minimum_positives)
    random = random_generator(study=seed, step="compare_arms", purpose="patients", dataset=dataset)
    resamples = Resamples.of(panel.patients, analysis.bootstrap, random)
    if panel.image_scores:
        return TestSet(panel, validation, labels, {}, {}, "", resamples)
    if len(panel.labels) > 1 and len(inputs.targets) == 1:  # multi-class: one label per level
        return TestSet(panel, validation, labels, {ARGMAX: argmax_decisions(panel)}, {}, ARGMAX, resamples)
    thresholds = _thresholds(panel, validation, analysis, seed)
    decisions = {policy: apply_thresholds(panel, fitted) for policy, fitted in thresholds.items()}
    return TestSet(panel, validation, labels, decisions, thresholds, analysis.policy, resamples)


def _thresholds(panel: Panel, validation: Validation, analysis: Analysis, seed: int) -> dict[str, np.ndarray]:
    """Policy → thresholds (R, L) of the panel's runs and labels, each from its arm's real validation predictions."""
    thresholds = {policy: np.full((len(panel.runs), len(panel.labels)), np.nan) for policy in analysis.policies}
    for arm, own in validation.items():
        order = [own.labels.index(label) for label in panel.labels]
        wanted = panel.runs[panel.runs["arm"] == arm]
        source = pd.MultiIndex.from_frame(own.runs).get_indexer(pd.MultiIndex.from_frame(wanted))
        for policy, filled in thresholds.items():
            random = random_generator(study=seed, step="compare_arms", purpose="thresholds", dataset=own.dataset)
            fitted = fit_thresholds(own, policy, analysis.target_sensitivity, random)
            filled[wanted.index] = fitted[source][:, order]
    return thresholds


def _validation(table: pd.DataFrame, analysis: Analysis) -> Validation:
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


def _without_estimate(test: TestSet) -> list[str]:
    names = [name for position, name in enumerate(test.panel.labels) if position not in test.labels]
    return names if test.labels else [*names, MACRO]


def _repeats_macro(endpoint: Endpoint, test: TestSet, analysis: Analysis) -> bool:
    """With one label its mean is the label itself: only the declared name (else macro) is compared."""
    if len(test.labels) > 1:
        return False
    declared = any(primary.labels == test.panel.labels[test.labels[0]] for primary in analysis.primaries)
    return (endpoint.label == MACRO) if declared else (endpoint.label != MACRO)
