"""Draw one shard of a pool's replica: an ImageSet of synthetic images."""

import shutil

import pandas as pd

from synthgain.data.image_set import ImageSet, job_dataset, write_image_set
from synthgain.data.options import Prompt
from synthgain.entry import checked
from synthgain.pools.conditions import PoolKeys
from synthgain.pools.misaligned import draw_misaligned
from synthgain.pools.options import Inpainting, PlannedMasks, PlannedStyling, Sampling
from synthgain.pools.shards import ShardRequest, co_occurrence, label_counts
from synthgain.registry import POOL_SOURCES
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.guarded import keep_manifest, put_manifest_back
from synthgain.runtime.loading import load


def draw_pool_shard(job: Job) -> None:
    """Draw one shard.

    Slice: {pool, index, replica, shard, shards, pool_identity, module, options, rows_of (or null),
    conditions: {mode: rows|balanced, balance, shuffled}, sampling: {…}, image: {size, channels}, seed}, and for
    pairs masks: {source, transform, generator}, inpainting: {structure, dilate, resamples, jump_length, redraw_mask}
    (or null) and misaligned: true|false.
    """
    if put_manifest_back(job):
        return
    part = job.slice
    source, training = _source(job)
    inpainting, masks = part.get("inpainting"), part.get("masks")
    request = ShardRequest(
        keys=PoolKeys(part["seed"], part["pool"], part["index"], part["replica"]),
        shard=part["shard"],
        shards=part["shards"],
        options=part.get("options") or {},
        conditions=part.get("conditions") or {},
        sampling=checked(Sampling, part.get("sampling") or {}, "sampling", of_slice=True),
        image=part["image"],
        dataset=part.get("rows_of"),
        source=source,
        training=training,
        pool_identity=part["pool_identity"],
        identity=job.identity,
        state=job.state_folder(),
        inputs=job.inputs,
        threads=job.threads,
        prompt=checked(Prompt, part["prompt"], "prompt", of_slice=True) if part.get("prompt") else None,
        masks=masks and checked(PlannedMasks, masks, "masks", of_slice=True),
        styling=checked(PlannedStyling, part["styling"], "styling", of_slice=True) if part.get("styling") else None,
        inpainting=inpainting and checked(Inpainting, inpainting, "inpainting", of_slice=True),
    )
    draw = load(POOL_SOURCES, part["module"]).draw
    drawn = draw_misaligned(draw, request) if part.get("misaligned") else draw(request)
    write_image_set(
        job.outputs[0].parent,
        drawn.images,
        drawn.table,
        drawn.columns,
        job.identity,
        drawn.masks,
        drawn.mask_names,
        counts=label_counts(drawn.table, drawn.columns),
        co_occurrence=co_occurrence(drawn.table, drawn.columns),
        distinct_parents=int(drawn.table["parent_image_id"].nunique()),
        **drawn.facts,
    )
    shutil.rmtree(job.state_folder(), ignore_errors=True)
    keep_manifest(job)


def _source(job: Job) -> tuple[ImageSet | None, pd.DataFrame | None]:
    """Return the ImageSet of `rows_of` and its training rows, or (None, None)."""
    name = job.slice.get("rows_of")
    if name is None:
        return None, None
    data = job_dataset(job, name)
    return data.images, data.images.table.iloc[data.training_rows()].reset_index(drop=True)


if __name__ == "__main__":
    run_script(draw_pool_shard)
