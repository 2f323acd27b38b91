"""A few training steps and a few passes of a generator, by the code that trains and draws, on random images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from synthgain.data.image_set import read_image_set
from synthgain.device import chosen_device
from synthgain.generators.loading import denoises, load_generator
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import Sampler
from synthgain.registry import FAMILY_TRAINING
from synthgain.runtime.files import digest, read_json
from synthgain.runtime.loading import load
from synthgain.speed.autoencoders import autoencoder_input
from synthgain.speed.clock import Ticks, memory_gb, repeats, timed
from synthgain.speed.documents import ImageKind, Measured, Rate, SampleKind, TrainKind
from synthgain.speed.random_data import one_input, write_random_data
from synthgain.speed.training import FIRST_STEPS, ticked_training

TRIED_IMAGES = 8  # of the first draw, which tells whether a whole batch can be afforded
PASSES = 2  # network passes of a timed draw: their share of it is the greater, the more there are


def measure_training(kind: Mapping[str, object], image: ImageKind, folder: Path, threads: int) -> Measured:
    """Return how fast a generator (TrainKind) takes a step, and leave the generator in its folder."""
    entry, device = TrainKind.model_validate(kind), chosen_device()
    if entry.start is not None:
        trained_folder(entry.start, image, folder, threads)
    ticks = _train(entry, image, folder, threads, FIRST_STEPS)
    if repeats(ticks.last()) > FIRST_STEPS:
        ticks = _train(entry, image, folder, threads, repeats(ticks.last()))
    size = sum(path.stat().st_size for path in (_place(entry, folder) / "snapshots").rglob("*.safetensors"))
    return Measured(step=ticks.rate(), network_bytes=size, **memory_gb(device))


def measure_sampling(kind: Mapping[str, object], image: ImageKind, folder: Path, threads: int) -> Measured:
    """Return how fast one image goes once through the network of a generator that draws (SampleKind)."""
    drawn = SampleKind.model_validate(kind)
    entry = drawn.generator
    generator = load_generator(trained_folder(entry, image, folder, threads), None, chosen_device())
    torch.set_num_threads(threads)
    options = Sampling(
        batch_size=drawn.sampling.batch_size,
        precision=drawn.sampling.precision,
        solver="euler",
        steps=PASSES,
        compile=False,
    )
    sampler, table = Sampler(generator, options), read_image_set(_run(entry, folder) / "datasets" / _name(entry)).table
    passes = PASSES if denoises(generator) else 1

    def draw(count: int) -> Rate:
        rows = table.iloc[np.arange(count) % len(table)]
        shape = (count, len(generator.structures), image.size, image.size)
        given = {"masks": torch.ones(shape)} if generator.output == "image" and generator.structures else {}
        work = lambda: sampler.samples(np.arange(count), lambda: generator.encode_conditions(rows, **given))  # noqa: E731
        return timed(work, generator.device, 1 / (count * passes))

    batch = options.batch_size
    rate = draw(min(batch, TRIED_IMAGES))
    if batch > TRIED_IMAGES and repeats(rate.seconds * batch * passes) > 1:
        rate = draw(batch)
    return Measured(draw=rate, **memory_gb(generator.device))


def trained_folder(entry: TrainKind, image: ImageKind, folder: Path, threads: int) -> Path:
    """Return the folder of a generator trained for a few steps, which is made where it is missing."""
    place = _place(entry, folder)
    if not (place / "manifest.json").exists():
        if entry.start is not None:
            trained_folder(entry.start, image, folder, threads)
        _train(entry, image, folder, threads, FIRST_STEPS)
    return place


def _name(entry: TrainKind) -> str:
    return f"g{digest(entry.json_values())}"  # a name starts with a letter


def _run(entry: TrainKind, folder: Path) -> Path:
    """The run folder of a generator; beside a frozen network that network's, where it looks for it."""
    return folder / _name(entry.start or entry)


def _place(entry: TrainKind, folder: Path) -> Path:
    return _run(entry, folder) / "generators" / _name(entry) / "0"


def _train(entry: TrainKind, image: ImageKind, folder: Path, threads: int, steps: int) -> Ticks:
    """Train a generator afresh for some steps and publish it; return when each step began."""
    run, place, name = _run(entry, folder), _place(entry, folder), _name(entry)
    of_start = entry.start.condition_on if entry.start is not None else []
    columns = list(dict.fromkeys([*entry.condition_on, *of_start]))
    counts = {"train": max(entry.training.batch_size, TRIED_IMAGES)}
    inputs = write_random_data(run, name, counts, image, (), columns, entry.structures)
    start = None
    if entry.start is not None:
        start = (_place(entry.start, folder) / "manifest.json").relative_to(run).as_posix()
        inputs["start"] = one_input("start", "start", start, run, read_json(run / start)["identity"])
    used = {"steps": steps, "snapshots": [steps], **entry.training.model_dump()}
    train_on = {"datasets": [name], "real_fraction": 1.0, "label_fraction": 1.0}
    chosen = {"generator": name, "index": 0, "init_from": start, "train_on": train_on, "seed": 0}
    facts = {**entry.slice(), **chosen, "training": used}
    if entry.latents is not None:
        through = str(facts["autoencoder"])
        inputs["autoencoders"] = autoencoder_input(entry.latents, image, folder, run, through)
    prepare = load(FAMILY_TRAINING, entry.training_module).prepare_run
    return ticked_training(facts, inputs, place / "manifest.json", run, threads, prepare)
