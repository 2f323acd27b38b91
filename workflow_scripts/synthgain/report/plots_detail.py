"""Figures beside the main result: subgroups, calibration, learning curve, generator loss, sample sheet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from synthgain.report.style import BASELINE, FAINT, INK, MUTED, PALETTE, ArmStyles, arm_label, metric_name, new_figure
from synthgain.report.style import quiet_grid as grid

SMOOTHED_SHARE = 0.02  # window of the running median of a loss curve, as a share of its rows


def subgroup_effects(subgroups: pd.DataFrame, metric: str, margin: float | None) -> Figure:
    """Change of the metric in every subgroup, primary arm against baseline, with intervals.

    subgroups: `covariate, level, difference, low, high, patients` of one arm, ratio, test set and metric.
    """
    figure = new_figure(7.0, 1.0 + 0.3 * max(len(subgroups), 2))
    axes = figure.subplots()
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(subgroups["covariate"]))}
    for place, (_, row) in enumerate(subgroups.iterrows()):
        colour = colours[row["covariate"]]
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.8)
        axes.plot([row["difference"]], [place], "o", color=colour, markersize=7, markeredgecolor="white")
    names = [f"{row['covariate']}: {row['level']}" for _, row in subgroups.iterrows()]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    if "patients" in subgroups:
        for place, patients in enumerate(subgroups["patients"]):
            text = f"{patients:.0f} patients"
            axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=MUTED)
    axes.axvline(0, color=MUTED, linewidth=1)
    if margin is not None:
        axes.axvspan(-margin, margin, color="#eef1f4", zorder=0)
    axes.set_xlabel(f"change of {metric_name(metric)} within the subgroup")
    grid(axes, "x")
    return figure


def calibration_curves(bins: pd.DataFrame, styles: ArmStyles) -> Figure:
    """Observed share of positives against predicted probability; the diagonal is perfect calibration.

    bins: `arm, ratio, dataset, predicted, observed` and, if known, `count` (images in the bin).
    """
    datasets = list(dict.fromkeys(bins["dataset"]))
    figure = new_figure(max(3.0 * len(datasets), 4.4), 3.6)
    panels = figure.subplots(1, max(len(datasets), 1), squeeze=False)[0]
    for axes, dataset in zip(panels, datasets, strict=False):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        own = bins[bins["dataset"] == dataset]
        for (arm, ratio), rows in own.groupby(["arm", "ratio"], sort=False):
            rows = rows.sort_values("predicted")
            look = styles(str(arm))
            text = arm_label(str(arm), float(ratio))
            axes.plot(rows["predicted"], rows["observed"], label=text, markersize=4, **look)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=dataset, xlabel="predicted probability")
        grid(axes, "both")
    panels[0].set_ylabel("observed share")
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3)
    return figure


def learning_curve(points: pd.DataFrame, metric: str, reached: Mapping[str, float]) -> Figure:
    """Metric against number of real training patients; `reached` {text: value} draws what the arms attained.

    points: `patients, mean` and, if known, `low, high`.
    """
    figure = new_figure(5.6, 3.4)
    axes = figure.subplots()
    points = points.sort_values("patients")
    axes.plot(points["patients"], points["mean"], color=BASELINE, marker="o", markersize=5, label="real images only")
    if {"low", "high"} <= set(points.columns):
        axes.fill_between(points["patients"], points["low"], points["high"], color=BASELINE, alpha=0.12, linewidth=0)
    for place, (text, value) in enumerate(reached.items()):
        axes.axhline(value, color=PALETTE[place % len(PALETTE)], linewidth=1.3, linestyle=(0, (4, 2)), label=text)
    axes.set_xlabel("real training patients")
    axes.set_ylabel(metric_name(metric))
    grid(axes, "both")
    axes.legend(loc="lower right")
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
        axes.plot(rows["step"], loss, color=colour, alpha=0.22, linewidth=0.7)
        axes.plot(rows["step"], running_median(loss), color=colour, linewidth=1.6, label=name)
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
    """Real images beside synthetic ones of the same condition, one line per condition.

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
            _picture(axes, image, INK)
        for axes, image in zip(line[2 + each :], synthetic, strict=False):
            _picture(axes, image, PALETTE[1])
    panels[0][1].set_title("real", color=INK)
    panels[0][2 + each].set_title("synthetic", color=PALETTE[1])
    if title:
        figure.suptitle(title, fontsize=9, color=MUTED)
    return figure


def _picture(axes: Any, image: np.ndarray, frame: str) -> None:
    grey = image.shape[-1] == 1
    axes.set_axis_on()
    axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255, interpolation="none")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=frame, linewidth=1.0)


def fidelity_floors(rows: pd.DataFrame) -> Figure:
    """Distance of each pool to real images beside the real-versus-real floor at equal n, a panel per measure.

    rows: `pool, space, measure, value, floor` and, if known, `floor_low, floor_high`.
    """
    panels = list(rows.groupby(["measure", "space"], sort=False))
    figure = new_figure(7.0, sum(0.75 + 0.3 * len(own) for _, own in panels) + 0.3)
    heights = [len(own) + 1.5 for _, own in panels]
    grids = figure.subplots(max(len(panels), 1), 1, squeeze=False, height_ratios=heights or [1])[:, 0]
    for axes, ((measure, space), own) in zip(grids, panels, strict=False):
        places = np.arange(len(own))
        axes.barh(places, own["value"], color=PALETTE[0], height=0.6, label="synthetic against real")
        if {"floor_low", "floor_high"} <= set(own.columns):
            axes.axvspan(own["floor_low"].min(), own["floor_high"].max(), color=FAINT, zorder=0, label="floor range")
        axes.axvline(own["floor"].mean(), color=PALETTE[1], linestyle=(0, (4, 2)), label="real against real (floor)")
        axes.set_yticks(places, own["pool"])
        axes.invert_yaxis()
        axes.set_title(f"{measure} in {space}")
        grid(axes, "x")
    if panels:
        handles, texts = grids[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=3)
    return figure
