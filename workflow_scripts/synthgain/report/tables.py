"""Tables of results, built in one way: codes spelt out, notes below, the CSV as the file is, long ones folded."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from synthgain.report.blocks import Column, Details, Table, make_table
from synthgain.report.vocabulary import MEASURES, in_words, listed

FEW_ROWS = 14  # longer tables are folded
ALL = "all"  # the group that is every image
NORMAL_95 = 1.959964  # half the length of a 95 % interval, in SDs
FLOOR_SDS = 2.0  # a value within so many SDs of its floor is "at the floor"
ARM = [Column("arm", "Arm"), Column("ratio", "Ratio %", "ratio")]
TEST_SET = Column("dataset", "Test set", optional=True)
PLACE = [*ARM, TEST_SET, Column("label", "Label", optional=True)]
STRUCTURE_PLACE = [*ARM, TEST_SET, Column("label", "Structure", optional=True)]


def at_floor(rows: pd.DataFrame) -> pd.Series:
    """Which values (rows with value, low, high, floor, floor_sd) are at their floor, by the error of both.

    The floor varies over its splits and the value over its own images: a distance in SDs of the floor alone is
    too long by half where nothing differs.
    """
    own = ((rows["high"] - rows["low"]) / (2 * NORMAL_95)).fillna(0)
    return (rows["value"] - rows["floor"]).abs() <= FLOOR_SDS * np.hypot(own, rows["floor_sd"].fillna(0))


def result_table(
    title: str,
    rows: pd.DataFrame,
    columns: Sequence[Column],
    file: str,
    note: str = "",
    strong: pd.Series | None = None,
    shown: pd.DataFrame | None = None,
) -> Table:
    """Return a table of results; `rows` are its CSV, and what is shown unless `shown` is given.

    The notes of the rows are added to `note`, unless they are one of the columns.
    """
    if not any(column.key == "note" for column in columns):
        note = f"{note} {notes_of(rows)}".strip()
    return make_table(title, in_words(rows if shown is None else shown), columns, file, strong, note, rows)


def folded(table: Table, few: int = FEW_ROWS) -> Table | Details:
    """Return the table, folded away where it has more than a few rows."""
    return table if len(table.rows) <= few else Details(table.title, [table])


def notes_of(table: pd.DataFrame) -> str:
    """Return the notes of a table, each once, to go below it instead of in a narrow column."""
    if "note" not in table:
        return ""
    noted = table[table["note"].notna() & (table["note"].astype(str).str.strip() != "")]
    sentences = []
    for note, rows in noted.groupby("note", sort=False):
        text = str(note).rstrip(".").replace(" x ", " × ").replace(" kid", " KID")
        measures = dict.fromkeys(rows["metric"]) if "metric" in rows else {}
        about = listed([MEASURES[name] for name in measures if name in MEASURES])
        sentences.append(f"{about}: {text}." if about else f"{text[0].upper()}{text[1:]}.")
    return " ".join(sentences)


def comparison_columns(level: str) -> list[Column]:
    """Columns of a table of comparisons; `level` is such as `95 %`."""
    return [
        *ARM,
        Column("baseline", "Against", optional=True),
        TEST_SET,
        Column("label", "Label", optional=True),
        Column("metric", "Metric", optional=True),
        Column("mean", "Mean", "number"),
        Column("floor", "Trivial floor", "number"),
        Column("difference", "Difference", "signed"),
        Column(("low", "high"), f"{level} interval", "signed_interval"),
        Column("p_adjusted", "p adjusted", "p"),
        Column("verdict", "Verdict"),
        Column("reason", "Why", optional=True),
        Column("p", "p", "p"),
        Column("p_bonferroni", "p Bonferroni", "p"),
        Column("t_p", "p paired t", "p"),
        Column("sign_flip_p", "p sign flip", "p"),
    ]


def summary_columns(level: str) -> list[Column]:
    """Columns of a table of means; `level` is such as `95 %`."""
    return [
        *PLACE,
        Column("metric", "Metric", optional=True),
        Column("replicates", "Replicates", "count"),
        Column("mean", "Mean", "number"),
        Column("floor", "Trivial floor", "number"),
        Column("sd", "SD over seeds", "number"),
        Column(("low", "high"), f"{level} interval", "interval"),
    ]
