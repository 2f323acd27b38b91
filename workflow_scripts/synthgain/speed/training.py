"""A few steps of any training, in the loop that trains, with the time at which each began."""

import signal
from collections.abc import Callable
from pathlib import Path

import torch

from synthgain.device import chosen_device
from synthgain.generators.run import LoopRun
from synthgain.generators.training import train_family
from synthgain.runtime.command import Job
from synthgain.runtime.files import digest
from synthgain.runtime.inputs import Inputs, NamedInputs
from synthgain.speed.clock import Ticks

FIRST_STEPS = 4  # of the first training: after one to warm up they tell how many more can be afforded


def ticked_training(
    facts: dict[str, object],
    inputs: dict[str, NamedInputs],
    output: Path,
    run: Path,
    threads: int,
    prepare: Callable[[Job], LoopRun],
) -> Ticks:
    """Train as `facts` say and publish to `output`, the manifest, in the run folder `run`; return the steps' times."""
    ticks = Ticks(chosen_device())

    def prepared(job: Job) -> LoopRun:
        made = prepare(job)
        take_step = made.take_step

        def step(rows: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
            ticks.add()
            return take_step(rows, own)

        made.take_step = step  # type: ignore[method-assign]
        return made

    train_family(Job(facts, Inputs(inputs), "", digest(facts), run, [output], threads), prepared)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the training loop had turned it into a flag
    return ticks
