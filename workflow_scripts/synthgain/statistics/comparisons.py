"""One row per comparison: an arm against its baseline on one endpoint, with every test beside each other."""

import numpy as np
import pandas as pd

from synthgain.statistics.analysis import CONTROL_ROLES, Analysis
from synthgain.statistics.endpoints import Endpoint
from synthgain.statistics.equivalence import Rules, is_noninferior, judge
from synthgain.statistics.estimability import COPIES, contrast_of
from synthgain.statistics.metric_registry import higher_is_better, metric
from synthgain.statistics.multiplicity import adjust
from synthgain.statistics.obuchowski_rockette import Contrast
from synthgain.statistics.paired import paired_t, probability_better, sign_flip_p, standardised_difference
from synthgain.statistics.pairs import Pair, pair_units
from synthgain.statistics.resampling import percentile_interval

PRIMARY, SECONDARY, EXPLORATORY, CONTROL = "primary", "secondary", "exploratory", "control"
# Documented order (docs/architecture.md), then the further columns.
COLUMNS = [
    *("arm", "ratio", "baseline", "dataset", "label", "metric", "family", "replicates", "mean", "baseline_mean"),
    *("difference", "low", "high", "se", "df", "p", "p_adjusted", "p_bonferroni", "t", "t_p", "t_low", "t_high"),
    *("sign_flip_p", "probability_better", "d_z", "seed_sd", "patient_sd", "verdict", "baseline_ratio", "role"),
    *("p_two_sided", "noninferior", "equivalence_low", "equivalence_high", "patient_low", "patient_high"),
    *("reason", "p_guard", "claim", "units", "unit"),
]


def comparison_rows(endpoint: Endpoint, patients: int, pairs: list[Pair], analysis: Analysis) -> list[dict]:
    """All comparisons on one endpoint, families set, p-values not yet adjusted."""
    place = (endpoint.dataset, endpoint.label, endpoint.metric)
    is_primary = place in analysis.primary_endpoints()
    rows = []
    for pair in pairs:
        epochs = pair.control and analysis.arms[pair.arm].match == "epochs"
        if pair.control and not (is_primary or epochs):
            continue
        rows.append(_row(endpoint, patients, pair, analysis) | {"family": _family(pair, place, analysis)})
    return rows


def finish(rows: list[dict], analysis: Analysis) -> pd.DataFrame:
    """Adjust p within each family and give the verdicts.

    Primary: unadjusted. Secondary: Holm over the other ratios. Control: Holm over the ratios of one control,
    two-sided.
    Exploratory: Benjamini–Hochberg over all. Bonferroni stands beside each.
    """
    table = pd.DataFrame(rows, columns=[*COLUMNS, "contrast", "too_few"])
    if table.empty:  # nothing is estimable
        return table[COLUMNS]
    own = table[["family", "dataset", "label", "metric", "arm", "baseline"]].astype(str).agg("|".join, axis=1)
    group = own.mask(table["family"] == EXPLORATORY, EXPLORATORY)
    for _, members in table.groupby(group, sort=False).groups.items():
        family = table.loc[members[0], "family"]
        # Controls are judged on both sides whatever was asked for: an A/A arm that does harm is as alarming.
        column = "p_two_sided" if family == CONTROL else "p"
        p = table.loc[members, column].to_numpy(dtype=np.float64)
        method = "benjamini_hochberg" if family == EXPLORATORY else "holm"
        table.loc[members, "p_adjusted"] = p if family == PRIMARY else adjust(p, method)
        table.loc[members, "p_bonferroni"] = p if family == PRIMARY else adjust(p, "bonferroni")
    judged = [_judge(row, analysis) for row in table.to_dict("records")]
    table["verdict"], table["reason"] = [word for word, _ in judged], [reason for _, reason in judged]
    return table[COLUMNS]


def _row(endpoint: Endpoint, patients: int, pair: Pair, analysis: Analysis) -> dict:
    arm, baseline, replicates = pair.arm_runs, pair.baseline_runs, pair.replicates
    units = pair_units(pair, analysis)
    contrast, reason = contrast_of(endpoint, pair, units)
    first, second = units.averaging @ endpoint.values[arm], units.averaging @ endpoint.values[baseline]
    rules = rules_of(endpoint.metric, analysis)
    higher, alternative = rules.higher_is_better, rules.alternative
    t = paired_t(first, second, alternative, analysis.confidence)
    low, high = contrast.interval(analysis.confidence)
    equivalence = contrast.interval(1 - 2 * analysis.alpha)
    patient_low, patient_high = _patient_interval(endpoint, arm, baseline, analysis.confidence)
    if reason and reason != COPIES:
        patient_low = patient_high = np.nan
    return {
        "arm": pair.arm,
        "ratio": pair.ratio,
        "baseline": pair.baseline,
        "baseline_ratio": pair.baseline_ratio,
        "role": analysis.role(pair.arm),
        "dataset": endpoint.dataset,
        "label": endpoint.label,
        "metric": endpoint.metric,
        "replicates": len(replicates),
        "mean": float(endpoint.values[arm].mean()),
        "baseline_mean": float(endpoint.values[baseline].mean()),
        "difference": contrast.difference,
        "low": low,
        "high": high,
        "se": contrast.se,
        "df": contrast.df,
        "p": contrast.p_value(alternative),
        "p_two_sided": contrast.p_value(),
        "t": t.t,
        "t_p": t.p,
        "t_low": t.low,
        "t_high": t.high,
        "sign_flip_p": sign_flip_p(first - second, alternative),
        "probability_better": probability_better(first - second, higher),
        "d_z": standardised_difference(first - second),
        "seed_sd": float(np.sqrt(contrast.seed_variance)),
        "patient_sd": float(np.sqrt(contrast.patient_variance * patients)),
        "noninferior": is_noninferior(contrast, rules.margin, analysis.alpha, higher),
        "equivalence_low": equivalence[0],
        "equivalence_high": equivalence[1],
        "patient_low": patient_low,
        "patient_high": patient_high,
        "contrast": contrast,
        "reason": reason,
        "p_guard": np.nan,
        "claim": units.claim,
        "units": units.count,
        "unit": units.unit,
        "too_few": units.too_few,
    }


def rules_of(name: str, analysis: Analysis) -> Rules:
    """What was declared for a metric. The margin is that of the primary metric: 0.02 of AUROC is not 0.02 of Brier."""
    margin = analysis.margin if name in analysis.primary_metrics() else None
    higher = higher_is_better(name)
    return Rules(analysis.alpha, margin, higher, oriented(analysis.alternative, higher), metric(name).ends)


def oriented(alternative: str, higher: bool) -> str:
    """`greater` means "better": for a metric of which less is better it becomes `less`."""
    return alternative if higher or alternative == "two-sided" else {"greater": "less", "less": "greater"}[alternative]


def _patient_interval(
    endpoint: Endpoint, arm: np.ndarray, baseline: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Interval over patients for these very seeds: bootstrap of the seed mean; else DeLong or jackknife."""
    if endpoint.draws is not None:
        return percentile_interval(
            endpoint.draws[:, arm].mean(axis=1) - endpoint.draws[:, baseline].mean(axis=1), confidence
        )
    weight = np.zeros(len(endpoint.values))
    weight[arm] += 1 / len(arm)
    weight[baseline] -= 1 / len(baseline)
    variance = max(float(weight @ endpoint.covariance @ weight), 0.0)
    fixed = Contrast(float(weight @ endpoint.values), float(np.sqrt(variance)), np.inf, len(arm), 0.0, variance)
    return fixed.interval(confidence)


def _family(pair: Pair, place: tuple[str, str, str], analysis: Analysis) -> str:
    if pair.control:
        return CONTROL
    declared = [primary for primary in analysis.primaries if primary.endpoint() == place and primary.arm == pair.arm]
    if declared:
        return PRIMARY if pair.ratio in [primary.ratio for primary in declared] else SECONDARY
    if analysis.role(pair.arm) in CONTROL_ROLES and place in analysis.primary_endpoints():
        return CONTROL
    return EXPLORATORY


def _judge(row: dict, analysis: Analysis) -> tuple[str, str]:
    """Verdict and reason by the p adjusted within the row's family."""
    if analysis.rehearsal:
        return "", row["reason"]
    means, copies = (row["mean"], row["baseline_mean"]), row["reason"] == COPIES
    rules = rules_of(row["metric"], analysis)
    judged = judge(row["contrast"], means, rules, row["too_few"], row["reason"], row["p_adjusted"], copies)
    return judged.verdict, judged.reason
