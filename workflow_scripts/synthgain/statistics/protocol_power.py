"""What a study can find, said before it is run: power of the primary comparison, of *equivalent*, of each control."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from synthgain.runtime.protocols import Declared, Power
from synthgain.statistics.look_rates import EFFECT
from synthgain.statistics.looks import Design, look_levels, simulated_rates
from synthgain.statistics.power import POWER, detectable_effect, hillis_df, standard_error

RUNS = 20_000  # simulated studies a number: its standard error is at most 0.0035
# The first setting of docs/statistics.md (AUROC near .87, 150 patients): what stands in where nothing was assumed.
USUAL_SEED_SD, USUAL_PATIENT_SD = 0.024, 0.19
USUAL_PATIENTS = 150
USUAL = "the first simulated setting of docs/statistics.md"


def planned_power(
    seed_sd: float,
    patient_sd: float,
    patients: int,
    declared: Declared,
    controls: Mapping[str, str],
    random: np.random.Generator,
) -> Power:
    """Return the power of a plan under assumed variance, two-sided.

    seed_sd, patient_sd: as in comparisons.csv; patients: tested. declared: alpha, margin, looks. controls: {arm: role},
    which share alpha (the strictest of Holm's steps). Differences are as large as the margin unless said.
    """
    looks, alpha, margin = tuple(declared["looks"]), declared["alpha"], declared["margin"]
    design = Design(looks, margin, margin, seed_sd**2, patient_sd**2 / patients, alpha)
    levels = look_levels(alpha, looks)
    present = simulated_rates(replace(design, margin=0.0), RUNS, random)
    absent = simulated_rates(replace(design, difference=0.0), RUNS, random)
    edge = simulated_rates(design, RUNS, random)
    found: Power = {
        "seed_sd": seed_sd,
        "patient_sd": patient_sd,
        "patients": patients,
        "primary": present.better,
        "equivalent": absent.equivalent,
        "false_equivalent": edge.equivalent,
        "detectable": _detectable(design, levels[-1]),
        "looks": [
            {"replicates": count, "level": level, "ends_without": without, "ends_with": with_}
            for count, level, without, with_ in zip(looks, levels, absent.ends, present.ends, strict=True)
        ],
        "replicates": {"without": absent.replicates, "with": present.replicates},
        "controls": {},
    }
    if controls:
        shared = replace(design, margin=0.0, alpha=alpha / len(controls))
        found["controls"] = dict.fromkeys(controls, simulated_rates(shared, RUNS, random).rejected)
    return found


def shares_that_end(
    looks: Sequence[int], alpha: float, seed_variance: float, patient_variance: float, random: np.random.Generator
) -> list[tuple[float, float]]:
    """Return the share of studies that end at each look: without a difference, with one of three standard errors."""
    design = Design(tuple(looks), 0.0, 0.0, seed_variance, patient_variance, alpha)
    effect = EFFECT * standard_error(seed_variance, patient_variance, looks[-1])
    none, found = (simulated_rates(replace(design, difference=size), RUNS, random) for size in (0.0, effect))
    return list(zip(none.ends, found.ends, strict=True))


def _detectable(design: Design, level: float) -> float | None:
    """Found with 80 % power at the last look; looks before it lower that a little."""
    count = design.looks[-1]
    if count < 2:
        return None
    se = standard_error(design.seed_variance, design.patient_variance, count)
    df = hillis_df(design.seed_variance, design.patient_variance, count)
    found = detectable_effect(se, df, level, POWER)
    return found if np.isfinite(found) else None
