"""Level tables: every metric of every run, and its mean per arm and ratio with an interval."""

import numpy as np
import pandas as pd

from synthgain.statistics import obuchowski_rockette as orh
from synthgain.statistics.endpoints import Endpoint
from synthgain.statistics.predictions import cells_of

METRIC_COLUMNS = ["arm", "ratio", "replicate", "dataset", "part", "label", "metric", "value"]
SUMMARY_COLUMNS = ["arm", "ratio", "dataset", "label", "metric", "replicates", "mean", "sd", "low", "high"]


def metric_rows(endpoint: Endpoint, runs: pd.DataFrame) -> pd.DataFrame:
    """`metrics.parquet` rows of one endpoint: one per run."""
    return runs.assign(
        dataset=endpoint.dataset,
        part=endpoint.part,
        label=endpoint.label,
        metric=endpoint.metric,
        value=endpoint.values,
    )[METRIC_COLUMNS]


def dashes(runs: pd.DataFrame, dataset: str, part: str, labels: list[str], metrics: list[str]) -> list[pd.DataFrame]:
    """Rows without a value for labels that are not estimable on this set: shown as a dash in every arm."""
    return [
        runs.assign(dataset=dataset, part=part, label=label, metric=metric, value=np.nan)[METRIC_COLUMNS]
        for label in labels
        for metric in metrics
    ]


def summary_rows(endpoint: Endpoint, runs: pd.DataFrame, confidence: float) -> list[dict]:
    """`summary.csv` rows of one endpoint: mean and SD over replicates, interval over seeds and patients."""
    rows = []
    for (arm, ratio), position in cells_of(runs).items():
        values = endpoint.values[position]
        level = orh.one_arm(values, endpoint.covariance[np.ix_(position, position)])
        low, high = level.interval(confidence) if level.varies else (np.nan, np.nan)  # no spread is no certainty
        rows.append(
            {
                "arm": arm,
                "ratio": ratio,
                "dataset": endpoint.dataset,
                "label": endpoint.label,
                "metric": endpoint.metric,
                "replicates": len(values),
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
                "low": low,
                "high": high,
            }
        )
    return rows
