"""Figures of image–mask pairs: agreement of masks, and sheets of images with their contours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from synthgain.report.figures.detail import picture
from synthgain.report.figures.style import INK, MUTED, PALETTE, new_figure, quiet_grid

BINS = np.linspace(0, 1, 21)
BAD_PAIR = 0.5  # Dice below which a pair counts as bad
TILE = 0.86  # inches
# One colour a structure, seen both on dark films and on pink mucosa; each is drawn over a wider black line.
CONTOURS = ("#F0E442", "#56B4E9", "#FFFFFF", "#009E73")


@dataclass(frozen=True)
class PairRow:
    """One line of a sheet: a title and pictures (n, H, W, C) uint8, with masks (n, H, W, K) or without (None)."""

    title: str
    images: np.ndarray
    masks: np.ndarray | None = None
    synthetic: bool = False


def agreement_histograms(scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Dice between mask and prediction per pool, and the same on real validation images.

    scores: {pool: (Dice on synthetic pairs (n,), on real images (m,))}, NaN left out.
    """
    columns = min(len(scores), 3)
    lines = -(-len(scores) // columns)
    figure = new_figure(max(2.5 * columns + 0.6, 4.6), 2.1 * lines + 0.6)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    for axes in grid.flat[len(scores) :]:
        axes.set_visible(False)
    for place, (axes, (pool, sides)) in enumerate(zip(grid.flat, scores.items(), strict=False)):
        ours, theirs = (values[np.isfinite(values)] for values in sides)
        if len(ours):
            axes.hist(ours, BINS, weights=np.full(len(ours), 100 / len(ours)), color=PALETTE[1], alpha=0.75)
        if len(theirs):
            weights = np.full(len(theirs), 100 / len(theirs))
            axes.hist(theirs, BINS, weights=weights, histtype="step", color=INK, linewidth=1.5)
        axes.axvline(BAD_PAIR, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        axes.set_title(pool)
        axes.set_xlim(0, 1)
        axes.set_xlabel("Dice, mask with prediction")
        if place % columns == 0:
            axes.set_ylabel("% of images")
        quiet_grid(axes)
    handles: list[Artist] = [
        Line2D([], [], color=PALETTE[1], linewidth=7, alpha=0.75, label="synthetic pairs"),
        Line2D([], [], color=INK, linewidth=1.5, label="real validation images"),
        Line2D([], [], color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="0.5: a bad pair below"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def pair_sheet(rows: Sequence[PairRow], structures: Sequence[str]) -> Figure:
    """Lines of pictures, each column one pair: image, the same with its mask's contour, and its parent's."""
    each = max(len(row.images) for row in rows)
    figure = new_figure(
        1.25 + each * TILE, len(rows) * (TILE + 0.04) + 0.25, w_pad=0.01, h_pad=0.01, wspace=0, hspace=0
    )
    panels = figure.subplots(len(rows), each + 1, squeeze=False, width_ratios=[1.2 / TILE, *[1.0] * each])
    for axes in panels.flat:
        axes.set_axis_off()
    for line, row in zip(panels, rows, strict=True):
        colour = PALETTE[1] if row.synthetic else INK
        line[0].text(0, 0.5, row.title, va="center", fontsize=8.5, color=colour)
        for place, image in enumerate(row.images):
            picture(line[place + 1], image, colour)
            if row.masks is not None:
                _contours(line[place + 1], row.masks[place])
    if any(row.masks is not None for row in rows):
        shown = [
            Line2D([], [], color=CONTOURS[number % len(CONTOURS)], linewidth=2, label=name.replace("_", " "))
            for number, name in enumerate(structures)
        ]
        legend = figure.legend(handles=shown, loc="outside lower left", ncols=4, frameon=True)
        legend.get_frame().set(facecolor="#7a828c", linewidth=0)
        for text in legend.get_texts():
            text.set_color("white")
    return figure


def _contours(axes: Axes, masks: np.ndarray) -> None:
    """Outline of each plane of masks (H, W, K); a frame of zeros closes what touches the border."""
    height, width = masks.shape[:2]
    for number in range(masks.shape[2]):
        if not masks[..., number].any():
            continue
        padded = np.pad(masks[..., number].astype(float), 1)
        place = np.arange(-1, width + 1), np.arange(-1, height + 1)
        axes.contour(*place, padded, levels=[0.5], colors="black", linewidths=2.0)
        axes.contour(*place, padded, levels=[0.5], colors=CONTOURS[number % len(CONTOURS)], linewidths=1.0)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
