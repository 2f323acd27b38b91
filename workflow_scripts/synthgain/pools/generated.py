"""Pools of images drawn from a trained generator, diffusion or GAN. Those with masks: `synthgain.pools.pairs`."""

import torch

from synthgain.device import chosen_device
from synthgain.generators.autoguidance import autoguided
from synthgain.generators.loading import Generator, denoises, load_generator
from synthgain.pools.compiling import with_compile_decided
from synthgain.pools.conditions import sample_seeds
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import FinishedBatches, draw_rows
from synthgain.pools.shards import Drawn, ShardRequest, shard_bounds
from synthgain.runtime.environment import environment
from synthgain.runtime.errors import SynthGainError

ONE_PASS_OPTIONS = {"batch_size", "precision", "compile"}  # drawn in one pass there is no solver and no guidance


def draw(request: ShardRequest) -> Drawn:
    """Draw one shard: options {generator: [name, index], snapshot: step or null, ema_decay: of its weights, if any}.

    Raises SynthGainError where the generator's image size is not the study's, or it draws or needs masks.
    """
    torch.set_num_threads(request.threads)
    source, _ = request.rows_of()
    rows = request.rows()
    bounds = shard_bounds(len(rows), request.shard, request.shards, unit=request.sampling.batch_size)
    generator = open_generator(request)
    if generator.structures:
        raise SynthGainError(f"pools.{request.keys.pool}: its generator has masks; draw it with synthgain.pools.pairs")
    sampling = with_compile_decided(request.sampling, generator, len(rows), request.state)
    generator = guided_by_earlier(request, generator, sampling)
    seeds = sample_seeds(rows, request.keys)
    finished = FinishedBatches(request.state, request.identity, environment(generator.device))
    images = draw_rows(generator, rows, seeds, bounds, sampling, finished, shard_name(request))
    facts = sampling_facts(generator, sampling, finished)
    return Drawn(images, request.table_of(rows).iloc[slice(*bounds)], source.columns, facts=facts)


def open_generator(request: ShardRequest) -> Generator:
    """Return the generator that `options` names; SynthGainError where it draws no images of the study's size."""
    generator = _loaded(request, request.options.get("snapshot"), *_decay(request))
    wanted = (request.image["channels"], request.image["size"], request.image["size"])
    planes = len(generator.structures) if generator.output == "image+mask" else 0
    drawn = (generator.image_shape[0] - planes, *generator.image_shape[1:])
    if generator.output == "mask" or drawn != wanted:
        what = "masks" if generator.output == "mask" else drawn
        raise SynthGainError(f"pools.{request.keys.pool}: generator draws {what}, image is {wanted}")
    return generator


def guided_by_earlier(request: ShardRequest, generator: Generator, sampling: Sampling) -> Generator:
    """Return the generator as its sampling leads it away from an earlier snapshot; itself without autoguidance."""
    by = sampling.autoguidance
    if by is None or by.scale == 1.0 or not denoises(generator):
        return generator
    weak = _loaded(request, by.snapshot, by.ema_decay)
    assert denoises(weak)
    if sampling.compile is True:
        weak.network.compile(dynamic=False)
    return autoguided(generator, weak, by.scale, sampling.guidance_interval)


def _decay(request: ShardRequest) -> tuple[float, ...]:
    return (float(request.options["ema_decay"]),) if "ema_decay" in request.options else ()


def _loaded(request: ShardRequest, snapshot: int | None, ema_decay: float | None = None) -> Generator:
    folder = request.inputs.generators[tuple(request.options["generator"])].folder()
    return load_generator(folder, snapshot, chosen_device(), ema_decay)


def shard_name(request: ShardRequest) -> str:
    """Return how progress lines call this shard."""
    keys = request.keys
    return f"pool {keys.pool} replica {keys.replica} shard {request.shard + 1}/{request.shards}"


def sampling_facts(generator: Generator, sampling: Sampling, finished: FinishedBatches) -> dict[str, object]:
    """Return what the shard's manifest says of how it was drawn: where, and the options that the family has."""
    used = None if denoises(generator) else ONE_PASS_OPTIONS
    return {"sampling": sampling.model_dump(include=used), "environments": finished.environments()}
