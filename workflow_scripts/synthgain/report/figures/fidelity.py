"""Figures of the pools: every fidelity number and its floor, and the snapshots of a generator."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from synthgain.report.figures.style import MUTED, PALETTE, new_figure, quiet_grid
from synthgain.report.vocabulary import MEASURES, space_words

PANELS_IN_A_ROW = 4
NAMES = MEASURES | {
    "ms_ssim": "MS-SSIM within",
    "ms_ssim_cross": "MS-SSIM with real",
    "frd": "Radiomics distance",
}
FLOOR_SDS = 2  # half the length of the floor's bar, in SDs of the real-versus-real splits


def floor_rows(tables: Mapping[str, pd.DataFrame], references: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows that `fidelity_floors` shows: all images, main reference, with a floor.

    tables: {pool: fidelity.csv}; references: {pool: the manifest's reference}. Columns: pool and those of the table.
    """
    kept = [
        table[
            (table["group"] == "all") & (table["reference"] == references[pool]) & table["metric"].isin(list(MEASURES))
        ].assign(pool=pool)
        for pool, table in tables.items()
    ]
    rows = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=["value", "floor"])
    return rows.dropna(subset=["value", "floor"])


def fidelity_floors(rows: pd.DataFrame) -> Figure:
    """A panel per feature space and measure, a line per pool: the value with its interval, and the floor.

    rows: see `floor_rows` (pool, space, metric, value, low, high, floor, floor_sd).
    """
    pools = list(dict.fromkeys(rows["pool"]))
    spaces = list(dict.fromkeys(rows["space"]))
    order = {(space, metric): (spaces.index(space), place) for space in spaces for place, metric in enumerate(MEASURES)}
    found = set(zip(rows["space"], rows["metric"], strict=True))
    panels = sorted(found, key=lambda panel: order[panel])
    columns = min(PANELS_IN_A_ROW, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(7.2, 0.5 + lines * (0.85 + 0.24 * len(pools)), h_pad=0.08)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for place, (axes, (space, metric)) in enumerate(zip(grid.flat, panels, strict=False)):
        own = rows[(rows["space"] == space) & (rows["metric"] == metric)].set_index("pool")
        _floor_panel(axes, own, pools)
        axes.set_yticks(range(len(pools)), pools if place % columns == 0 else [""] * len(pools))
        axes.set_title("\n".join([NAMES[metric], space_words(space)]), fontsize=7.5)
    handles = [
        Line2D([], [], color=PALETTE[1], marker="o", markersize=6, linewidth=1.6, label="synthetic against real"),
        Line2D([], [], color=MUTED, marker="D", markersize=5, linewidth=4, alpha=0.6, label="floor: real against real"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _floor_panel(axes: Axes, own: pd.DataFrame, pools: list[str]) -> None:
    for pool, row in own.to_dict("index").items():
        place = pools.index(str(pool))
        spread = FLOOR_SDS * (float(row["floor_sd"]) if np.isfinite(row["floor_sd"]) else 0.0)
        ends = [row["floor"] - spread, row["floor"] + spread]
        axes.plot(ends, [place + 0.16] * 2, color=MUTED, linewidth=4, alpha=0.45, solid_capstyle="butt")
        axes.plot([row["floor"]], [place + 0.16], "D", color=MUTED, markersize=4.5)
        axes.plot([row["low"], row["high"]], [place - 0.16] * 2, color=PALETTE[1], linewidth=1.6)
        axes.plot([row["value"]], [place - 0.16], "o", color=PALETTE[1], markersize=5.5, markeredgecolor="white")
    axes.set_ylim(len(pools) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=7.5)
    quiet_grid(axes, "x")


def snapshot_curves(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """KID and the excess of near copies along each generator's training; the recommended snapshot is ringed.

    tables: {generator: snapshots.csv (snapshot, kid, kid_se, excess, low, high, recommended)}.
    """
    figure = new_figure(7.0, 3.0)
    left, right = figure.subplots(1, 2)
    for place, (name, table) in enumerate(tables.items()):
        colour = PALETTE[place % len(PALETTE)]
        step = table["snapshot"].to_numpy(dtype=float)
        chosen = table["recommended"].to_numpy(dtype=bool)
        for axes, y, error in (
            (left, table["kid"], table["kid_se"].to_numpy()),
            (right, 100 * table["excess"], 100 * _ends(table)),
        ):
            values = y.to_numpy(dtype=float)
            axes.errorbar(step, values, yerr=error, color=colour, marker="o", markersize=4, capsize=2, label=name)
            axes.plot(step[chosen], values[chosen], "o", markersize=11, fillstyle="none", color=colour)
    left.set_ylabel("KID ± standard error")
    right.set_ylabel("near copies beyond chance, %")
    right.axhline(0, color=MUTED, linewidth=1)
    for axes in (left, right):
        axes.set_xlabel("optimiser step of the snapshot")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        quiet_grid(axes)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _ends(table: pd.DataFrame) -> np.ndarray:
    """Return (2, snapshots): how far the interval reaches below and above the excess."""
    return np.clip([table["excess"] - table["low"], table["high"] - table["excess"]], 0, None)
