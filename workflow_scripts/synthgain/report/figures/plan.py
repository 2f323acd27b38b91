"""Which figures a model gets from the tables that exist, with the words below them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from synthgain.report.figures import detail, utility
from synthgain.report.figures.style import ArmStyles, arm_label
from synthgain.report.floors import best_floors
from synthgain.statistics.metric_registry import MAIN, METRICS, MainEndpoint, metric_label

CI = "95 % interval"


@dataclass(frozen=True)
class Plan:
    """One figure: file name, section of the report, title, caption, and how to draw it."""

    file: str
    section: str
    title: str
    caption: str
    draw: Callable[[], Figure]

    def entry(self) -> dict[str, str]:
        """Return what the figures' manifest says about it."""
        return {"file": self.file, "section": self.section, "title": self.title, "caption": self.caption}


def main_arm(comparisons: pd.DataFrame, chosen: MainEndpoint) -> tuple[str, float] | None:
    """Return (arm, ratio) of the primary comparison, else the first secondary one, else the first one."""
    if chosen.arm is not None:
        return chosen.arm, float(chosen.ratio)
    for family in ("primary", "secondary", "exploratory", "control"):
        rows = comparisons[comparisons["family"] == family]
        if len(rows):
            return str(rows.iloc[0]["arm"]), float(rows.iloc[0]["ratio"])
    return None


def statistics_plans(
    tables: Mapping[str, pd.DataFrame],
    chosen: MainEndpoint,
    margin: float | None,
    arms: Sequence[str],
    size_lines: Mapping[str, str] | None = None,
) -> list[Plan]:
    """Return the plans of every figure whose table is in `tables` (keys: file names in statistics/<model>/).

    chosen: the main endpoint; arms: all arms in the study's order; size_lines: those that differ in their share of
    patients alone, and the name of their line.
    """
    summary, comparisons = tables["summary.csv"], tables["comparisons.csv"]
    metric, label = chosen.metric, chosen.labels
    baselines = comparisons.loc[comparisons["family"] != "control", "baseline"].value_counts()
    baseline = str(baselines.index[0]) if len(baselines) else next(iter(arms), "")
    styles = ArmStyles(arms, baseline)
    name = metric_label(metric)
    floors = best_floors(tables.get("floor.csv", pd.DataFrame()))
    floors = floors[(floors["metric"] == metric) & (floors["label"] == label)]
    floor_words = (
        " Dashed, or an arrow at the border: the best prediction that looks at no image." if len(floors) else ""
    )
    main = main_arm(comparisons, chosen)
    shown = _against_baselines(comparisons, baseline, main)
    plans = [
        Plan(
            "dose_response.svg",
            "dose",
            "Dose–response",
            f"{name} against the share of synthetic images, one panel per test set. Whiskers and the grey band are "
            f"{CI}s; the band is the baseline {baseline}. Dotted: the limits of equivalence, ± margin. "
            f"The horizontal axis is log2(1 + ratio/100); arms without synthetic images are at 0.{floor_words}",
            lambda: utility.dose_response(summary, metric, label, baseline, styles, margin, floors),
        )
    ]
    own = shown[(shown["metric"] == metric) & (shown["label"] == label)]
    if (own["dataset"] == chosen.test_set).any():
        metrics = tables["metrics.parquet"]
        plans.append(
            Plan(
                "paired_differences.svg",
                "result",
                "Difference from the baseline, replicate by replicate",
                f"Each ring is the difference between an arm and its baseline within one replicate (same seed, same "
                f"initial weights); filled marks are means with the {CI} over seeds and patients. Bold: the primary "
                "comparison; grey: controls; shaded: ± margin.",
                lambda: utility.paired_differences(metrics, shown, chosen.test_set, metric, label, styles, margin),
            )
        )
    if len(own):
        plans.append(
            Plan(
                "forest.svg",
                "sites",
                "All arms on all test sets",
                f"Mean difference in {name} with {CI}. Only the bold row of the primary test set was declared as "
                "primary; read the others with their adjusted p values.",
                lambda: utility.forest(shown, metric, label, styles, margin),
            )
        )
    sizes = gain_by_size(comparisons, tables.get("learning_curve.json"), chosen, size_lines or {})
    if len(sizes):
        plans.append(
            Plan(
                "gain_by_size.svg",
                "dose",
                "Gain over the number of real patients",
                f"Difference in {name} from the real arm of the same patients on {chosen.test_set}, a line per way of "
                f"making the images and ratio, with its {CI}. A gain that vanishes towards the right "
                "says that the set is enough; the table of real-image equivalents has the exchange rate. "
                "Exploratory.",
                lambda: utility.gain_over_size(sizes, metric, margin),
            )
        )
    subgroups = subgroup_rows(tables.get("subgroups.csv"), chosen, main)
    if len(subgroups) and main:
        plans.append(
            Plan(
                "subgroups.svg",
                "subgroups",
                "Change within subgroups",
                f"{arm_label(*main)} against its baseline on {chosen.test_set}, within each subgroup that is large "
                f"enough to report; {CI}s, exploratory.",
                lambda: detail.subgroup_effects(subgroups, margin),
            )
        )
    return plans


def _against_baselines(comparisons: pd.DataFrame, baseline: str, main: tuple[str, float] | None) -> pd.DataFrame:
    """Return the rows that the figures show: every arm against its baseline, the main one against the controls too."""
    rows = comparisons
    of_main = (rows["arm"] == main[0]) & (rows["ratio"] == main[1]) if main else False
    return rows[(rows["family"] != "control") | (rows["baseline"] == baseline) | of_main]


def gain_by_size(
    comparisons: pd.DataFrame, curve: pd.DataFrame | None, chosen: MainEndpoint, lines: Mapping[str, str]
) -> pd.DataFrame:
    """Return the main endpoint's rows of `comparisons.csv` with `real_fraction` and `line`: none for one size.

    curve: rows of `learning_curve.json`, which hold the cells of every size; lines: arm → line, so that no arm of
    another recipe stands on it.
    """
    if curve is None or not len(curve):
        return pd.DataFrame()
    own = comparisons[
        (comparisons["dataset"] == chosen.test_set)
        & (comparisons["metric"] == chosen.metric)
        & (comparisons["label"] == chosen.labels)
        & (comparisons["family"] != "control")
    ]
    sizes = curve[["arm", "ratio", "real_fraction"]].drop_duplicates()
    own = own[own["arm"].isin(list(lines))]
    found = own.merge(sizes, on=["arm", "ratio"])
    found = found.assign(line=found["arm"].map(dict(lines)))
    return found if found["real_fraction"].nunique() > 1 else found.iloc[:0]


def subgroup_rows(table: pd.DataFrame | None, chosen: MainEndpoint, main: tuple[str, float] | None) -> pd.DataFrame:
    """Return the rows of `subgroups.csv` for the main arm and test set, gaps left out: the main metric where it is
    measured per group, else its task's main one; the main label, or every label where the main one is their mean."""
    if table is None or main is None or not len(table):
        return pd.DataFrame()
    metric = chosen.metric if (table["metric"] == chosen.metric).any() else MAIN[METRICS[chosen.metric].task]
    rows = table[
        (table["arm"] == main[0])
        & (table["ratio"] == main[1])
        & (table["dataset"] == chosen.test_set)
        & (table["metric"] == metric)
        & (table["group"] != "gap")
    ]
    if chosen.labels in set(rows["label"]):
        rows = rows[rows["label"] == chosen.labels]
    return rows.dropna(subset=["difference", "difference_low", "difference_high"])
