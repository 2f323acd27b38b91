"""Train one generator on training patients; outputs: its manifest.json, next to network and condition encoder."""

from synthgain.generators.training import train_in_processes
from synthgain.runtime.command import Job, run_script


def train_generator(job: Job) -> None:
    """Hand the job to its family."""
    train_in_processes(job)


if __name__ == "__main__":
    run_script(train_generator)
