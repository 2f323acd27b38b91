"""A few training steps and a few predictions of a downstream model, by the code that trains it, on random images."""

from collections.abc import Mapping
from pathlib import Path

import torch

from synthgain.device import chosen_device, make_deterministic
from synthgain.downstream.augmentation import augmentation_of
from synthgain.downstream.cell import read_cell
from synthgain.downstream.prediction import build_network
from synthgain.downstream.training import Trainer
from synthgain.runtime.checkpoints import Checkpoints
from synthgain.runtime.command import Job
from synthgain.runtime.files import digest
from synthgain.runtime.inputs import Inputs
from synthgain.speed.clock import Ticks, memory_gb, parameter_bytes, repeats, timed
from synthgain.speed.documents import ImageKind, LearnKind, Measured
from synthgain.speed.random_data import write_random_data

FIRST_STEPS = 4  # after one to warm up they tell how many more can be afforded
NAME = "random"
VALIDATION_IMAGES = 64
PLAIN = {"learning_rate": 1e-4, "weight_decay": 0.0, "warmup_steps": 0, "schedule": "constant", "selection": "last"}


class _Passing:
    """Stands in for the loop's stop signal, at which it looks after every step: notes the time, never stops."""

    def __init__(self, ticks: Ticks) -> None:
        self.ticks = ticks

    @property
    def requested(self) -> bool:
        self.ticks.add()
        return False


def measure_learning(kind: Mapping[str, object], image: ImageKind, folder: Path, threads: int) -> Measured:
    """Return how fast a model (LearnKind) takes a step, and predicts one image."""
    torch.set_num_threads(threads)
    device, run, learnt = chosen_device(), folder / digest(kind), LearnKind.model_validate(kind)
    make_deterministic(device)
    counts, model = {"train": learnt.model.batch_size, "validation": VALIDATION_IMAGES}, learnt.model
    inputs = Inputs(write_random_data(run, NAME, counts, image, model.targets, (), model.structures))
    ticks, trainer = _train(learnt, run, inputs, device, threads, FIRST_STEPS)
    if repeats(ticks.last()) > FIRST_STEPS:
        ticks, trainer = _train(learnt, run, inputs, device, threads, repeats(ticks.last()))
    precision = trainer.recipe.precision
    look = lambda: list(trainer.validation.batches(trainer.task, trainer.network, device, precision))  # noqa: E731
    size = parameter_bytes([trainer.network])
    image_rate = timed(look, device, 1 / VALIDATION_IMAGES)
    return Measured(step=ticks.rate(), image=image_rate, network_bytes=size, **memory_gb(device))


def _train(
    kind: LearnKind, run: Path, inputs: Inputs, device: torch.device, threads: int, steps: int
) -> tuple[Ticks, Trainer]:
    """Train afresh for some steps without validation between them; return when each had ended, and the trainer."""
    never = {"validate_every": steps + 1, "selection_metric": "loss"}
    model = {**kind.model.model_dump(), **PLAIN, **never, "name": NAME, "steps": steps}
    arm = {"name": NAME, "real": NAME, "validation": NAME, "augmentation": kind.augmentation}
    facts = {"model": model, "arm": arm, "ratio": 0, "replicates": [0], "pools": {}, "seed": 0}
    job = Job(facts, inputs, "", NAME, run, [run / "downstream" / "manifest.json"], threads)
    cell = read_cell(job)
    data, validation = cell.build(job, 0)
    height, _, channels = data.store.shape
    network = build_network(cell.model.network, channels, len(cell.task.labels), cell.task.window or height, cell.where)
    augmentation = augmentation_of(kind.augmentation, cell.model.augmentation, cell.where)
    trainer = Trainer(network, cell.task, data, validation, cell.model, augmentation, 0, device, cell.where)
    ticks = Ticks(device)
    ticks.add()
    trainer.train(Checkpoints(run / "state" / str(steps), NAME), _Passing(ticks))  # type: ignore[arg-type]
    return ticks, trainer
