"""What stands behind the verdict: operating points, dose–response, real-image equivalents, power."""

import numpy as np
import pandas as pd

from synthgain.statistics import delong, dose_response, learning_curve
from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.analysis import Analysis, Primary
from synthgain.statistics.best_ratio import best_ratio
from synthgain.statistics.documents import SeedInterval
from synthgain.statistics.dose_response import DoseFit
from synthgain.statistics.endpoints import Endpoint, Resamples
from synthgain.statistics.estimability import contrast_of
from synthgain.statistics.metric_registry import MACRO, METRICS
from synthgain.statistics.obuchowski_rockette import Contrast
from synthgain.statistics.pairs import Pair, pair_units
from synthgain.statistics.power import power_report
from synthgain.statistics.predictions import Panel, cells_of
from synthgain.statistics.resampling import percentile_interval
from synthgain.statistics.thresholds import Fitted
from synthgain.statistics.units import Design, Units, units_of

THRESHOLD_COLUMNS = [
    *("arm", "ratio", "dataset", "label", "policy", "threshold", "threshold_sd", "metric", "replicates", "mean"),
    *("baseline", "baseline_mean", "difference", "low", "high", "p", "reason"),
]
DOSE_COLUMNS = ["arm", "dataset", "label", "metric", "ratio", "replicate", "value", "difference"]


def threshold_rows(
    found: list[Endpoint],
    runs: pd.DataFrame,
    labels: list[str],
    thresholds: dict[str, Fitted],
    policy: str,
    pairs: list[Pair],
    analysis: Analysis,
) -> list[dict]:
    """`thresholds.csv`: each thresholded metric under each policy, against the baseline under the same policy.

    thresholds: policy → where its decisions come from, of (R, L).
    """
    against = {(pair.arm, pair.ratio): pair for pair in pairs if not pair.control}
    rows = []
    for endpoint in found:
        name, _, named = endpoint.metric.partition("@")
        if METRICS[name].needs != "decisions":
            continue
        used = named or policy
        for (arm, ratio), at in cells_of(runs).items():
            row: dict[str, object] = {"arm": arm, "ratio": ratio, "dataset": endpoint.dataset, "label": endpoint.label}
            row |= {"policy": used, "metric": name, "replicates": len(at), "mean": float(endpoint.values[at].mean())}
            if endpoint.label != MACRO and used in thresholds:
                own = thresholds[used].thresholds[at, labels.index(endpoint.label)]
                row |= {
                    "threshold": float(own.mean()),
                    "threshold_sd": float(own.std(ddof=1)) if len(at) > 1 else np.nan,
                }
            pair = against.get((arm, ratio))
            if pair is not None:
                contrast, reason = contrast_of(endpoint, pair, pair_units(pair, analysis))
                low, high = contrast.interval(analysis.confidence)
                row |= {"baseline": pair.baseline, "baseline_mean": float(endpoint.values[pair.baseline_runs].mean())}
                row |= {"difference": contrast.difference, "low": low, "high": high, "p": contrast.p_value()}
                row["reason"] = reason
            rows.append(row)
    return rows


def headline_endpoint(found: list[Endpoint], analysis: Analysis, dataset: str) -> Endpoint | None:
    """The endpoint that curves are drawn of: the primary metric and labels, on this data set; else the first mean."""
    metric = analysis.primaries[0].metric if analysis.primaries else analysis.metrics[0]
    label = analysis.primaries[0].labels if analysis.primaries else MACRO
    for wanted in (label, MACRO):
        for endpoint in found:
            if (endpoint.dataset, endpoint.metric, endpoint.label) == (dataset, metric, wanted):
                return endpoint
    return None


def dose_response_of(
    endpoint: Endpoint, pairs: list[Pair], analysis: Analysis, random: np.random.Generator
) -> tuple[list[pd.DataFrame], list[DoseFit]]:
    """Points and fits of every arm that has ratios; ratio 0 is the baseline of the same replicates.

    An arm without real images of its own has no zero ratio: its curve starts at its first ratio.
    """
    points: list[pd.DataFrame] = []
    fits: list[DoseFit] = []
    key = {"dataset": endpoint.dataset, "label": endpoint.label, "metric": endpoint.metric}
    for arm in dict.fromkeys(pair.arm for pair in pairs):
        own = sorted((pair for pair in pairs if pair.arm == arm and not pair.control), key=lambda pair: pair.ratio)
        if len(own) < 2 or own[0].ratio == 0:
            continue
        runs = [pair.arm_runs for pair in own]
        ratios = [pair.ratio for pair in own]
        if analysis.arms[arm].real:
            runs, ratios = [own[0].baseline_runs, *runs], [0, *ratios]
        if len({len(run) for run in runs}) > 1:
            continue  # replicates differ between ratios: no per-replicate curve
        values = np.stack([endpoint.values[run] for run in runs], axis=1)
        x = np.array(ratios)
        cells = np.stack(runs, axis=1)
        points.append(dose_response.point_rows(key, arm, x, values))
        units = pair_units(own[0], analysis)
        contrast, slopes = _combined(endpoint, cells, dose_response.slope_weights(x), units)
        means = values.mean(axis=0)[np.argsort(x)]
        fit: DoseFit = {
            "arm": arm,
            "dataset": endpoint.dataset,
            "label": endpoint.label,
            "metric": endpoint.metric,
            "ratios": ratios,
            "replicates": len(values),
            "slope": dose_response.slope_test(slopes, contrast, means, analysis.confidence),
        }
        picked = best_ratio(endpoint, own, units, random.spawn(1)[0])
        if picked is not None:
            fit["picked"] = picked
        if len(x) >= dose_response.MIN_RATIOS_FOR_CURVES and 0 in ratios:
            averaging = np.zeros((len(runs), len(endpoint.values)))
            for row, run in zip(averaging, runs, strict=True):
                row[run] = 1 / len(run)
            covariance = averaging @ endpoint.covariance @ averaging.T
            fit["curves"] = dose_response.fit_curves(x, values)
            if not fit["slope"]["p"] < analysis.alpha:  # a curve through noise that all points share is no finding
                fit["curves"]["best"] = "constant"
            fit["intervals"] = dose_response.curve_intervals(x, values, covariance, random, analysis.confidence)
        fits.append(fit)
    return points, fits


def real_equivalents_of(
    endpoint: Endpoint, runs: pd.DataFrame, analysis: Analysis, patients: dict[str, int]
) -> list[dict[str, object]]:
    """Real-image equivalents of each synthetic cell, where plain real arms at two or more fractions exist.

    patients: data set → its real training patients.
    """
    found = []
    plain = {name: spec for name, spec in analysis.arms.items() if analysis.role(name) == "baseline"}
    for arm, spec in analysis.arms.items():
        real, fraction = spec.real, spec.real_fraction
        curve = sorted((s.real_fraction, n) for n, s in plain.items() if s.real == real)
        if not analysis.is_synthetic(arm) or real is None or len(curve) < 2 or fraction not in dict(curve):
            continue
        fractions = np.array([point[0] for point in curve])
        levels = [endpoint.values[_at(runs, name, 0)] for _, name in curve]
        for ratio in sorted(runs.loc[runs["arm"] == arm, "ratio"].unique()):
            supplemented = endpoint.values[_at(runs, arm, int(ratio))]
            if len({len(level) for level in (*levels, supplemented)}) > 1:
                continue
            place = {"arm": arm, "ratio": int(ratio), "dataset": endpoint.dataset, "metric": endpoint.metric}
            plain_arms = [_at(runs, name, 0) for _, name in curve]
            cells = np.stack([*plain_arms, _at(runs, arm, int(ratio))], axis=1)
            at = int(np.flatnonzero(np.isclose(fractions, fraction))[0])
            weights = learning_curve.contrasts(fractions, at)
            replicates = runs.loc[cells[:, 0], "replicate"].to_numpy()
            units = units_of(replicates, Design(analysis.generators, analysis.pools, analysis.source(arm)))
            gain, slope, both = (_combined(endpoint, cells, weight, units)[0] for weight in weights)
            exchange, largest = learning_curve.Exchange(gain, slope, both), float(fractions.max())
            worth = learning_curve.real_equivalents(
                exchange, fraction, largest, patients.get(real), analysis.confidence
            )
            found.append({**place, "label": endpoint.label, "real_fraction": fraction, **worth})
    return found


def power_of(
    found: list[Endpoint], primary: Primary, pairs: list[Pair], patients: int, analysis: Analysis
) -> dict[str, object] | None:
    """Power of one declared comparison, or None where it is not estimable."""
    for endpoint in found:
        if (endpoint.dataset, endpoint.label, endpoint.metric) != primary.endpoint():
            continue
        for pair in pairs:
            if (pair.arm, pair.ratio, pair.control) == (primary.arm, primary.ratio, False):
                contrast, reason = contrast_of(endpoint, pair, pair_units(pair, analysis))
                report = power_report(contrast, patients, analysis.alpha, analysis.margin, reason)
                return {"arm": primary.arm, "ratio": primary.ratio, "metric": primary.metric, **report}
    return None


def patient_bootstrap(
    panel: Panel, labels: list[int], primary: Primary, pairs: list[Pair], resamples: Resamples, analysis: Analysis
) -> SeedInterval | None:
    """Patient-clustered bootstrap interval of a declared AUROC difference, mean over seeds: about these seeds only.

    None for other metrics, whose `patient_low` and `patient_high` are bootstrap intervals already.
    """
    chosen = [label for label in labels if primary.labels in (MACRO, panel.labels[label])]
    own = [pair for pair in pairs if (pair.arm, pair.ratio, pair.control) == (primary.arm, primary.ratio, False)]
    if primary.metric != "auroc" or not chosen or not own:
        return None
    draws = [
        delong.bootstrap_auroc(panel.truth[k], panel.scores[own[0].arm_runs, k], panel.patient, resamples.bootstrap)
        - delong.bootstrap_auroc(
            panel.truth[k], panel.scores[own[0].baseline_runs, k], panel.patient, resamples.bootstrap
        )
        for k in chosen
    ]
    low, high = percentile_interval(np.mean(draws, axis=0), analysis.confidence)
    return {"arm": primary.arm, "ratio": primary.ratio, "dataset": panel.dataset, "low": low, "high": high}


def _combined(endpoint: Endpoint, cells: np.ndarray, weights: np.ndarray, units: Units) -> tuple[Contrast, np.ndarray]:
    """A linear combination of the cells of each replicate: contrast over units and patients, and value per unit.

    cells: (S, K) positions of runs; weights: (K,).
    """
    combine = np.zeros((len(cells), len(endpoint.values)))
    np.put_along_axis(combine, cells, np.broadcast_to(weights, cells.shape), axis=1)
    combine = units.averaging @ combine
    values, matrix = combine @ endpoint.values, combine @ endpoint.covariance @ combine.T
    influence = None if endpoint.influence is None else combine.mean(axis=0) @ endpoint.influence
    return orh.linear(values, matrix, units.strata, influence), values


def _at(runs: pd.DataFrame, arm: str, ratio: int) -> np.ndarray:
    return np.flatnonzero(((runs["arm"] == arm) & (runs["ratio"] == ratio)).to_numpy())
