"""The long tail: each finding by itself, from the rarest on, with how often it is there to be learnt and to be tested.

A mean over labels hides that the rare ones, for which synthetic images are wanted most, rest on a handful of patients.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from synthgain.statistics.analysis import Analysis
from synthgain.statistics.comparisons import CONTROL
from synthgain.statistics.predictions import Panel
from synthgain.statistics.readings import RARE

COLUMNS = [
    *("arm", "ratio", "baseline", "dataset", "label", "metric", "trained_positives", "trained_patients", "share"),
    *("positives", "patients", "baseline_mean", "mean", "difference", "low", "high", "p_adjusted", "rare", "reason"),
]
RESULT = ["baseline_mean", "mean", "difference", "low", "high", "p_adjusted"]


def findings_table(
    panels: Sequence[Panel],
    comparisons: pd.DataFrame,
    analysis: Analysis,
    metric: str,
    datasets: Mapping[str, pd.DataFrame],
    splits: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """`findings.csv`: a row per arm, ratio, test set and finding; none where a model has one label only.

    comparisons: `comparisons.csv`. datasets, splits: data set → its table. Counts are patients with at least one
    positive image: `trained_` of the training part of the baseline's real set, without it of the test set.
    A finding of too few test patients has its counts and the reason, and no number.
    """
    rows = []
    labelled = comparisons[(comparisons["metric"] == metric) & (comparisons["family"] != CONTROL)]
    found = {(r["arm"], r["ratio"], r["dataset"], r["label"]): r for r in labelled.to_dict("records")}
    pairs = labelled[["arm", "ratio", "baseline"]].drop_duplicates().itertuples(index=False)
    cells = [(str(arm), int(ratio), str(baseline)) for arm, ratio, baseline in pairs]
    for panel in (panel for panel in panels if len(panel.labels) > 1):
        for arm, ratio, baseline in cells:
            real = analysis.arms[baseline].real or ""
            for place, label in enumerate(panel.labels):
                positive, negative = panel.positive_patients(place), panel.negative_patients(place)
                taught, known = _trained(datasets.get(real), splits.get(real), label)
                row: dict[str, object] = {"arm": arm, "ratio": ratio, "baseline": baseline, "dataset": panel.dataset}
                row |= {"label": label, "metric": metric, "trained_positives": taught, "trained_patients": known}
                row |= {"share": taught / known if known else np.nan, "positives": positive}
                row |= {"patients": _patients(panel, place), "rare": bool(known) and taught < RARE * known}
                at = (arm, ratio, panel.dataset, label)
                if at in found:
                    measured = found[at]
                    row |= {name: measured[name] for name in RESULT} | {"reason": measured["reason"]}
                else:
                    row["reason"] = _too_few(positive, negative, analysis.minimum_positives)
                rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    order = table["share"].fillna(table["positives"] / table["patients"].clip(lower=1))
    return table.loc[order.astype(float).sort_values(kind="stable").index].reset_index(drop=True)


def _too_few(positive: int, negative: int, minimum: int) -> str:
    """Why a label has no number."""
    if positive < minimum:
        return f"too few: {positive} test patients have it, {minimum} are needed"
    if negative < minimum:
        return f"too few: {negative} test patients are without it, {minimum} are needed"
    return "not computed"


def _trained(table: pd.DataFrame | None, split: pd.DataFrame | None, label: str) -> tuple[float, float]:
    """Patients of the training part with a positive image, and those whose label is known; NaN, 0 where unknown."""
    if table is None or split is None or label not in table or not pd.api.types.is_numeric_dtype(table[label]):
        return np.nan, 0
    train = split.loc[split["part"] == "train", "image_id"]
    own = table[table["image_id"].isin(train) & table[label].notna()]
    return float(own.loc[own[label] == 1, "patient_id"].nunique()), float(own["patient_id"].nunique())


def _patients(panel: Panel, place: int) -> int:
    return len(np.unique(panel.patient[~np.isnan(panel.truth[place])]))
