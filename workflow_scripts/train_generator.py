"""Train one generator on training patients; outputs: its manifest.json, beside network and condition encoder."""

import importlib

from synthgain.command import Job, run_script


def train_generator(job: Job) -> None:
    """Hand the job to its family."""
    importlib.import_module(job.slice["module"]).train(job)


if __name__ == "__main__":
    run_script(train_generator)
