"""Plans of pools: shards, replicas, exports."""

from typing import Any

from synthgain.pools.options import MaskTransform, Pool, PoolMasks
from synthgain.registry import FAMILIES, POOL_SOURCES
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest
from synthgain.study.plan_data import data_inputs, snapshots_of, table_checksum
from synthgain.study.planner import OUTPUTS, Draft, Planner, plans
from synthgain.study.roles import root_pool

Inputs = list[tuple[str, dict[str, Any]]]


@plans
def draw_pool_shard(plan: Planner, pool: str, index: Any, replica: Any, shard: Any) -> Draft:
    config = plan.study.pools[pool]
    source, inputs, modules = _pool_source(plan, pool, index, replica)
    rows = config.rows_of
    if rows is not None:
        inputs += data_inputs([rows])
    masks = _condition_masks(plan, config, index)
    if config.masks is not None and config.masks.from_ is not None:
        inputs.append(("train_generator", {"generator": config.masks.from_, "index": _training(plan, index)}))
        modules.append(FAMILIES[plan.study.generators[config.masks.from_].family])
    facts = {
        "pool": pool,
        "index": int(index),
        **source,
        "rows_of": rows,
        "conditions": {
            "mode": "balanced" if config.balance else "rows",
            "balance": config.balance,
            "shuffled": config.shuffled,
        },
        "masks": masks,
        "inpainting": None if config.inpainting is None else config.inpainting.dump(),
        "misaligned": config.misaligned,
        "sampling": config.sampling.dump(),
        "image": plan.study.image.dump(),
        "seed": plan.seed,
    }
    upstream = {job.output: job.identity for job in (plan.job(name, **w) for name, w in inputs)}
    identity = digest({"pool": facts, "inputs": upstream if config.of is None else sorted(upstream)})
    facts.update(replica=int(replica), pool_identity=identity)
    # Accepted results stay so under another cut: the replica's identity rests on its first shard's code.
    basis = {"slice": dict(facts), "inputs": upstream}
    facts.update(shard=int(shard), shards=shards_of(config))
    return Draft(facts, tuple(inputs), tuple(modules), basis=basis)


@plans
def merge_pool_replica(plan: Planner, pool: str, index: Any, replica: Any) -> Draft:
    shards = shards_of(plan.study.pools[pool])
    place = {"pool": pool, "index": index, "replica": replica}
    drawn = plan.job("draw_pool_shard", **place, shard=0)
    whole = {name: value for name, value in drawn.slice.items() if name not in ("shard", "shards")}
    return Draft(
        {"pool": pool, "index": int(index), "replica": int(replica), "shards": shards},
        tuple(("draw_pool_shard", {**place, "shard": shard}) for shard in range(shards)),
        # Into how many shards it is cut moves no pixel: what is trained on a replica stays when only that changes.
        result={"replica": {"slice": whole, "inputs": drawn.inputs, "code": drawn.code}},
    )


@plans
def export_pool(plan: Planner, pool: str, index: Any) -> Draft:
    config = plan.study.pools[pool]
    replicas = list(range(1, root_pool(plan.study, pool).replicas + 1))
    return Draft(
        {
            "pool": pool,
            "index": int(index),
            "replicas": replicas,
            "study": plan.study.study,
            "description": config.description,
            "licence": plan.study.datasets[config.rows_of].licence if config.rows_of else "",
            "config": config.dump(by_alias=True, exclude={"description", "shards"}),
        },
        tuple(("merge_pool_replica", {"pool": pool, "index": index, "replica": replica}) for replica in replicas),
    )


def shards_of(pool: Pool) -> int:
    """Return the number of shards of a replica: only sampling from a generator is worth cutting.

    Permuted masks need the whole replica in every job, so there cutting would multiply the work.
    """
    return pool.shards if pool.from_ is not None and not pool.misaligned else 1


def _pool_source(plan: Planner, pool: str, index: Any, replica: Any) -> tuple[dict[str, Any], list, list[str]]:
    """Return slice entries, inputs and modules of where a pool's images come from."""
    config = plan.study.pools[pool]
    if config.from_ is not None:
        generator = config.from_
        which = _training(plan, index)
        family = FAMILIES[plan.study.generators[generator].family]
        kept = snapshots_of(plan, generator)
        snapshot = kept[-1] if config.snapshot is None else config.snapshot
        if snapshot not in kept:
            listed = ", ".join(map(str, kept))
            raise SynthGainError(
                f"pools: snapshot {snapshot} of generator {generator!r} is not kept; kept are {listed}"
            )
        trained = plan.job("train_generator", generator=generator, index=which).output
        module = "pairs" if plan.study.generators[generator].structures else "generated"
        entries = {"module": module, "options": {"generator": trained, "snapshot": snapshot}}
        inputs: list = [("train_generator", {"generator": generator, "index": which})]
        return entries, inputs, [POOL_SOURCES[module], family]
    options: dict[str, Any]
    if config.known is not None:
        options = {"kind": config.known, **config.known_options.given()}
        return {"module": "known", "options": options}, [], [POOL_SOURCES["known"]]
    if config.imported is not None:
        recorded = plan.folder / OUTPUTS["draw_pool_shard"].format(pool=pool, index=index, replica=replica, shard=0)
        source = table_checksum(plan, config.imported.table, f"pools.{pool}", recorded)
        options = {**config.imported.given(), "source": source}
        return {"module": "imported", "options": options}, [], [POOL_SOURCES["imported"]]
    base = {"pool": config.of, "index": index, "replica": replica}
    rule = config.filter or plan.study.pools[config.thin_to or ""].filter
    assert rule is not None
    entries = {
        "module": "derived",
        "options": {"of": config.of, "filter": rule.dump(), "thin": config.thin_to is not None},
    }
    scored = "check_memorisation" if rule.scores == "memorisation" else "score_pool"
    inputs = [("merge_pool_replica", base), (scored, {"pool": config.of, "index": index})]
    return entries, inputs, [POOL_SOURCES["derived"]]


def _condition_masks(plan: Planner, config: Pool, index: Any) -> dict[str, Any] | None:
    """Return how condition masks are drawn, or None where the generator takes none."""
    if config.from_ is None or not plan.study.generators[config.from_].mask_conditioned:
        return None
    masks = config.masks or PoolMasks()
    transform = masks.transform or MaskTransform()
    generator = None
    if masks.from_ is not None:
        generator = plan.job("train_generator", generator=masks.from_, index=_training(plan, index)).output
    return {
        "source": masks.source,
        "transform": transform.dump() if masks.source == "transformed" else None,
        "generator": generator,
    }


def _training(plan: Planner, index: Any) -> int:
    """Return which training of a generator a draw of a pool takes."""
    return int(index) % plan.study.replicates.generators
