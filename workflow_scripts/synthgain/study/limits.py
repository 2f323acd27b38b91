"""How much a study may declare: a config from elsewhere must not take the machine that only plans it.

Far above what studies need, and below what a login node could not even list.
"""

import math
from collections.abc import Iterator, Mapping

from synthgain.study.roles import trainings_of
from synthgain.study.schema import Study
from synthgain.study.yaml_files import Place

MOST_JOBS = 200_000
MOST_IMAGES = 10_000_000  # of one phantom; a table may have as many rows
MOST_BYTES = 1 << 38  # of one phantom's pixels
MOST_IN_A_BATCH = 1 << 32  # pixels times channels of the images that one step holds
LONGEST_LIST = 10_000
LARGEST_INTEGER = (1 << 63) - 1  # of a seed, say
# The largest integer of a key, by the end of its place; any other integer is below the last.
LARGEST: dict[Place, int] = {
    ("seed",): LARGEST_INTEGER,
    ("study_seeds",): LARGEST_INTEGER,
    ("first_patient",): 10**12,
    ("patients",): 1_000_000,
    ("images_per_patient",): 1_000,
    ("batch_size",): 65_536,
    ("steps",): 100_000_000,
    ("sampling", "steps"): 10_000,
    ("resamples",): 1_000,
    ("count",): 1_000,
    ("replicates", "generators"): 1_000,
    ("replicates", "pools"): 1_000,
    ("per_job",): 1_000,
    ("bootstrap",): 1_000_000,
    ("floor_splits",): 1_000,
    ("snapshot_images",): 1_000_000,
    ("generator_threads",): 4_096,
    ("sampling_threads",): 4_096,
    ("downstream_threads",): 4_096,
    ("generator_processes",): 4_096,
    ("train_steps",): 1_000_000,
    ("size",): 4_096,
    (): 1_000_000_000,
}
LARGEST_OF_A_NETWORK = 8_192  # channels, layers, heads
LARGEST_FACTOR = 1_000.0  # steps_factor
LONGEST: dict[str, int] = {"ratios": 100, "study_seeds": 1_000, "snapshots": 1_000, "network": 64}
FREE = "where"  # values of the user's table, which are no amounts of work


class TooMuch(Exception):
    """A study that declares more than the limit: the place, and the number with the limit."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place, self.message = tuple(place.split(".")), message


def check_limits(study: Study) -> None:
    """Raise TooMuch where a study declares more than a limit."""
    for place, value in _values(study.model_dump(by_alias=True), ()):
        _check_value(place, value)
    _check_phantoms(study)
    _check_batches(study)
    jobs = jobs_of(study)
    if jobs > MOST_JOBS:
        message = f"the study has about {jobs} jobs, the limit is {MOST_JOBS}; take fewer ratios, arms or replicates"
        raise TooMuch("replicates", message)


def jobs_of(study: Study) -> int:
    """Return about how many jobs a study has: those whose number multiplies."""
    repeated = study.replicates
    draws = min(math.lcm(repeated.generators, repeated.pools), repeated.count)
    chunks = -(-repeated.count // repeated.per_job)
    pools = sum(pool.replicas * (pool.shards + 1) for pool in study.pools.values()) * draws
    cells = sum(len(arm.ratios) or 1 for arm in study.arms.values()) * len(study.models) * chunks
    seeds = len(study.study_seeds or [study.seed])
    trainings = len(study.autoencoders) + sum(len(trainings_of(study, name)) for name in study.generators)
    return seeds * (len(study.datasets) + trainings + pools + 2 * cells)


def _values(value: object, place: Place) -> Iterator[tuple[Place, object]]:
    """Yield every number and list of a config with its place; what stands in a list has the place of the list."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key != FREE:
                yield from _values(part, (*place, str(key)))
    elif isinstance(value, list | tuple):
        yield place, value
        for part in value:
            yield from _values(part, place)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value


def _check_value(place: Place, value: object) -> None:
    where, network = ".".join(place), "network" in place
    if isinstance(value, list | tuple):
        most = LONGEST["network"] if network else LONGEST.get(place[-1], LONGEST_LIST)
        if len(value) > most:
            raise TooMuch(where, f"has {len(value)} entries; at most {most}")
    elif isinstance(value, int):
        most = (
            LARGEST_OF_A_NETWORK
            if network
            else next(n for end, n in _BY_LENGTH if place[len(place) - len(end) :] == end)
        )
        if abs(value) > most:
            raise TooMuch(where, f"{_number(value)} is over the limit of {most}")
    elif isinstance(value, float) and place[-1] == "steps_factor" and value > LARGEST_FACTOR:
        raise TooMuch(where, f"{value:g} is over the limit of {LARGEST_FACTOR:g}")


def _check_phantoms(study: Study) -> None:
    planes = study.image.channels + 3  # lungs, heart, finding
    for name, dataset in study.datasets.items():
        patients, each = getattr(dataset, "patients", 0), getattr(dataset, "images_per_patient", (0, 0))
        images = patients * each[1]
        if images > MOST_IMAGES:
            raise TooMuch(f"datasets.{name}", f"up to {images} images; at most {MOST_IMAGES}")
        size = images * study.image.size**2 * planes
        if size > MOST_BYTES:
            raise TooMuch(f"datasets.{name}", f"up to {size} bytes of pixels; at most {MOST_BYTES}")


def _check_batches(study: Study) -> None:
    sizes = {f"models.{name}.batch_size": model.batch_size for name, model in study.models.items()}
    sizes |= {f"generators.{name}.training.batch_size": g.training.batch_size for name, g in study.generators.items()}
    sizes |= {
        f"autoencoders.{name}.training.batch_size": entry.training.batch_size
        for name, entry in study.autoencoders.items()
        if entry.training is not None
    }
    sizes |= {f"pools.{name}.sampling.batch_size": pool.sampling.batch_size for name, pool in study.pools.items()}
    for place, count in sizes.items():
        held = count * study.image.size**2 * study.image.channels
        if held > MOST_IN_A_BATCH:
            raise TooMuch(place, f"{count} images of this size are {held} values a step; at most {MOST_IN_A_BATCH}")


def _number(value: int) -> str:
    return (
        str(value) if abs(value) < 10**20 else f"a number of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    )


_BY_LENGTH = sorted(LARGEST.items(), key=lambda entry: -len(entry[0]))
