"""A negative control of image and mask pairs: every image of a replica gets the masks of another patient's."""

import dataclasses
from collections.abc import Callable

import numpy as np

from synthgain.pools.counts import SUMMED
from synthgain.pools.shards import Drawn, ShardRequest, shard_bounds
from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import random_generator


def draw_misaligned(draw: Callable[[ShardRequest], Drawn], request: ShardRequest) -> Drawn:
    """Return a shard of what `draw` gives, with its masks permuted among the images of the replica.

    Images, labels and covariates stay. The whole replica is drawn for each shard, so that all shards agree: such
    pools are best left uncut. Raises SynthGainError for a pool without masks or of a single image.
    """
    where = f"pools.{request.keys.pool}.misaligned"
    whole = draw(dataclasses.replace(request, shard=0, shards=1))
    if whole.masks is None:
        raise SynthGainError(f"{where}: its images have no masks to permute; leave the key out")
    if len(whole.table) < 2:
        raise SynthGainError(f"{where}: needs at least two images, got {len(whole.table)}")
    random = random_generator(step="pool misaligned", **request.keys.of_replica())
    other = partners(whole.table["patient_id"].to_numpy(dtype=str), random)
    flags = [name for name in whole.table.columns if name.startswith("has_mask_")]
    lender = whole.table.get("mask_parent_id", whole.table["parent_image_id"])
    moved = {name: whole.table[name].to_numpy()[other] for name in flags}
    table = whole.table.reset_index(drop=True).assign(**moved, mask_parent_id=lender.iloc[other].to_numpy())
    inside = slice(*shard_bounds(len(table), request.shard, request.shards))
    facts = {**whole.facts, "misaligned": True}
    if request.shard > 0:
        for name in SUMMED:
            facts.pop(name, None)  # they are the whole replica's: shard 0 says them
    return dataclasses.replace(
        whole, images=whole.images[inside], table=table.iloc[inside], masks=whole.masks[other][inside], facts=facts
    )


def partners(patients: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return for each image another image (n,) int64, a permutation: of another patient, unless one has most images.

    patients: (n,) text, n at least 2. Patients are in random order and everyone takes the image that comes as many
    places later as the largest patient has images.
    """
    names, number = np.unique(patients, return_inverse=True)
    order = np.argsort(random.permutation(len(names))[number], kind="stable")
    step = min(int(np.bincount(number).max()), len(patients) - 1)
    other = np.empty(len(patients), dtype=np.int64)
    other[order] = np.roll(order, -step)
    return other
