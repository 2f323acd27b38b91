"""Train one generator on training patients; outputs: its manifest.json, next to network and condition encoder."""

import sys

from synthgain.generators.training import train_family
from synthgain.registry import STEERING
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.loading import load
from synthgain.runtime.processes import is_one_of_several, launch, leave_with_launcher
from synthgain.runtime.settings import settings


def train_generator(job: Job) -> None:
    """Hand the job to its family, in as many processes as `compute.generator_processes` says."""
    count = int(settings("compute").get("generator_processes", 1))
    if count > 1 and not is_one_of_several():
        launch([sys.executable, *sys.argv], count, job.threads)
        return
    leave_with_launcher()
    steered = "reward" in job.slice
    train_family(job, load(STEERING, job.slice["module"]).prepare_steered_run if steered else None)


if __name__ == "__main__":
    run_script(train_generator)
