"""Pools drawn from a trained generator."""

import torch

from synthgain.device import chosen_device
from synthgain.errors import SynthGainError
from synthgain.generators.loading import load_generator
from synthgain.pools.conditions import sample_seeds
from synthgain.pools.sampling import FinishedBatches, checked_sampling, draw_rows
from synthgain.pools.shards import Drawn, ShardRequest, shard_bounds


def draw(request: ShardRequest) -> Drawn:
    """Draw one shard: options {snapshot: step or null}; the generator is the one `generators/…` input.

    Raises SynthGainError where the generator's image size is not the study's.
    """
    torch.set_num_threads(request.threads)
    device = chosen_device()
    source, _ = request.rows_of()
    rows = request.rows()
    sampling = checked_sampling(request.sampling)
    start, stop = shard_bounds(len(rows), request.shard, request.shards, unit=sampling["batch_size"])
    folder = next(path for name, path in sorted(request.folders.items()) if name.startswith("generators/"))
    generator = load_generator(folder, request.options.get("snapshot"), device)
    wanted = (request.image["channels"], request.image["size"], request.image["size"])
    if tuple(generator.image_shape) != wanted:
        raise SynthGainError(f"pools.{request.keys.pool}: generator draws {generator.image_shape}, image is {wanted}")
    name = f"pool {request.keys.pool} replica {request.keys.replica} shard {request.shard + 1}/{request.shards}"
    seeds = sample_seeds(rows, request.keys)
    finished = FinishedBatches(request.state, request.identity)
    images = draw_rows(generator, rows, seeds, (start, stop), sampling, finished, name)
    facts = {"sampling": sampling, "threads": request.threads, "device": str(device)}
    return Drawn(images, request.table_of(rows).iloc[start:stop], source.columns, facts=facts)
