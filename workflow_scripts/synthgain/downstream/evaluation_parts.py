"""Which rows of which data sets a model is predicted on: validation and test, never a training row."""

import numpy as np

from synthgain.downstream.arms import fraction_positions, split_positions
from synthgain.downstream.cell import Source, read_source
from synthgain.registry import TASKS
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.loading import load

Part = tuple[Source, str, np.ndarray]


def evaluation_parts(job: Job, validation: str | None, fraction: float, seed: int) -> list[Part]:
    """Return (data set, part, row positions) for each entry of the job's `evaluate`.

    The validation part of `validation`, the arm's own data set, is cut to `fraction` as it was in training. An entry
    without `parts` gives validation and test where it has a split, else test alone. Raises SynthGainError for an
    empty part or a data set without any of the targets or structures.
    """
    module = load(TASKS, job.slice["model"]["task_module"])
    parts: list[Part] = []
    for entry in job.slice["evaluate"]:
        source = read_source(job, entry["dataset"], entry["split"])
        lacking = module.lacks(job.slice["model"], source.images)
        if lacking:
            raise SynthGainError(f"datasets.{source.name}: has {lacking}, or leave it out of evaluate_on")
        for part in entry.get("parts", ["validation", "test"] if entry["split"] else ["test"]):
            table = source.images.table
            positions = split_positions(table, source.split, part)
            if part == "validation" and source.name == validation:
                cut = (fraction, seed, source.name)
                positions = np.sort(fraction_positions(table, positions, source.images.columns, *cut))
            if len(positions) == 0:
                raise SynthGainError(f"datasets.{source.name}: no image in its {part} part; give its split one")
            parts.append((source, part, positions))
    return parts
