"""Forecasts what the study costs, from the counts of its plan and the measured rates; trains and draws nothing.

Slice: {study, runs, groups: jobs with their terms of work, datasets: what tells their sizes}. Input: the measured
speed. Output: forecast/forecast.json, which print_plan.py prints and the report sets beside the run times.
"""

import os
from pathlib import Path

from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import write_json
from synthgain.speed.documents import Counted, Forecast, SizeSource, Speed
from synthgain.speed.forecast import forecast_groups
from synthgain.speed.sizes import dataset_sizes


def forecast_cost(job: Job) -> None:
    """Multiply and write."""
    speed = Speed.model_validate(job.inputs.speed.only.manifest())
    root = os.environ.get("SYNTHGAIN_DATA")
    sources = {name: SizeSource.model_validate(entry) for name, entry in job.slice["datasets"].items()}
    sizes = dataset_sizes(job.run, sources, Path(root) if root else None)
    groups = forecast_groups(map(Counted.model_validate, job.slice["groups"]), speed, sizes)
    forecast = Forecast(study=job.slice["study"], runs=job.slice["runs"], groups=groups, sizes=sizes, speed=speed)
    write_json(job.outputs[0], {"identity": job.identity, **forecast.model_dump(mode="json", by_alias=True)})


if __name__ == "__main__":
    run_script(forecast_cost)
