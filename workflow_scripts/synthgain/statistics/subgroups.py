"""Subgroups: AUROC, true and false positive rate per group, their gaps, and the paired change of each gap.

The interaction of a group is its gain minus that of all other patients of known group: that a gain is significant in
one group and not in another does not show that they differ.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgain.statistics import delong
from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.analysis import Analysis
from synthgain.statistics.endpoints import Resamples
from synthgain.statistics.estimability import contrast_of
from synthgain.statistics.information import Kinds, of_auroc, of_ratios
from synthgain.statistics.multiplicity import adjust
from synthgain.statistics.pairs import Pair, pair_units
from synthgain.statistics.predictions import Panel, cells_of
from synthgain.statistics.resampling import (
    bootstrap_covariance,
    patient_sums,
    percentile_interval,
    ratio_draws,
    ratio_influence,
)

PERMUTATIONS = 500
BANDS = 3  # a continuous covariate is cut at its tertiles over patients
MAX_LEVELS = 5  # a numeric column with more values is continuous (ages, not grades)
GAP = "gap"
COLUMNS = [
    *("arm", "ratio", "baseline", "dataset", "label", "column", "group", "metric", "patients", "positives", "mean"),
    *("low", "high", "baseline_mean", "difference", "difference_low", "difference_high", "bootstrap_low"),
    *("bootstrap_high", "p", "p_adjusted", "permutation_p", "reason"),
    *("interaction", "interaction_low", "interaction_high", "interaction_p", "interaction_p_adjusted"),
]


@dataclass(frozen=True)
class GroupMetric:
    """values: (R,); covariance (R, R) and draws (B, R) over patients; else as an Endpoint's (ends None: unknown)."""

    label: str
    values: np.ndarray
    covariance: np.ndarray
    draws: np.ndarray
    information: Kinds
    influence: np.ndarray | None = None
    ends: tuple[float, float] | None = (0.0, 1.0)


def group_codes(panel: Panel, table: pd.DataFrame, column: str) -> tuple[np.ndarray, list[str]]:
    """Group of each patient (P,), −1 where unknown, and the groups' names; a patient's first image decides."""
    values = table.drop_duplicates("image_id").set_index("image_id")[column].reindex(panel.image_ids)
    first = np.unique(panel.patient, return_index=True)[1]
    of_patient = values.iloc[first]
    if pd.api.types.is_numeric_dtype(of_patient) and of_patient.nunique() > MAX_LEVELS:
        bands = pd.qcut(of_patient, BANDS, duplicates="drop", precision=1)
        return bands.cat.codes.to_numpy().astype(np.int64), [str(band) for band in bands.cat.categories]
    codes, names = pd.factorize(of_patient, sort=True)
    return codes.astype(np.int64), [f"{name:g}" if isinstance(name, float) else str(name) for name in names]


def subgroup_table(
    panel: Panel,
    labels: list[int],
    decided: np.ndarray | None,
    tables: pd.DataFrame,
    pairs: list[Pair],
    analysis: Analysis,
    resamples: Resamples,
    random: np.random.Generator,
) -> pd.DataFrame:
    """`subgroups.csv` of one test set; decided: (R, L, N) bool at the primary thresholds.

    Groups below the minimum counts keep their counts and get no number. p: Benjamini–Hochberg over all rows of the set,
    that of interactions over all interactions of the set.
    """
    rows: list[dict] = []
    for column in [name for name in analysis.subgroups if name in tables]:
        codes, names = group_codes(panel, tables, column)
        for label in labels:
            rows += _label_rows(panel, label, decided, column, codes, names, pairs, analysis, resamples, random)
    table = pd.DataFrame(rows, columns=COLUMNS)
    for name in ("p", "interaction_p"):
        table[f"{name}_adjusted"] = adjust(table[name].to_numpy(dtype=np.float64), "benjamini_hochberg")
    return table


def permutation_p(
    panel: Panel, label: int, scores: np.ndarray, codes: np.ndarray, groups: list[int], random: np.random.Generator
) -> float:
    """p of the max–min AUROC gap (mean over seeds) when group labels are shuffled among patients.

    scores: (S, N). The gap over several groups is above 0 by noise alone, so it needs this null.
    """
    pool = np.flatnonzero(np.isin(codes, groups))
    shuffled = np.tile(codes, (PERMUTATIONS + 1, 1))
    for row in shuffled[1:]:
        row[pool] = random.permutation(codes[pool])
    by_group = []
    for group in groups:
        member = (shuffled == group).astype(np.float64)
        by_group.append(delong.bootstrap_auroc(panel.truth[label], scores, panel.patient, member))
    gaps = np.max(by_group, axis=0) - np.min(by_group, axis=0)
    return float((1 + np.sum(gaps[1:] >= gaps[0] - 1e-12)) / (1 + np.isfinite(gaps[1:]).sum()))


def _label_rows(
    panel: Panel,
    label: int,
    decided: np.ndarray | None,
    column: str,
    codes: np.ndarray,
    names: list[str],
    pairs: list[Pair],
    analysis: Analysis,
    resamples: Resamples,
    random: np.random.Generator,
) -> list[dict]:
    counts = {group: _counts(panel, label, codes == group) for group in range(len(names))}
    kept = [g for g, count in counts.items() if _enough(count, analysis)]
    rows: list[dict] = []
    others = {g: (codes >= 0) & (codes != g) for g in kept}
    others = {g: rest for g, rest in others.items() if _enough(_counts(panel, label, rest), analysis)}
    for metric in ("auroc",) if decided is None else ("auroc", "tpr", "fpr"):
        measured = {g: _measure(panel, label, decided, metric, codes == g, resamples) for g in kept}
        elsewhere = {g: _measure(panel, label, decided, metric, rest, resamples) for g, rest in others.items()}
        for group, name in enumerate(names):
            place: dict[str, object] = {
                "dataset": panel.dataset,
                "label": panel.labels[label],
                "column": column,
                "group": name,
            }
            place |= {"metric": metric, "patients": counts[group][0], "positives": counts[group][1]}
            own, rest = measured.get(group), elsewhere.get(group)
            apart = _apart(own, rest) if own is not None and rest is not None else None
            rows += _cells(panel, own, place, pairs, analysis, apart)
        if len(kept) > 1:
            spread = _gap([measured[g] for g in kept])
            place |= {"group": GAP, "patients": sum(counts[g][0] for g in kept)}
            place |= {"positives": sum(counts[g][1] for g in kept)}
            found = _cells(panel, spread, place, pairs, analysis)
            if metric == "auroc":
                for row in found:
                    runs = panel.run_positions(row["arm"], row["ratio"])
                    scores = panel.scores[runs, label]
                    row["permutation_p"] = permutation_p(panel, label, scores, codes, kept, random)
            rows += found
    return rows


def _counts(panel: Panel, label: int, member: np.ndarray) -> tuple[int, int, int]:
    """Patients, patients with a positive and with a negative image, among those of a group; member: (P,) bool."""
    of_image = member[panel.patient]
    truth = panel.truth[label]
    distinct = [
        len(np.unique(panel.patient[of_image & chosen])) for chosen in (~np.isnan(truth), truth == 1, truth == 0)
    ]
    return distinct[0], distinct[1], distinct[2]


def _enough(counts: tuple[int, int, int], analysis: Analysis) -> bool:
    patients, positive, negative = counts
    return patients >= analysis.minimum_patients and min(positive, negative) >= analysis.minimum_positives


def _measure(
    panel: Panel, label: int, decided: np.ndarray | None, metric: str, member: np.ndarray, resamples: Resamples
) -> GroupMetric:
    """One metric within one group; bootstrap draws of the AUROC are linear in its influence (Hájek projection)."""
    of_image = member[panel.patient]
    if metric == "auroc":
        truth = np.where(of_image, panel.truth[label], np.nan)
        parts = delong.components(truth, panel.scores[:, label], panel.patient, panel.patients)
        draws = parts.auroc + (resamples.bootstrap - 1) @ parts.influence.T
        kinds = of_auroc(parts, truth, panel.patient, panel.patients)
        return GroupMetric(panel.labels[label], parts.auroc, delong.covariance([parts]), draws, kinds, parts.influence)
    if decided is None:
        raise ValueError("rates need decisions")
    chosen = of_image & (panel.truth[label] == (1 if metric == "tpr" else 0))
    flagged = patient_sums(decided[:, label] & chosen, panel.patient, panel.patients)
    total = np.broadcast_to(patient_sums(chosen[None], panel.patient, panel.patients), flagged.shape)
    part = [(flagged, total)]
    draws = ratio_draws(part, resamples.bootstrap)
    values = ratio_draws(part, np.ones((1, panel.patients)))[0]
    return GroupMetric(
        panel.labels[label],
        values,
        bootstrap_covariance(draws),
        draws,
        of_ratios(part, metric == "tpr"),
        ratio_influence(part),
    )


def _gap(groups: list[GroupMetric]) -> GroupMetric:
    values = np.ptp([group.values for group in groups], axis=0)
    draws = np.ptp([group.draws for group in groups], axis=0)
    kinds = tuple(kind for group in groups for kind in group.information)  # each group needs its own
    return GroupMetric(groups[0].label, values, bootstrap_covariance(draws), draws, kinds, ends=None)


def _apart(group: GroupMetric, rest: GroupMetric) -> GroupMetric:
    """A group's metric minus that of the others, who are other patients: their covariances add."""
    influence = None
    if group.influence is not None and rest.influence is not None:
        influence = group.influence - rest.influence
    covariance, kinds = group.covariance + rest.covariance, (*group.information, *rest.information)
    return GroupMetric(group.label, group.values - rest.values, covariance, group.draws - rest.draws, kinds, influence)


def _cells(
    panel: Panel,
    measured: GroupMetric | None,
    place: dict,
    pairs: list[Pair],
    analysis: Analysis,
    apart: GroupMetric | None = None,
) -> list[dict]:
    """A row per arm and ratio: its level, and its difference from its baseline where it has one.

    apart: the group's metric minus that of the others.
    """
    against = {(pair.arm, pair.ratio): pair for pair in pairs if not pair.control}
    rows = []
    for (arm, ratio), position in cells_of(panel.runs).items():
        pair = against.get((arm, ratio))
        row = {"arm": arm, "ratio": ratio, "baseline": pair.baseline if pair else "", **place}
        if measured is not None:
            level = orh.one_arm(measured.values[position], measured.covariance[np.ix_(position, position)])
            low, high = level.interval(analysis.confidence) if level.varies else (np.nan, np.nan)
            row |= {"mean": level.difference, "low": low, "high": high}
            row |= _difference(measured, pair, analysis) if pair else {}
        if apart is not None and pair is not None:
            found = _difference(apart, pair, analysis)
            row |= {"interaction": found["difference"], "interaction_p": found["p"]}
            row |= {"interaction_low": found["difference_low"], "interaction_high": found["difference_high"]}
        rows.append(row)
    return rows


def _difference(measured: GroupMetric, pair: Pair, analysis: Analysis) -> dict:
    contrast, reason = contrast_of(measured, pair, pair_units(pair, analysis))
    low, high = contrast.interval(analysis.confidence)
    moved = measured.draws[:, pair.arm_runs].mean(axis=1) - measured.draws[:, pair.baseline_runs].mean(axis=1)
    bootstrap_low, bootstrap_high = percentile_interval(moved, analysis.confidence)
    if not np.isfinite(contrast.se):
        bootstrap_low = bootstrap_high = np.nan
    return {
        "baseline_mean": float(measured.values[pair.baseline_runs].mean()),
        "difference": contrast.difference,
        "difference_low": low,
        "difference_high": high,
        "bootstrap_low": bootstrap_low,
        "bootstrap_high": bootstrap_high,
        "p": contrast.p_value(),
        "reason": reason,
    }
