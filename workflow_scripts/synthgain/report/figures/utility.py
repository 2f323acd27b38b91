"""Figures of utility: dose–response, paired differences, forest. DataFrame in, Figure out."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from synthgain.report.blocks import signed
from synthgain.report.figures.style import (
    BASELINE,
    EDGE,
    INK,
    MUTED,
    ArmStyles,
    arm_label,
    end_with_the_scale,
    new_figure,
    quiet_grid,
)
from synthgain.statistics.metric_registry import higher_is_better, metric_label
from synthgain.statistics.metric_registry import metric as metric_of

ROW = 0.27  # inches a row of a forest plot
MARGIN_BAND = "#eef1f4"
SIDESTEP = 0.03  # of a share, between the intervals of two ratios


def ratio_position(ratio: np.ndarray | float) -> np.ndarray:
    """Return log2(1 + ratio/100), the axis on which dose–response slopes are fitted (method, 1.10)."""
    return np.log2(1 + np.asarray(ratio, dtype=float) / 100)


def _panels(figure: Figure, count: int) -> list[Axes]:
    """Return `count` axes, at most three in a row, sharing x."""
    columns = min(max(count, 1), 3)
    rows = -(-max(count, 1) // columns)
    axes = figure.subplots(rows, columns, squeeze=False)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.set_visible(False)
    return flat[:count]


def dose_response(
    summary: pd.DataFrame,
    metric: str,
    label: str,
    baseline: str,
    styles: ArmStyles,
    margin: float | None = None,
    floors: pd.DataFrame | None = None,
) -> Figure:
    """Metric against supplementation ratio, a line per arm with its interval, a panel per test set.

    summary: rows of `summary.csv` (arm, ratio, dataset, label, metric, mean, low, high). The baseline is a band
    (its interval) over all ratios; arms without ratios are at 0 %. `margin` draws the limits of equivalence.
    The axis ends where the metric's scale does. floors: best trivial prediction per data set (dataset, floor, value),
    drawn as a dashed line at the foot.
    """
    rows = summary[(summary["metric"] == metric) & (summary["label"] == label)]
    datasets = list(dict.fromkeys(rows["dataset"]))
    columns, lines = min(max(len(datasets), 1), 3), -(-max(len(datasets), 1) // 3)
    figure = new_figure(max(2.9 * columns + 1.2, 5.6), 2.9 * lines + 0.7)
    for axes, dataset in zip(_panels(figure, len(datasets)), datasets, strict=True):
        _dose_panel(axes, rows[rows["dataset"] == dataset], baseline, styles, margin)
        if floors is not None:
            _floor_line(axes, floors[floors["dataset"] == dataset])
        low, high = axes.get_ylim()  # intervals of few replicates reach beyond every possible value
        axes.set_ylim(max(low, -EDGE), min(high, 1 + EDGE) if metric_of(metric).bounded else high)
        axes.set_title(dataset)
        axes.set_xlabel("synthetic images, % of real")
    if datasets:
        better = "" if higher_is_better(metric) else " (lower is better)"
        figure.axes[0].set_ylabel(f"{metric_label(metric)}{'' if label == 'macro' else ', ' + label}{better}")
        _shared_legend(figure)
    return figure


def _dose_panel(axes: Axes, rows: pd.DataFrame, baseline: str, styles: ArmStyles, margin: float | None) -> None:
    ratios = sorted({0.0, *rows["ratio"].astype(float)})
    left, right = -0.25, float(ratio_position(ratios[-1])) + 0.25
    base = rows[rows["arm"] == baseline]
    if len(base):
        level = base.iloc[0]
        if margin is not None:
            for sign in (-1, 1):
                place = level["mean"] + sign * margin
                label = f"baseline ± margin {margin:g}"
                axes.axhline(place, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), label=label, zorder=1)
        if np.isfinite(level["low"]):
            axes.axhspan(level["low"], level["high"], color=BASELINE, alpha=0.12, linewidth=0, zorder=1)
        axes.axhline(level["mean"], color=BASELINE, linewidth=1.4, label=f"{baseline} (baseline)", zorder=2)
    arms = [arm for arm in dict.fromkeys(rows["arm"]) if arm != baseline]
    for place, arm in enumerate(arms):
        own = rows[rows["arm"] == arm].sort_values("ratio")
        shift = min(0.04, 0.4 / len(arms)) * (place - (len(arms) - 1) / 2)  # keeps overlapping intervals apart
        x = ratio_position(own["ratio"].to_numpy()) + shift
        mean = own["mean"].to_numpy(dtype=float)
        error = np.clip([mean - own["low"], own["high"] - mean], 0, None)
        look = styles(arm)
        axes.errorbar(x, mean, yerr=error, label=arm, linewidth=1.4, markersize=4.5, capsize=2, elinewidth=1, **look)
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(FixedLocator(list(ratio_position(np.array(ratios)))))
    axes.set_xticklabels([f"{ratio:g}" for ratio in ratios])
    axes.yaxis.set_major_locator(MaxNLocator(6))
    quiet_grid(axes)


def _floor_line(axes: Axes, floor: pd.DataFrame) -> None:
    """The trivial prediction's level; where it lies far away, an arrow at the border instead of an empty figure."""
    for _, row in floor.iterrows():
        low, high = axes.get_ylim()
        name = str(row["floor"]).replace("_", " ")
        if abs(row["value"] - (low + high) / 2) <= 0.75 * (high - low):
            axes.axhline(row["value"], color=MUTED, linewidth=1.2, linestyle=(0, (5, 2)), label=f"floor: {name}")
            continue
        arrow, place, side = ("↓", 0.02, "bottom") if row["value"] < low else ("↑", 0.98, "top")
        text = f"{arrow} trivial floor ({name}): {row['value']:.2f}"
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}  # over the ends of intervals
        axes.annotate(
            text,
            (0.98, place),
            xycoords="axes fraction",
            ha="right",
            va=side,
            fontsize=8,
            color=MUTED,
            bbox=paper,
            zorder=5,
        )


def _shared_legend(figure: Figure) -> None:
    found: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(text, handle)
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=min(len(found), 4))


def replicate_differences(
    metrics: pd.DataFrame, baseline: tuple[str, float], dataset: str, metric: str, label: str
) -> pd.DataFrame:
    """Return `arm, ratio, replicate, difference`: arm − baseline (name, ratio) of the same replicate, test part."""
    rows = metrics[
        (metrics["dataset"] == dataset)
        & (metrics["metric"] == metric)
        & (metrics["label"] == label)
        & (metrics["part"] == "test")
    ]
    is_baseline = (rows["arm"] == baseline[0]) & (rows["ratio"] == baseline[1])
    base = rows[is_baseline].set_index("replicate")["value"]
    others = rows.loc[~is_baseline, ["arm", "ratio", "replicate", "value"]].copy()
    others["difference"] = others["value"] - others["replicate"].map(base)
    return others.drop(columns="value").dropna(subset=["difference"])


def paired_differences(
    metrics: pd.DataFrame,
    comparisons: pd.DataFrame,
    dataset: str,
    metric: str,
    label: str,
    styles: ArmStyles,
    margin: float | None = None,
) -> Figure:
    """Every replicate's difference from its own baseline run, with mean, interval and the margin band.

    metrics: `metrics.parquet`; comparisons: `comparisons.csv` (its rows give order, mean difference, interval).
    """
    rows = comparisons[
        (comparisons["dataset"] == dataset) & (comparisons["metric"] == metric) & (comparisons["label"] == label)
    ]
    figure = new_figure(7.0, 1.15 + ROW * 1.25 * max(len(rows), 2))
    axes = figure.subplots()
    for place, (_, row) in enumerate(rows.iterrows()):
        reference = (row["baseline"], float(row.get("baseline_ratio", 0)))
        own = replicate_differences(metrics, reference, dataset, metric, label)
        own = own[(own["arm"] == row["arm"]) & (own["ratio"] == row["ratio"])].sort_values("replicate")
        spread = np.linspace(-0.18, 0.18, len(own)) if len(own) > 1 else np.zeros(len(own))
        colour = styles(row["arm"])["color"]
        axes.scatter(own["difference"], place + spread, s=13, facecolors="none", edgecolors=colour, linewidths=0.9)
        _interval(axes, row, place, colour, styles(row["arm"])["marker"])
    _difference_axis(axes, rows, metric, margin)
    end_with_the_scale(axes, "x", [metric])
    axes.set_title(dataset)
    return figure


def forest(comparisons: pd.DataFrame, metric: str, label: str, styles: ArmStyles, margin: float | None) -> Figure:
    """Mean difference with interval of every arm and ratio, a panel per test set, with the numbers."""
    rows = comparisons[(comparisons["metric"] == metric) & (comparisons["label"] == label)]
    datasets = list(dict.fromkeys(rows["dataset"]))
    counts = [int((rows["dataset"] == dataset).sum()) for dataset in datasets]
    figure = new_figure(7.0, 0.75 + sum(ROW * count + 0.62 for count in counts))
    grid = figure.subplots(max(len(datasets), 1), 1, squeeze=False, sharex=True, height_ratios=counts or [1])
    for axes, dataset in zip(grid[:, 0], datasets, strict=False):
        own = rows[rows["dataset"] == dataset]
        for place, (_, row) in enumerate(own.iterrows()):
            look = styles(row["arm"])
            _interval(axes, row, place, look["color"], look["marker"])
            text = signed(row["difference"], 3)
            if np.isfinite(row["low"]):
                text += f"  [{signed(row['low'], 3)}, {signed(row['high'], 3)}]"
            axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        _difference_axis(axes, own, metric, margin)
        axes.set_title(dataset)
    for axes in grid[:-1, 0]:
        axes.set_xlabel("")
    end_with_the_scale(grid[0, 0], "x", [metric])
    return figure


def gain_over_size(rows: pd.DataFrame, metric: str, margin: float | None) -> Figure:
    """Difference with interval against the share of the real training patients, a line per recipe and ratio.

    rows: of `gain_by_size` (line, ratio, real_fraction, difference, low, high).
    """
    figure = new_figure(6.2, 3.6)
    axes = figure.subplots()
    cells = list(rows.groupby(["line", "ratio"], sort=True))
    several = rows["line"].nunique() > 1
    places = [(str(cell["line"].iloc[0]), float(cell["ratio"].iloc[0])) for _, cell in cells]
    names = [arm_label(line, ratio) if several else f"{ratio:g} %" for line, ratio in places]
    styles = ArmStyles(names)
    for place, (name, (_, cell)) in enumerate(zip(names, cells, strict=True)):
        own, look = cell.sort_values("real_fraction"), styles(name)
        x = 100 * own["real_fraction"] * (1 + SIDESTEP * (place - (len(cells) - 1) / 2))
        axes.vlines(x, own["low"], own["high"], color=look["color"], linewidth=1.4)
        axes.plot(x, own["difference"], markersize=6, label=name, **look)
    axes.axhline(0, color=MUTED, linewidth=1)
    if margin is not None:
        axes.axhspan(-margin, margin, color=MARGIN_BAND, zorder=0)
    axes.set_xscale("log")
    shares = sorted(100 * rows["real_fraction"].unique())
    axes.xaxis.set_major_locator(FixedLocator(shares))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.set_xticklabels([f"{share:g}" for share in shares])
    axes.set_xlabel("real training patients, % of the set")
    axes.set_ylabel(f"gain in {metric_label(metric)}")
    axes.legend(title="synthetic", frameon=False)
    end_with_the_scale(axes, "y", [metric])
    quiet_grid(axes, "y")
    return figure


def _interval(axes: Axes, row: pd.Series, place: int, colour: str, marker: str) -> None:
    axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt")
    axes.plot([row["difference"]], [place], marker=marker, color=colour, markersize=7, markeredgecolor="white")


def _difference_axis(axes: Axes, rows: pd.DataFrame, metric: str, margin: float | None) -> None:
    usual = rows["baseline"].mode().iloc[0] if len(rows) else ""
    names = [
        arm_label(arm, ratio) + ("" if baseline == usual else f" − {baseline}")
        for arm, ratio, baseline in zip(rows["arm"], rows["ratio"], rows["baseline"], strict=True)
    ]
    axes.set_yticks(range(len(names)), names)
    for text, family in zip(axes.get_yticklabels(), rows["family"], strict=True):
        text.set_fontweight("bold" if family == "primary" else "normal")
        text.set_color(MUTED if family == "control" else INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color=MUTED, linewidth=1)
    if margin is not None:
        axes.axvspan(-margin, margin, color=MARGIN_BAND, zorder=0)
    side = "right of 0: better" if higher_is_better(metric) else "lower is better"
    axes.set_xlabel(f"difference in {metric_label(metric)} from {usual or 'the baseline'} ({side})")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))  # as many as the width takes
    quiet_grid(axes, "x")
