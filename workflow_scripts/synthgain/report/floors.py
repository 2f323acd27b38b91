"""Trivial floors: what a prediction that looks at no image reaches, for every segmentation score."""

import pandas as pd

from synthgain.statistics.metric_registry import higher_is_better

PLACE = ["dataset", "label", "metric"]


def best_floors(table: pd.DataFrame) -> pd.DataFrame:
    """Return the best floor per data set, label and metric (dataset, label, metric, floor, value) of `floor.csv`."""
    if not len(table):
        return pd.DataFrame(columns=[*PLACE, "floor", "value"])
    sign = table["metric"].map(lambda metric: -1 if higher_is_better(metric) else 1)
    ordered = table.dropna(subset=["value"]).assign(order=sign * table["value"]).sort_values("order", kind="stable")
    return ordered.drop_duplicates(PLACE).drop(columns="order").reset_index(drop=True)


def with_floor(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return rows (dataset, label, metric, …) with a column `floor`: the best trivial value; unchanged without any."""
    if not len(table) or not len(rows):
        return rows
    values = best_floors(table)[[*PLACE, "value"]].rename(columns={"value": "floor"})
    return rows.merge(values, on=PLACE, how="left")
