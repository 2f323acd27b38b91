"""Endpoints: one metric on one label of one test set, for all runs, with its covariance over patients."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np

from synthgain import metrics
from synthgain.statistics import delong
from synthgain.statistics.information import Kinds, of_auroc, of_labels, of_ratios
from synthgain.statistics.metric_parts import Parts
from synthgain.statistics.metric_registry import MACRO, METRICS
from synthgain.statistics.metric_registry import metric as metric_of
from synthgain.statistics.predictions import Panel
from synthgain.statistics.resampling import (
    bootstrap_covariance,
    bootstrap_weights,
    jackknife_covariance,
    jackknife_influence,
    jackknife_weights,
    ratio_draws,
    ratio_influence,
)
from synthgain.statistics.thresholds import Fitted


@dataclass(frozen=True)
class Endpoint:
    """values: (R,) per run; covariance: (R, R) over patients; draws: (B, R) bootstrap (None: DeLong, jackknife).

    information: which patients show an error, which a success, in each run.
    influence: (R, K) first-order change of each value per unit of weight on a patient (average precision: on a group).
    """

    dataset: str
    part: str
    label: str
    metric: str
    values: np.ndarray
    covariance: np.ndarray
    draws: np.ndarray | None = None
    information: Kinds = ()
    influence: np.ndarray | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Where the metric's scale ends."""
        return metric_of(self.metric).ends


@dataclass(frozen=True)
class Resamples:
    """Patient weights shared by every run of a panel: bootstrap (B, P) and leave-out (G, P)."""

    bootstrap: np.ndarray
    jackknife: np.ndarray

    @classmethod
    def of(cls, patients: int, draws: int, random: np.random.Generator) -> "Resamples":
        """Draw both for `patients` patients."""
        return cls(bootstrap_weights(patients, draws, random), jackknife_weights(patients, random))


def estimable_labels(panel: Panel, minimum_positives: int) -> list[int]:
    """Labels with enough positive and negative patients; the others are left out in every arm.

    In segmentation a patient counts as positive where a structure is present, and negatives are not needed.
    """
    if panel.image_scores:
        present = panel.image_scores["truth_empty"][0] == 0
        counts = [len(np.unique(panel.patient[row])) for row in present]
        return [label for label, count in enumerate(counts) if count >= minimum_positives]
    return [
        label
        for label in range(len(panel.labels))
        if min(panel.positive_patients(label), panel.negative_patients(label)) >= minimum_positives
    ]


def endpoints(
    panel: Panel,
    names: list[str],
    labels: list[int],
    decisions: dict[str, np.ndarray],
    primary: str,
    resamples: Resamples,
    thresholds: Mapping[str, Fitted] | None = None,
) -> Iterator[Endpoint]:
    """Every metric of `names` on each of `labels` and on their mean.

    decisions: threshold policy → (R, L, N) bool; thresholds: where they come from (without: fixed). Thresholded metrics
    bear their plain name under the `primary` policy and `metric@policy` under the others.
    """
    if not labels:
        return
    for metric in (METRICS[name] for name in names):
        compute = getattr(import_module(metric.computed_by), metric.function or metric.name)
        if metric.own_variance:
            yield from compute(panel, labels, resamples)
        elif metric.needs == "decisions":
            for policy, decided in decisions.items():
                shown = metric.name if policy == primary else f"{metric.name}@{policy}"
                parts = [compute(panel, label, decided[:, label]) for label in labels]
                fitted = (thresholds or {}).get(policy)
                moved = None if fitted is None else _moved(panel, labels, compute, fitted)
                yield from _ratios(panel, labels, shown, parts, resamples, moved)
        else:
            yield from _ratios(panel, labels, metric.name, [compute(panel, label) for label in labels], resamples)


def auroc(panel: Panel, labels: list[int], resamples: Resamples) -> Iterator[Endpoint]:
    """AUROC of each label and their mean, with DeLong's covariance over patients; resamples are not used."""
    parts = [
        delong.components(panel.truth[label], panel.scores[:, label], panel.patient, panel.patients) for label in labels
    ]
    known = [_ranked(panel, label, part) for label, part in zip(labels, parts, strict=True)]
    for label, part, kinds in zip(labels, parts, known, strict=True):
        matrix = delong.covariance([part])
        yield _endpoint(panel, panel.labels[label], "auroc", part.auroc, matrix, None, kinds, part.influence)
    mean = np.mean([part.auroc for part in parts], axis=0)
    influence = np.mean([part.influence for part in parts], axis=0)
    yield _endpoint(panel, MACRO, "auroc", mean, delong.covariance(parts), None, of_labels(known), influence)


def _ranked(panel: Panel, label: int, parts: delong.Components | None = None) -> Kinds:
    """Who is ranked wrongly, who rightly: the information of metrics of the ranking."""
    truth = panel.truth[label]
    parts = parts or delong.components(truth, panel.scores[:, label], panel.patient, panel.patients)
    return of_auroc(parts, truth, panel.patient, panel.patients)


def average_precision(panel: Panel, labels: list[int], resamples: Resamples) -> Iterator[Endpoint]:
    """Average precision of each label and their mean, with the jackknife's covariance over patients."""
    name = "average_precision"
    values, left_out, ranked = [], [], [_ranked(panel, label) for label in labels]
    for label, kinds in zip(labels, ranked, strict=True):
        known = ~np.isnan(panel.truth[label])
        truth = panel.truth[label][known]
        weights = np.concatenate([np.ones((1, panel.patients)), resamples.jackknife])[:, panel.patient[known]]
        scores = panel.scores[:, label, known]
        computed = np.stack([metrics.weighted_average_precision(truth, row, weights) for row in scores], axis=1)
        values.append(computed[0])
        left_out.append(computed[1:])
        matrix, influence = jackknife_covariance(computed[1:]), jackknife_influence(computed[1:])
        yield _endpoint(panel, panel.labels[label], name, computed[0], matrix, None, kinds, influence)
    mean, without = np.mean(values, axis=0), np.mean(left_out, axis=0)
    matrix, influence = jackknife_covariance(without), jackknife_influence(without)
    yield _endpoint(panel, MACRO, name, mean, matrix, None, of_labels(ranked), influence)


def _moved(
    panel: Panel, labels: list[int], compute: Callable[[Panel, int, np.ndarray], Parts], fitted: Fitted
) -> list[np.ndarray] | None:
    """What each label's metric would be on this test set with thresholds of other validation patients: (B, R) each."""
    if fitted.draws is None:
        return None
    everyone = np.ones((1, 1))
    whole = replace(panel, patient=np.zeros_like(panel.patient), patient_ids=panel.patient_ids[:1])  # only totals count
    return [
        np.concatenate(
            [
                ratio_draws(compute(whole, k, panel.scores[:, k] >= moved[:, k, None]), everyone)
                for moved in fitted.draws
            ]
        )
        for k in labels
    ]


def _ratios(
    panel: Panel,
    labels: list[int],
    name: str,
    parts: list[Parts],
    resamples: Resamples,
    moved: list[np.ndarray] | None = None,
) -> Iterator[Endpoint]:
    """Endpoints of a metric that is a (mean of) ratio(s) of patient sums, by patient bootstrap.

    moved: per label (B, R), the metric under thresholds of resampled validation patients. Test and validation patients
    are independent, so that what both move adds up.
    """
    everyone = np.ones((1, panel.patients))
    values = [ratio_draws(part, everyone)[0] for part in parts]
    draws = [ratio_draws(part, resamples.bootstrap) for part in parts]
    if moved is not None:
        draws = [
            own + np.resize(other - other.mean(axis=0), own.shape) for own, other in zip(draws, moved, strict=True)
        ]
    known = [of_ratios(part, metric_of(name).higher_is_better, metric_of(name).bounded) for part in parts]
    influences = [ratio_influence(part) for part in parts]
    for label, value, drawn, kinds, influence in zip(labels, values, draws, known, influences, strict=True):
        yield _endpoint(panel, panel.labels[label], name, value, bootstrap_covariance(drawn), drawn, kinds, influence)
    mean, value, influence = np.mean(draws, axis=0), np.mean(values, axis=0), np.mean(influences, axis=0)
    yield _endpoint(panel, MACRO, name, value, bootstrap_covariance(mean), mean, of_labels(known), influence)


def _endpoint(
    panel: Panel,
    label: str,
    metric: str,
    values: np.ndarray,
    matrix: np.ndarray,
    draws: np.ndarray | None,
    information: Kinds,
    influence: np.ndarray,
) -> Endpoint:
    # float32: only the shape of its distribution is read, and there is one of (R, P) for every endpoint
    return Endpoint(
        panel.dataset, panel.part, label, metric, values, matrix, draws, information, influence.astype(np.float32)
    )
