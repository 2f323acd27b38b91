"""Forecasts what the study costs, from the counts of its plan and the measured rates; trains and draws nothing.

Slice: {study, runs, groups: jobs with their terms of work, datasets: what tells their sizes}. Input: the measured
speed. Output: forecast/forecast.json, which print_plan.py prints and the report sets beside the run times.
"""

import os
from pathlib import Path

from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import write_json
from synthgain.speed.forecast import forecast_groups
from synthgain.speed.sizes import dataset_sizes


def forecast_cost(job: Job) -> None:
    """Multiply and write."""
    speed = job.inputs.speed.only.manifest()
    root = os.environ.get("SYNTHGAIN_DATA")
    sizes = dataset_sizes(job.run, job.slice["datasets"], Path(root) if root else None)
    write_json(
        job.outputs[0],
        {
            "identity": job.identity,
            "study": job.slice["study"],
            "runs": job.slice["runs"],
            "groups": forecast_groups(job.slice["groups"], speed, sizes),
            "sizes": sizes,
            "speed": {key: speed[key] for key in ("machine", "threads", "kinds", "start_up", "seconds")},
        },
    )


if __name__ == "__main__":
    run_script(forecast_cost)
