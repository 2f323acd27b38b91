"""Join the shards of a replica: a manifest that lists them, no copy of any pixel."""

import shutil
from typing import Any

from synthgain.pools.counts import SUMMED, added
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest

SHARED = ("columns", "column_order", "mask_names")
REPLICA_FACTS = (
    "kept", "of", "of_images", "known", "sampling", "condition_masks", "inpainting", "styling", "misaligned",
)  # fmt: skip


def merge_pool_replica(job: Job) -> None:
    """Slice: {pool, index, replica, shards}; inputs: the shards' manifests."""
    part, folder = job.slice, job.outputs[0].parent
    identities = {shard.path.parent.name: shard.identity for shard in job.inputs.shards.values()}
    names, shards = list(identities), [shard.manifest() for shard in job.inputs.shards.values()]
    for key in SHARED:
        if any(shard[key] != shards[0][key] for shard in shards):
            raise SynthGainError(f"{folder}: its shards differ in {key}; delete the folder and run snakemake again")
    images = sum(shard["images"] for shard in shards)
    write_manifest(
        job.outputs[0],
        job.identity,
        [f"{name}/manifest.json" for name in names],
        shards=names,
        shard_identities=identities,
        images=images,
        shape=[images, *shards[0]["shape"][1:]],
        counts=added(shard["counts"] for shard in shards),
        co_occurrence=added(shard["co_occurrence"] for shard in shards),
        pool=part["pool"],
        index=part["index"],
        replica=part["replica"],
        **{key: shards[0][key] for key in SHARED},
        **_pool_facts(shards),
    )
    for left in folder.glob("shard-*"):  # of another cut of this replica
        if left.name not in names:
            shutil.rmtree(left)


def _pool_facts(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """What the shards say of the whole replica (survivors of a filter, the kind of a known pool, its masks)."""
    facts = {key: shards[0][key] for key in REPLICA_FACTS if key in shards[0]}
    for name in SUMMED:
        if name in shards[0]:
            facts[name] = added(shard[name] for shard in shards if name in shard)
    return facts


if __name__ == "__main__":
    run_script(merge_pool_replica)
