"""What plans of looks err, find and cost, simulated: the table of docs/protocol.md."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from synthgain.seeds import random_generator
from synthgain.statistics.looks import Design, look_levels, simulated_rates

RUNS = 40_000  # studies a number: the standard error of a rate of 0.05 is 0.0011
LEVEL_LIMIT = 0.06  # of rejections and of false *equivalent*, at nominal 0.05
PLANS = ((24,), (8, 16, 24), (5, 10, 20), (4, 8, 12), (4, 8, 12, 16, 20, 24))
# Patient variance of the difference over the variance of one replicate's. Near 0.2 to 0.5 in the simulated studies of
# docs/statistics.md.
PATIENTS = (0.0, 0.2, 1.0, 5.0)
EFFECT = 3.0  # true difference, in standard errors of the last look: about 83 % power at one look
MARGIN = 3.6  # likewise: about 94 % power of *equivalent*


class Replicates(TypedDict):
    """Mean replicates where there is no difference, where there is one, and where arms are equivalent."""

    none: float
    effect: float
    equivalent: float


class Rates(TypedDict):
    """What a plan errs, finds and costs at one patient variance.

    levels: p below which each look decides. correlation: of first and last look. rejected: where there is no
    difference; false_equivalent: at a difference of one margin; power: at EFFECT; equivalent: at no difference.
    """

    looks: list[int]
    levels: list[float]
    patients: float
    correlation: float
    rejected: float
    false_equivalent: float
    power: float
    equivalent: float
    replicates: Replicates


def look_rates(
    runs: int, plans: Sequence[tuple[int, ...]] = PLANS, patients: Sequence[float] = PATIENTS
) -> list[Rates]:
    """Return a row for each plan and patient variance."""
    return [_row(plan, variance, runs) for plan in plans for variance in patients]


def _row(looks: tuple[int, ...], patients: float, runs: int) -> Rates:
    random = random_generator(study=0, step="simulate_looks", looks=str(looks), patients=str(patients))
    se = float(np.sqrt(1 / looks[-1] + patients))
    effect, margin = EFFECT * se, MARGIN * se
    none = simulated_rates(Design(looks, 0.0, 0.0, 1.0, patients), runs, random)
    found = simulated_rates(Design(looks, effect, 0.0, 1.0, patients), runs, random)
    same = simulated_rates(Design(looks, 0.0, margin, 1.0, patients), runs, random)
    edge = simulated_rates(Design(looks, margin, margin, 1.0, patients), runs, random)
    return {
        "looks": list(looks),
        "levels": list(look_levels(0.05, looks)),
        "patients": patients,
        "correlation": Design(looks, 0.0, 0.0, 1.0, patients).correlation(),
        "rejected": none.rejected,
        "false_equivalent": edge.equivalent,
        "power": found.better,
        "equivalent": same.equivalent,
        "replicates": {"none": none.replicates, "effect": found.replicates, "equivalent": same.replicates},
    }


def markdown_table(results: Sequence[Rates]) -> str:
    """Return the table of docs/protocol.md."""
    heads = [
        *("looks", "p below", "patient variance", "correlation", "rejected", "false *equivalent*", "power"),
        *("*equivalent*", "replicates: none", "effect", "equivalent"),
    ]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in results:
        mean = row["replicates"]
        cells = [
            ", ".join(map(str, row["looks"])),
            ", ".join(f"{level:.2g}" for level in row["levels"]),
            f"{row['patients']:g}",
            f"{row['correlation']:.2f}",
            *(f"{rate:.3f}" for rate in (row["rejected"], row["false_equivalent"], row["power"], row["equivalent"])),
            *(f"{count:.1f}" for count in (mean["none"], mean["effect"], mean["equivalent"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
