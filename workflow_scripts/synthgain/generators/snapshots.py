"""At which steps a generator is kept, and where its weight averages are."""

import math

from synthgain.generators.options import GeneratorTraining


def snapshot_steps(training: GeneratorTraining) -> list[int]:
    """Return the steps, increasing: as configured, or a quarter and a half; the last step is always one.

    Geometric, since memorisation sets in late (method notes, 3.6).
    """
    wanted = training.snapshots or [math.ceil(training.steps / 4), math.ceil(training.steps / 2)]
    return sorted({*(step for step in wanted if step < training.steps), training.steps})


def average_folder(decay: float | str) -> str:
    """Return the folder, in that of a snapshot, of a weight average that is kept beside the first one."""
    return f"ema-{decay}"


def round_ends(steps: int, rounds: int) -> list[int]:
    """Return the steps at which the rounds of a steered generator end: parts of `steps` as equal as can be."""
    return [steps * number // rounds for number in range(1, rounds + 1)]
