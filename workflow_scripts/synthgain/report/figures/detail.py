"""Figures besides the main result: subgroups, generator loss, sample sheet."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from synthgain.report.figures.style import INK, MUTED, PALETTE, end_with_the_scale, new_figure
from synthgain.report.figures.style import quiet_grid as grid
from synthgain.statistics.metric_registry import metric_label

FEW_POINTS = 10  # shorter loss curves are drawn as they are
SMOOTHED_SHARE = 0.02  # window of the running median of a loss curve, as a share of its rows


def subgroup_effects(subgroups: pd.DataFrame, margin: float | None) -> Figure:
    """Change of the metric in every subgroup, one arm against its baseline, with intervals.

    subgroups: rows of `subgroups.csv` (label, column, group, metric, patients, difference, difference_low,
    difference_high) of one arm, ratio, test set and metric.
    """
    figure = new_figure(7.0, 1.0 + 0.3 * max(len(subgroups), 2))
    axes = figure.subplots()
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(subgroups["column"]))}
    several = subgroups["label"].nunique() > 1
    names = []
    for place, (_, row) in enumerate(subgroups.iterrows()):
        colour = colours[row["column"]]
        axes.plot([row["difference_low"], row["difference_high"]], [place, place], color=colour, linewidth=1.8)
        axes.plot([row["difference"]], [place], "o", color=colour, markersize=7, markeredgecolor="white")
        text = f"{row['patients']:.0f} patients"
        axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=MUTED)
        names.append(f"{row['label'] + ' · ' if several else ''}{row['column']}: {row['group']}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color=MUTED, linewidth=1)
    if margin is not None:
        axes.axvspan(-margin, margin, color="#eef1f4", zorder=0)
    measured = "/".join(metric_label(name) for name in dict.fromkeys(subgroups["metric"]))
    axes.set_xlabel(f"change of {measured} within the subgroup")
    end_with_the_scale(axes, "x", subgroups["metric"].unique())
    grid(axes, "x")
    return figure


def running_median(values: np.ndarray, share: float = SMOOTHED_SHARE) -> np.ndarray:
    """Return the centred running median over `share` of the rows (at least 3)."""
    window = max(int(len(values) * share) | 1, 3)
    return pd.Series(values).rolling(window, center=True, min_periods=1).median().to_numpy()


def generator_loss(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Training loss of each generator against its step: raw faint, running median strong.

    curves: {name: training.csv with `step, loss`}.
    """
    figure = new_figure(6.4, 3.1)
    axes = figure.subplots()
    for place, (name, rows) in enumerate(curves.items()):
        rows = rows.dropna(subset=["loss"])
        colour = PALETTE[place % len(PALETTE)]
        loss = rows["loss"].to_numpy(dtype=float)
        few = len(loss) < FEW_POINTS
        axes.plot(rows["step"], loss, color=colour, alpha=1.0 if few else 0.22, linewidth=0.7)
        smooth = loss if few else running_median(loss)
        axes.plot(rows["step"], smooth, color=colour, linewidth=1.6, label=name)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("training loss")
    values = np.concatenate([rows["loss"].dropna().to_numpy(dtype=float) for rows in curves.values()] or [np.ones(1)])
    if len(values) and values.min() > 0 and values.max() / values.min() > 20:
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6))
    grid(axes)
    axes.legend(loc="upper right")
    return figure


def sample_sheet(rows: Sequence[tuple[str, np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """Real images next to synthetic ones of the same condition, one line per condition.

    rows: (condition, real (n, H, W, C) uint8, synthetic (m, H, W, C) uint8).
    """
    each = max((max(len(real), len(synthetic)) for _, real, synthetic in rows), default=1)
    size = 0.64
    figure = new_figure(1.3 + 2 * each * size + 0.2, max(len(rows), 1) * (size + 0.06) + 0.5, w_pad=0.01, h_pad=0.01)
    widths = [1.15 / size, *[1.0] * each, 0.18, *[1.0] * each]
    panels = figure.subplots(max(len(rows), 1), len(widths), squeeze=False, width_ratios=widths)
    for axes in panels.flat:
        axes.set_axis_off()
    for line, (condition, real, synthetic) in zip(panels, rows, strict=False):
        text = f"{condition}\n({len(real)} real,\n{len(synthetic)} synthetic)"
        short = len(real) < each or len(synthetic) < each
        line[0].text(0, 0.5, text if short else condition, va="center", fontsize=8.5, wrap=True)
        for axes, image in zip(line[1 : 1 + each], real, strict=False):
            picture(axes, image, INK)
        for axes, image in zip(line[2 + each :], synthetic, strict=False):
            picture(axes, image, PALETTE[1])
    panels[0][1].set_title("real", color=INK)
    panels[0][2 + each].set_title("synthetic", color=PALETTE[1])
    if title:
        figure.suptitle(title, fontsize=9, color=MUTED)
    return figure


def picture(axes: Axes, image: np.ndarray, frame: str) -> None:
    """Show an image (H, W, C) uint8, grey or RGB, in a frame of this colour."""
    grey = image.shape[-1] == 1
    axes.set_axis_on()
    axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255, interpolation="none")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=frame, linewidth=1.0)
