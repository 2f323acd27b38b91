"""The whole analysis of one model: predictions in, tables out. Nothing is read or written here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NotRequired, TypedDict, TypeVar

import numpy as np
import pandas as pd

from synthgain.attempts import Attempts
from synthgain.seeds import random_generator
from synthgain.statistics import sentences
from synthgain.statistics.analysis import Analysis, Primary
from synthgain.statistics.calibration import COLUMNS as CALIBRATION_COLUMNS
from synthgain.statistics.calibration import calibration_table
from synthgain.statistics.comparisons import PRIMARY, comparison_rows, finish
from synthgain.statistics.documents import Alarms, Judged, Row, SeedInterval, Verdict, rows_of
from synthgain.statistics.dose_response import DoseFit
from synthgain.statistics.endpoints import Endpoint, endpoints
from synthgain.statistics.estimability import look_at
from synthgain.statistics.findings import COLUMNS as FINDING_COLUMNS
from synthgain.statistics.findings import findings_table
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
from synthgain.statistics.inputs import Inputs, TestSet, all_predictions, make_test_set, validation_panels
from synthgain.statistics.memorisation_gate import apply_gates
from synthgain.statistics.metric_registry import MACRO
from synthgain.statistics.operating_points import COLUMNS as SHIFT_COLUMNS
from synthgain.statistics.operating_points import shift_or_gain
from synthgain.statistics.pairs import Pair, planned_pairs
from synthgain.statistics.segmentation import best_floor, segmentation_tables
from synthgain.statistics.sites import COLUMNS as SITE_COLUMNS
from synthgain.statistics.sites import Site, outside_sites
from synthgain.statistics.standing import without_words
from synthgain.statistics.subgroups import COLUMNS as SUBGROUP_COLUMNS
from synthgain.statistics.subgroups import subgroup_table
from synthgain.statistics.summary import METRIC_COLUMNS, SUMMARY_COLUMNS, dashes, metric_rows, summary_rows
from synthgain.statistics.units import PILOT_BELOW

Made = TypeVar("Made")
Results = TypedDict(
    "Results",
    {
        "metrics.parquet": pd.DataFrame,
        "summary.csv": pd.DataFrame,
        "comparisons.csv": pd.DataFrame,
        "verdict.json": Verdict,
        "dose_response.csv": pd.DataFrame,
        "dose_response.json": list[DoseFit],
        "learning_curve.json": list[dict[str, object]],
        "power.json": list[dict[str, object]],
        "thresholds.csv": pd.DataFrame,
        "shift_or_gain.csv": pd.DataFrame,
        "findings.csv": pd.DataFrame,
        "sites.csv": pd.DataFrame,
        "calibration.csv": pd.DataFrame,
        "subgroups.csv": pd.DataFrame,
        "spread.csv": NotRequired[pd.DataFrame],
        "floor.csv": NotRequired[pd.DataFrame],
        "coverage.csv": NotRequired[pd.DataFrame],
        "failed.json": dict[str, list[str]],
    },
)


@dataclass(frozen=True)
class _Part:
    """What is found on one test set, before p-values are adjusted: rows and tables of the files of these names."""

    metrics: list[pd.DataFrame]
    summary: list[dict]
    comparisons: list[dict]
    points: list[pd.DataFrame]
    fits: list[DoseFit]
    equivalents: list[dict[str, object]]
    power: list[dict[str, object]]
    patient_bootstrap: list[SeedInterval]
    thresholds: list[dict]
    calibration: pd.DataFrame
    subgroups: pd.DataFrame
    site: Site | None


def analyse(inputs: Inputs, analysis: Analysis, seed: int) -> Results:
    """Return the content of `statistics/<model>/`.

    Only what the declared comparisons rest on may stop it. A table that fails is empty, with its reasons in
    `failed.json`: {table: [reason of each test set]}.
    """
    table, attempt = all_predictions(inputs, analysis), Attempts()
    validation = {} if "dice" in table else validation_panels(table, analysis)
    sets = [make_test_set(table, entry, inputs, validation, analysis, seed, attempt) for entry in inputs.test_sets]
    parts = [_analyse_set(test, inputs, analysis, seed, attempt) for test in sets]
    comparisons, guards = guard(finish([row for part in parts for row in part.comparisons], analysis), analysis)
    comparisons, copies = apply_gates(comparisons, inputs.gates, analysis)
    comparisons = without_words(comparisons, analysis.unplanned_looks())
    segmentation: dict[str, pd.DataFrame] = {}
    if sets[0].panel.image_scores:
        judged = [(test.panel, test.labels, test.resamples) for test in sets]
        segmentation = segmentation_tables(judged, analysis, inputs.sizes, inputs.floors, inputs.excluded, attempt)
    alarms: Alarms = {**guards, "memorisation": copies}
    intervals = [entry for part in parts for entry in part.patient_bootstrap]
    verdict = verdict_of(comparisons, alarms, analysis, segmentation["floor.csv"] if segmentation else None, intervals)
    thresholds = pd.DataFrame([row for part in parts for row in part.thresholds], columns=THRESHOLD_COLUMNS)
    shifts, tail = pd.DataFrame(columns=SHIFT_COLUMNS), pd.DataFrame(columns=FINDING_COLUMNS)
    if not sets[0].panel.image_scores:
        panels = [test.panel for test in sets]
        metric = analysis.primaries[0].metric if analysis.primaries else analysis.metrics[0]
        shifts = attempt("shift_or_gain", lambda: shift_or_gain(comparisons, thresholds, analysis), shifts)
        by_finding = partial(findings_table, panels, comparisons, analysis, metric, inputs.datasets, inputs.splits)
        tail = attempt("findings", by_finding, tail)
    sites = [part.site for part in parts if part.site is not None]
    outside = attempt("sites", lambda: outside_sites(sites, analysis), pd.DataFrame(columns=SITE_COLUMNS))
    found: Results = {
        "metrics.parquet": _stacked([frame for part in parts for frame in part.metrics], METRIC_COLUMNS),
        "summary.csv": pd.DataFrame([row for part in parts for row in part.summary], columns=SUMMARY_COLUMNS),
        "comparisons.csv": comparisons,
        "verdict.json": verdict,
        "dose_response.csv": _stacked([frame for part in parts for frame in part.points], DOSE_COLUMNS),
        "dose_response.json": [fit for part in parts for fit in part.fits],
        "learning_curve.json": [entry for part in parts for entry in part.equivalents],
        "power.json": [entry for part in parts for entry in part.power],
        "thresholds.csv": thresholds,
        "shift_or_gain.csv": shifts,
        "findings.csv": tail,
        "sites.csv": outside,
        "calibration.csv": _stacked([part.calibration for part in parts], CALIBRATION_COLUMNS),
        "subgroups.csv": _stacked([part.subgroups for part in parts], SUBGROUP_COLUMNS),
        "failed.json": attempt.failed,
    }
    if segmentation:
        for name in ("spread.csv", "floor.csv", "coverage.csv"):
            found[name] = segmentation[name]
    return found


def _analyse_set(test: TestSet, inputs: Inputs, analysis: Analysis, seed: int, attempt: Attempts) -> _Part:
    """Every table of one test set, before p-values are adjusted."""
    panel, runs = test.panel, test.panel.runs
    pairs = look_at(planned_pairs(runs, analysis), panel, test.labels, analysis)
    names, here = list(analysis.metrics), panel.dataset
    found = _endpoints(test, analysis, attempt)
    random = random_generator(study=seed, step="compare_arms", purpose="further", dataset=panel.dataset)
    compared = [e for e in found if "@" not in e.metric and not _repeats_macro(e, test, analysis)]
    headline = headline_endpoint(found, analysis, panel.dataset)

    def secondary(name: str, make: Callable[[], Made], otherwise: Made) -> Made:
        return attempt(name, make, otherwise, here)

    none: tuple[list[pd.DataFrame], list[DoseFit]] = ([], [])
    curves = secondary(
        "dose_response", lambda: dose_response_of(headline, pairs, analysis, random) if headline else none, none
    )
    patients = {name: int(s.loc[s["part"] == "train", "patient_id"].nunique()) for name, s in inputs.splits.items()}
    primaries = [primary for primary in analysis.primaries if primary.test_set == here]
    power: list[dict[str, object] | None] = secondary(
        "power", lambda: [power_of(found, p, pairs, panel.patients, analysis) for p in primaries], []
    )
    resampled: list[SeedInterval | None] = secondary(
        "patient_bootstrap",
        lambda: [patient_bootstrap(panel, test.labels, p, pairs, test.resamples, analysis) for p in primaries],
        [],
    )
    summary: list[list[dict]] = [
        secondary("summary", partial(summary_rows, e, runs, analysis.confidence), []) for e in found
    ]
    nothing = pd.DataFrame()
    return _Part(
        metrics=[
            *(metric_rows(endpoint, runs) for endpoint in found),
            *dashes(runs, panel.dataset, panel.part, _without_estimate(test), names),
        ],
        summary=[row for rows in summary for row in rows],
        comparisons=_comparisons(compared, panel.patients, pairs, analysis, attempt),
        points=curves[0],
        fits=curves[1],
        equivalents=secondary(
            "learning_curve", lambda: real_equivalents_of(headline, runs, analysis, patients) if headline else [], []
        ),
        power=[entry for entry in power if entry],
        patient_bootstrap=[entry for entry in resampled if entry],
        thresholds=secondary(
            "thresholds",
            lambda: threshold_rows(found, runs, panel.labels, test.thresholds, test.policy, pairs, analysis),
            [],
        ),
        calibration=secondary(
            "calibration",
            lambda: calibration_table(panel, test.labels, test.validation) if test.validation else nothing,
            nothing,
        ),
        subgroups=secondary("subgroups", lambda: _subgroups(test, inputs, pairs, analysis, random), nothing),
        site=Site(runs, pairs, headline) if headline else None,
    )


def _endpoints(test: TestSet, analysis: Analysis, attempt: Attempts) -> list[Endpoint]:
    """Every metric of one test set; one that is not declared as primary here is left out where it fails."""
    here, nothing = test.panel.dataset, list[Endpoint]()
    found: list[Endpoint] = []
    declared = {primary.metric for primary in analysis.primaries if primary.test_set == here}

    def made(name: str) -> list[Endpoint]:
        return list(
            endpoints(test.panel, [name], test.labels, test.decisions, test.policy, test.resamples, test.thresholds)
        )

    for name in analysis.metrics:
        found += made(name) if name in declared else attempt("metrics", partial(made, name), nothing, f"{here}, {name}")
    return found


def _comparisons(
    compared: list[Endpoint], patients: int, pairs: list[Pair], analysis: Analysis, attempt: Attempts
) -> list[dict]:
    """Rows of every endpoint; those of a declared one must be there."""
    rows: list[dict] = []
    for endpoint in compared:
        made = partial(comparison_rows, endpoint, patients, pairs, analysis)
        declared = (endpoint.dataset, endpoint.label, endpoint.metric) in analysis.primary_endpoints()
        where = f"{endpoint.dataset}, {endpoint.label}, {endpoint.metric}"
        rows += made() if declared else attempt("comparisons", made, [], where)
    return rows


def _subgroups(
    test: TestSet, inputs: Inputs, pairs: list[Pair], analysis: Analysis, random: np.random.Generator
) -> pd.DataFrame:
    if test.panel.dataset not in inputs.datasets or not analysis.subgroups or test.panel.image_scores:
        return pd.DataFrame(columns=SUBGROUP_COLUMNS)
    table = inputs.datasets[test.panel.dataset]
    decided = test.decisions[test.policy]
    return subgroup_table(test.panel, test.labels, decided, table, pairs, analysis, test.resamples, random)


def _stacked(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)


def verdict_of(
    comparisons: pd.DataFrame,
    alarms: Alarms,
    analysis: Analysis,
    floors: pd.DataFrame | None,
    patient_bootstrap: list[SeedInterval],
) -> Verdict:
    """`verdict.json`: the declared comparison's row and sentence, alarms, notes; every one in `comparisons`.

    floors: `floor.csv` of a segmentation model; the best one stands beside the declared comparison.
    """
    declared = [_declared(comparisons, primary, alarms, analysis, floors) for primary in analysis.primaries]
    none: Judged = {"primary": None, "verdict": None, "reason": "", "sentence": sentences.without_primary(analysis)}
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
        "pilot": analysis.replicates < PILOT_BELOW,
        "rehearsal": analysis.rehearsal,
        "patient_bootstrap": patient_bootstrap,
    }


def _declared(
    comparisons: pd.DataFrame, primary: Primary, alarms: Alarms, analysis: Analysis, floors: pd.DataFrame | None
) -> Judged:
    row = _row_of(comparisons, primary)
    if row is None:
        sentence = sentences.not_estimable(primary, analysis)
        return {"primary": None, "verdict": None, "reason": "too few patients", "sentence": sentence}
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


def _row_of(comparisons: pd.DataFrame, primary: Primary) -> Row | None:
    for row in rows_of(comparisons[comparisons["family"] == PRIMARY]):
        place = (row["arm"], row["ratio"], row["dataset"], row["label"], row["metric"])
        if place == (primary.arm, primary.ratio, *primary.endpoint()):
            return row
    return None


def _without_estimate(test: TestSet) -> list[str]:
    names = [name for position, name in enumerate(test.panel.labels) if position not in test.labels]
    return names if test.labels else [*names, MACRO]


def _repeats_macro(endpoint: Endpoint, test: TestSet, analysis: Analysis) -> bool:
    """With one label its mean is the label itself: only the declared name (else macro) is compared."""
    if len(test.labels) > 1:
        return False
    declared = any(primary.labels == test.panel.labels[test.labels[0]] for primary in analysis.primaries)
    return (endpoint.label == MACRO) if declared else (endpoint.label != MACRO)
