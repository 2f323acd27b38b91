"""Looks shared by every figure: colour-blind safe, text as text, the same bytes for the same data."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, TypedDict

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthgain.runtime.files import atomic_path
from synthgain.statistics.metric_registry import metric

# Okabe & Ito (2008), Color Universal Design; yellow is left out, since thin lines of it vanish on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, MUTED, FAINT = "#1b1f24", "#59636e", "#d8dee4"
BASELINE = "#1b1f24"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
EDGE = 0.02  # room beyond the ends of a metric's scale
Dash = str | tuple[float, tuple[float, ...]]  # as Matplotlib takes it: a name, or an offset and lengths
DASHES: tuple[Dash, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))

STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "synthgain",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in somebody's site name is a dollar sign
    "axes.unicode_minus": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def arm_label(arm: str, ratio: float) -> str:
    """Return `supplemented 300 %` (no line break inside), or `real_long` where the arm has no ratio."""
    return f"{arm} {ratio:g}\u00a0%" if ratio else arm


class Look(TypedDict):
    """How the marks and lines of an arm are drawn."""

    color: str
    marker: str
    linestyle: Dash


class ArmStyles:
    """Colour, marker and dash of each arm, by its place in the study, so that every figure agrees.

    Colour is never the only difference: the marker and the dash change with it.
    """

    def __init__(self, arms: Iterable[str], baseline: str | None = None) -> None:
        self.baseline = baseline
        self._order = [arm for arm in arms if arm != baseline]

    def __call__(self, arm: str) -> Look:
        """Return `color, marker, linestyle` of an arm."""
        if arm == self.baseline:
            return {"color": BASELINE, "marker": "o", "linestyle": "-"}
        if arm not in self._order:
            self._order.append(arm)
        place = self._order.index(arm)
        return {
            "color": PALETTE[place % len(PALETTE)],
            "marker": MARKERS[(place + 1) % len(MARKERS)],
            "linestyle": DASHES[(place // len(PALETTE)) % len(DASHES)],
        }


def new_figure(width: float, height: float, **layout: float) -> Figure:
    """Return an empty figure (inches) whose parts keep clear of each other; no pyplot, no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    engine = figure.get_layout_engine()
    if engine is not None and layout:
        engine.set(**layout)
    return figure


def quiet_grid(axes: Axes, axis: str = "y") -> None:
    """Draw faint lines behind the data."""
    axes.grid(axis=axis, color=FAINT, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def end_with_the_scale(axes: Axes, side: Literal["x", "y"], metrics: Iterable[str]) -> None:
    """End an axis of differences where the metrics' scale does: intervals of two replicates reach far beyond it."""
    if not all(metric(name).bounded for name in metrics):
        return
    low, high = axes.get_xlim() if side == "x" else axes.get_ylim()
    (axes.set_xlim if side == "x" else axes.set_ylim)(max(low, -1 - EDGE), min(high, 1 + EDGE))


def style_context() -> AbstractContextManager[None]:
    """Context manager under which every figure is drawn and saved."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


def save_svg(figure: Figure, path: Path) -> None:
    """Write `figure` as SVG with real text and no date: equal figures give equal bytes."""
    with atomic_path(path) as temporary, style_context():
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
