"""Which arm is compared with which, and over which runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from synthgain.statistics.analysis import Analysis
from synthgain.statistics.predictions import cells_of
from synthgain.statistics.units import DRAWN, GENERATED, REAL, Design, Units, units_of


@dataclass(frozen=True, eq=False)
class Pair:
    """An arm at a ratio against a reference arm at a ratio; `control` where the reference is not its baseline.

    arm_runs, baseline_runs: (S,) positions of their runs of the same `replicates` (S,).
    What the predictions show (`estimability.look_at`): flat, label → arms whose scores do not vary; unreached,
    replicates in which both arms predict the same though they trained on other images; copied, an arm whose
    replicates all predict the same; copies, equal predictions of declared copies of the same training images.
    """

    arm: str
    ratio: int
    baseline: str
    baseline_ratio: int
    control: bool
    arm_runs: np.ndarray
    baseline_runs: np.ndarray
    replicates: np.ndarray
    flat: Mapping[str, list[str]] = field(default_factory=dict)
    unreached: int = 0
    copied: str = ""
    copies: bool = False


def planned_pairs(runs: pd.DataFrame, analysis: Analysis) -> list[Pair]:
    """Each arm and ratio against its baseline; synthetic arms also against `repeated` at their ratio and `real_strong`.

    runs: the panel's (arm, ratio, replicate) rows.
    """
    cells = {cell: pd.Series(at, index=runs.loc[at, "replicate"].to_numpy()) for cell, at in cells_of(runs).items()}

    def pair(arm: str, ratio: int, baseline: str, baseline_ratio: int, control: bool = False) -> Pair:
        first, second = cells[arm, ratio], cells[baseline, baseline_ratio]
        common = first.index.intersection(second.index).sort_values()
        runs_of = (first.loc[common].to_numpy(), second.loc[common].to_numpy())
        return Pair(arm, ratio, baseline, baseline_ratio, control, *runs_of, common.to_numpy())

    pairs = []
    for arm, ratio in cells:
        baseline = analysis.arms[arm].baseline
        if baseline is None:
            continue
        pairs += [pair(arm, ratio, baseline, r) for r in (ratio, 0) if (baseline, r) in cells][:1]
        if not analysis.is_synthetic(arm):
            continue
        for other, spec in analysis.arms.items():
            same = spec.baseline == baseline and other != arm
            if same and analysis.role(other) == "repeated" and (other, ratio) in cells:
                pairs.append(pair(arm, ratio, other, ratio, control=True))
            if same and analysis.role(other) == "real_strong" and (other, 0) in cells:
                pairs.append(pair(arm, ratio, other, 0, control=True))
    return pairs


def pair_units(pair: Pair, analysis: Analysis) -> Units:
    """The units of a pair: seeds where neither arm trains on synthetic images."""
    sources = {analysis.source(arm) for arm in (pair.arm, pair.baseline)}
    source = next(kind for kind in (GENERATED, DRAWN, REAL) if kind in sources)
    return units_of(pair.replicates, Design(analysis.generators, analysis.pools, source))
