"""Forecasts what the study costs, from the counts of its plan and the measured rates; trains and draws nothing.

Slice: {study, runs, groups: jobs with their terms of work, datasets: what tells their sizes}. Input: the measured
speed. Output: forecast/forecast.json, which print_plan.py prints and the report sets beside the run times.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import write_json
from synthgain.seeds import random_generator
from synthgain.speed.documents import Counted, Forecast, LookCost, Size, SizeSource, Speed
from synthgain.speed.forecast import added, forecast_groups
from synthgain.speed.sizes import dataset_sizes
from synthgain.statistics.protocol_power import USUAL_PATIENT_SD, USUAL_PATIENTS, USUAL_SEED_SD, shares_that_end


def forecast_cost(job: Job) -> None:
    """Multiply and write."""
    speed = Speed.model_validate(job.inputs.speed.only.manifest())
    root = os.environ.get("SYNTHGAIN_DATA")
    sources = {name: SizeSource.model_validate(entry) for name, entry in job.slice["datasets"].items()}
    sizes = dataset_sizes(job.run, sources, Path(root) if root else None)
    groups = forecast_groups(map(Counted.model_validate, job.slice["groups"]), speed, sizes)
    forecast = Forecast(
        study=job.slice["study"],
        runs=job.slice["runs"],
        groups=groups,
        sizes=sizes,
        speed=speed,
        looks=look_costs(job.slice, speed, sizes),
    )
    write_json(job.outputs[0], {"identity": job.identity, **forecast.model_dump(mode="json", by_alias=True)})


def look_costs(job_slice: Mapping[str, Any], speed: Speed, sizes: Mapping[str, Size]) -> list[LookCost]:
    """Return what is spent up to each planned look, and how often a study ends there; [] for one look."""
    looks = job_slice.get("looks", [])
    if not looks:
        return []
    assumed = job_slice["assumed"] or {"seed_sd": USUAL_SEED_SD, "patient_sd": USUAL_PATIENT_SD, "patients": None}
    patients = assumed["patients"] or sizes[job_slice["test_set"]].test or USUAL_PATIENTS
    ends = shares_that_end(
        [look["replicates"] for look in looks],
        job_slice["alpha"],
        assumed["seed_sd"] ** 2,
        assumed["patient_sd"] ** 2 / patients,
        random_generator(study=0, step="forecast_cost", purpose="looks"),
    )
    found = []
    for look, (without, with_) in zip(looks, ends, strict=True):
        total = added(forecast_groups(map(Counted.model_validate, look["groups"]), speed, sizes))
        shares = {"ends_without": without, "ends_with": with_}
        seconds = {"seconds": total.seconds, "gpu_seconds": total.gpu_seconds}
        found.append(LookCost(replicates=look["replicates"], **seconds, **shares))
    return found


if __name__ == "__main__":
    run_script(forecast_cost)
