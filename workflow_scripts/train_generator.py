"""Train one generator on training patients; outputs: its manifest.json, next to network and condition encoder."""

from synthgain.generators.training import train_in_processes
from synthgain.registry import STEERING
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.loading import load


def train_generator(job: Job) -> None:
    """Hand the job to its family."""
    steered = "reward" in job.slice
    train_in_processes(job, load(STEERING, job.slice["module"]).prepare_steered_run if steered else None)


if __name__ == "__main__":
    run_script(train_generator)
