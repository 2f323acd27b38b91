"""What a mean Dice hides: its spread over patients, small structures, trivial floors, images without a value.

Scores are averaged within a patient first, so that a patient with many images counts once; every statistic is that of
one run, then the mean over replicates. Intervals resample patients for these very seeds: they do not cover new seeds.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from synthgain.attempts import Attempts
from synthgain.statistics.analysis import Analysis
from synthgain.statistics.documents import Floor
from synthgain.statistics.endpoints import Resamples, endpoints
from synthgain.statistics.metric_registry import SEGMENTATION, higher_is_better, metrics_of
from synthgain.statistics.pairs import Pair, planned_pairs
from synthgain.statistics.predictions import Panel, build_panel, cells_of
from synthgain.statistics.resampling import patient_sums, percentile_interval, ratio_draws

QUANTILES = {"5th percentile": 0.05, "lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75}
TERCILES = ("smallest third", "middle third", "largest third")
SPREAD_COLUMNS = [
    *("arm", "ratio", "baseline", "dataset", "label", "statistic", "images", "patients", "replicates", "value"),
    *("low", "high", "baseline_value", "difference", "difference_low", "difference_high"),
]
FLOOR_COLUMNS = ["dataset", "label", "floor", "metric", "value"]
COVERAGE_COLUMNS = ["dataset", "label", "metric", "images", "empty_truth", "undefined", "used"]
Draws = dict[str, tuple[np.ndarray, int, int]]  # statistic → (1 + B, R) values (the first row: all patients), n, P


def segmentation_tables(
    sets: Sequence[tuple[Panel, list[int], Resamples]],
    analysis: Analysis,
    sizes: Mapping[str, pd.DataFrame],
    floors: pd.DataFrame | None,
    excluded: Mapping[str, Collection[str]],
    attempt: Attempts,
) -> dict[str, pd.DataFrame]:
    """Return the tables that only segmentation has: `spread.csv`, `floor.csv`, `coverage.csv`.

    sets: each test set's panel, its estimable labels and its patient resamples. sizes: data set → see `spread_table`.
    attempt: none of them may stop the analysis.
    """
    spread, floor, coverage = [], [], []
    for panel, labels, resamples in sets:
        pairs, here, none = planned_pairs(panel.runs, analysis), panel.dataset, pd.DataFrame()
        areas, left_out = sizes.get(here), excluded.get(here, ())
        make = partial(spread_table, panel, labels, pairs, areas, resamples, analysis.confidence)
        spread.append(attempt("spread", make, none, here))
        coverage.append(attempt("coverage", partial(coverage_table, panel, labels), none, here))
        if floors is not None and (floors["dataset"] == here).any():
            make = partial(floor_table, floors, panel, labels, left_out, resamples)
            floor.append(attempt("floor", make, none, here))
    return {
        "spread.csv": _joined(spread, SPREAD_COLUMNS),
        "floor.csv": _joined(floor, FLOOR_COLUMNS),
        "coverage.csv": _joined(coverage, COVERAGE_COLUMNS),
    }


def spread_table(
    panel: Panel,
    labels: list[int],
    pairs: list[Pair],
    sizes: pd.DataFrame | None,
    resamples: Resamples,
    confidence: float,
) -> pd.DataFrame:
    """`spread.csv`: quantiles of the patients' Dice, and mean Dice per tercile of the true structure's size.

    sizes: image_id, label, area (share of the image) of the test set; without it there are no terciles.
    """
    rows: list[dict[str, object]] = []
    against = {(pair.arm, pair.ratio): pair for pair in pairs if not pair.control}
    for label in labels:
        found = _quantile_draws(panel, label, resamples)
        if sizes is not None:
            found |= _tercile_draws(panel, label, sizes, resamples)
        for statistic, (draws, images, patients) in found.items():
            place: dict[str, object] = {"dataset": panel.dataset, "label": panel.labels[label], "statistic": statistic}
            place |= {"images": images, "patients": patients}
            for (arm, ratio), position in cells_of(panel.runs).items():
                pair = against.get((arm, ratio))
                row = {"arm": arm, "ratio": ratio, **place, "replicates": len(position)}
                rows.append(row | _level(draws[:, position], confidence) | _change(draws, pair, confidence))
    return pd.DataFrame(rows, columns=SPREAD_COLUMNS)


def floor_table(
    floors: pd.DataFrame, panel: Panel, labels: list[int], excluded: Collection[str], resamples: Resamples
) -> pd.DataFrame:
    """`floor.csv`: what predictions that look at no image score (all foreground, the mean training mask).

    floors: predictions of the floors, with a column `floor`, on the images of `panel`.
    """
    table = build_panel(floors.assign(arm=floors["floor"]), panel.dataset, "test", excluded)
    known = [table.labels.index(panel.labels[label]) for label in labels if panel.labels[label] in table.labels]
    metrics = [name for name in metrics_of(SEGMENTATION) if name in table.image_scores or name == "failure_rate"]
    rows = []
    for endpoint in endpoints(table, metrics, known, {}, "", resamples):
        for (floor, _), position in cells_of(table.runs).items():
            row = {"dataset": panel.dataset, "label": endpoint.label, "floor": floor, "metric": endpoint.metric}
            rows.append(row | {"value": float(endpoint.values[position].mean())})
    return pd.DataFrame(rows, columns=FLOOR_COLUMNS)


def best_floor(floors: pd.DataFrame, dataset: str, label: str, metric: str) -> Floor | None:
    """Return {floor, value} of the best trivial prediction for one endpoint, None where there is none."""
    own = floors[(floors["dataset"] == dataset) & (floors["label"] == label) & (floors["metric"] == metric)]
    own = own.dropna(subset=["value"])
    if not len(own):
        return None
    best = own.sort_values("value", ascending=not higher_is_better(metric), kind="stable").iloc[0]
    return {"floor": str(best["floor"]), "value": float(best["value"])}


def coverage_table(panel: Panel, labels: list[int]) -> pd.DataFrame:
    """`coverage.csv`: images that a metric leaves out, since the structure is absent or one run has no value there."""
    rows = []
    for label in labels:
        empty = panel.image_scores["truth_empty"][0, label] == 1
        for metric in [name for name in metrics_of(SEGMENTATION) if name in panel.image_scores]:
            defined = np.isfinite(panel.image_scores[metric][:, label]).all(axis=0)
            row = {"dataset": panel.dataset, "label": panel.labels[label], "metric": metric, "images": len(empty)}
            row |= {"empty_truth": int(empty.sum()), "undefined": int((~empty & ~defined).sum())}
            rows.append(row | {"used": int((~empty & defined).sum())})
    return pd.DataFrame(rows, columns=COVERAGE_COLUMNS)


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Quantile of values (P,) under each row of weights (B, P): the smallest value that `share` of the weight reaches.

    With unit weights it is NumPy's `inverted_cdf`. Returns (B,).
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    wanted = share * reached[:, -1:]
    tolerance = 1e-9 * reached[:, -1:]  # 0.05 · 20 patients is one patient, whatever the rounding
    result: np.ndarray = values[order][np.argmax(reached >= wanted - tolerance, axis=1)]
    return result


def size_terciles(area: np.ndarray) -> np.ndarray:
    """Tercile 0, 1, 2 of each true area (N,), cut at its own quantiles; equal areas stay together."""
    cuts = np.quantile(area, [1 / 3, 2 / 3])
    return np.searchsorted(cuts, area, side="left")


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns)


def _quantile_draws(panel: Panel, label: int, resamples: Resamples) -> Draws:
    chosen = _scored(panel, label)
    means, counted = _patient_means(panel, label, chosen)
    if not counted.any():
        return {}
    weights = np.concatenate([np.ones((1, panel.patients)), resamples.bootstrap])[:, counted]
    weights = weights[weights.any(axis=1)]
    n = int(chosen.sum()), int(counted.sum())
    return {
        name: (np.stack([weighted_quantiles(row, weights, share) for row in means[:, counted]], axis=1), *n)
        for name, share in QUANTILES.items()
    }


def _tercile_draws(panel: Panel, label: int, sizes: pd.DataFrame, resamples: Resamples) -> Draws:
    own = sizes[sizes["label"] == panel.labels[label]].drop_duplicates("image_id").set_index("image_id")["area"]
    area = own.reindex(panel.image_ids).to_numpy(dtype=np.float64)
    scored = _scored(panel, label) & np.isfinite(area)
    if not scored.any():
        return {}
    tercile = np.full(len(area), -1)
    tercile[scored] = size_terciles(area[scored])
    weights = np.concatenate([np.ones((1, panel.patients)), resamples.bootstrap])
    found = {}
    for number, name in enumerate(TERCILES):
        chosen = tercile == number
        means, counted = _patient_means(panel, label, chosen)
        if counted.any():
            part = (means, np.broadcast_to(counted.astype(np.float64), means.shape))
            found[name] = (ratio_draws([part], weights), int(chosen.sum()), int(counted.sum()))
    return found


def _scored(panel: Panel, label: int) -> np.ndarray:
    """Images (N,) bool that hold the structure and have a Dice in every run, as for the mean."""
    dice = panel.image_scores["dice"][:, label]
    result: np.ndarray = np.isfinite(dice).all(axis=0) & (panel.image_scores["truth_empty"][0, label] == 0)
    return result


def _patient_means(panel: Panel, label: int, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean Dice per run and patient over the chosen images, (R, P), and which patients have one, (P,) bool."""
    codes = panel.patient[chosen]
    total = patient_sums(panel.image_scores["dice"][:, label][:, chosen], codes, panel.patients)
    count = np.bincount(codes, minlength=panel.patients)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0), count > 0


def _level(draws: np.ndarray, confidence: float) -> dict[str, float]:
    low, high = percentile_interval(draws[1:].mean(axis=1), confidence)
    return {"value": float(draws[0].mean()), "low": low, "high": high}


def _change(draws: np.ndarray, pair: Pair | None, confidence: float) -> dict[str, str | float]:
    if pair is None:
        return {"baseline": ""}
    moved = draws[:, pair.arm_runs].mean(axis=1) - draws[:, pair.baseline_runs].mean(axis=1)
    low, high = percentile_interval(moved[1:], confidence)
    return {
        "baseline": pair.baseline,
        "baseline_value": float(draws[0, pair.baseline_runs].mean()),
        "difference": float(moved[0]),
        "difference_low": low,
        "difference_high": high,
    }
