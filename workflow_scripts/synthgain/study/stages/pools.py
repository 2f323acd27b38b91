"""Pools: synthetic images drawn replica by replica, each cut into shards; exports for other tools."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from synthgain.pools.options import Filter, MaskTransform, Pool, PoolMasks
from synthgain.pools.passes import evaluations, styling_evaluations
from synthgain.registry import FAMILIES, POOL_SOURCES
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest
from synthgain.speed.documents import Term
from synthgain.study.planner import Planner
from synthgain.study.roles import clusters_of, prompt_of, root_pool
from synthgain.study.schema import Study
from synthgain.study.stage import DRAWING, Draft, Stage, Wildcard, Wildcards
from synthgain.study.stages.data import Inputs, pixels, table_checksum, training_rows
from synthgain.study.stages.generators import snapshots_of
from synthgain.study.work import decoded, drawn, encoded, input_size, passes, space_kind

# How often styling looks at an image: for what it aims at and the distances before and after; a level forward and back.
LOOKS, LOOKS_A_STEP = 5, 2


def draw_pool_shard(plan: Planner, pool: str, index: Wildcard, replica: Wildcard, shard: Wildcard) -> Draft:
    config = plan.study.pools[pool]
    source = _images(plan, Draw(pool, config, index, replica))
    rows, modules = config.rows_of, [POOL_SOURCES[source.module], *source.modules]
    inputs = {**source.inputs, **training_rows([] if rows is None else [rows])}
    masks = _condition_masks(plan, config, index)
    if config.masks is not None and config.masks.from_ is not None:
        inputs["mask_generators"] = [{"generator": config.masks.from_, "index": _training(plan, index)}]
        modules.append(FAMILIES[plan.study.generators[config.masks.from_].family])
    facts = {
        "pool": pool,
        "index": int(index),
        "module": source.module,
        "options": source.options,
        "rows_of": rows,
        "conditions": {
            "mode": "balanced" if config.balance else "rows",
            "balance": config.balance,
            "shuffled": config.shuffled,
        },
        "masks": masks,
        "inpainting": None if config.inpainting is None else config.inpainting.dump(),
        "misaligned": config.misaligned,
        **({} if config.styling is None else {"styling": {**config.styling.dump(), "size": input_size(plan.study)}}),
        **_prompt(plan, config),
        "sampling": config.sampling.dump(),
        "image": plan.study.image.dump(),
        "seed": plan.seed,
    }
    upstream = plan.identities("draw_pool_shard", inputs)
    identity = digest({"pool": facts, "inputs": upstream if config.of is None else sorted(upstream)})
    facts.update(replica=int(replica), pool_identity=identity)
    # Accepted results stay so under another cut: the replica's identity rests on its first shard's code.
    basis = {"slice": dict(facts), "inputs": upstream}
    facts.update(shard=int(shard), shards=shards_of(plan.study, config))
    return Draft(facts, inputs, tuple(modules), basis=basis)


def _prompt(plan: Planner, pool: Pool) -> dict[str, object]:
    """Return how rows become texts: the pool's own prompt, or that of its generator; nothing without a text."""
    name = prompt_of(plan.study, pool)
    return {} if name is None else {"prompt": plan.study.prompts[name].dump()}


def merge_pool_replica(plan: Planner, pool: str, index: Wildcard, replica: Wildcard) -> Draft:
    shards = shards_of(plan.study, plan.study.pools[pool])
    place = {"pool": pool, "index": index, "replica": replica}
    first = plan.job("draw_pool_shard", **place, shard=0)
    whole = {name: value for name, value in first.slice.items() if name not in ("shard", "shards")}
    return Draft(
        {"pool": pool, "index": int(index), "replica": int(replica), "shards": shards},
        {"shards": [{**place, "shard": shard} for shard in range(shards)]},
        # Into how many shards it is cut moves no pixel: what is trained on a replica stays when only that changes.
        result={"replica": {"slice": whole, "inputs": first.inputs, "code": first.code}},
    )


def export_pool(plan: Planner, pool: str, index: Wildcard) -> Draft:
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
        {"replicas": replicas_of(plan, pool, index)},
    )


def replicas_of(plan: Planner, pool: str, index: Wildcard) -> list[Wildcards]:
    """Return the wildcards of every replica of one draw of a pool."""
    replicas = root_pool(plan.study, pool).replicas
    return [{"pool": pool, "index": index, "replica": replica} for replica in range(1, replicas + 1)]


def shards_of(study: Study, pool: Pool) -> int:
    """Return the number of shards of a replica: only sampling from a generator is worth cutting.

    Permuted masks need the whole replica in every job, so there cutting would multiply the work. With a generator per
    cluster every job would load all of them, and cut each cluster's batches.
    """
    drawn = pool.from_ is not None and study.generators[pool.from_].train_on.per is None
    return pool.shards if drawn and not pool.misaligned else 1


@dataclass(frozen=True)
class Draw:
    """One replica of one draw of a pool, as the source of its images needs it."""

    pool: str
    config: Pool
    index: Wildcard
    replica: Wildcard


@dataclass(frozen=True)
class Images:
    """Where a pool's images come from: the module that draws them, its options, inputs and further modules."""

    module: str
    options: Mapping[str, object]
    inputs: Inputs = field(default_factory=dict)
    modules: tuple[str, ...] = ()


def _images(plan: Planner, draw: Draw) -> Images:
    """Return where a pool's images come from, by the key that says so."""
    return next(source(plan, draw) for key, source in SOURCES.items() if getattr(draw.config, key) is not None)


def _generated(plan: Planner, draw: Draw) -> Images:
    generator, which = str(draw.config.from_), _training(plan, draw.index)
    count = clusters_of(plan.study, generator)
    entry = plan.study.generators[generator]
    chosen = weights_of(plan, draw.pool, draw.config)
    module = "pairs" if entry.structures else "generated"
    if entry.train_on.per is not None:
        each = [which * count + cluster for cluster in range(count)]
        return Images(
            "clustered",
            {
                "clusters": entry.train_on.per,
                "generators": [[generator, index] for index in each],
                **chosen,
                "draws": module,
            },
            {
                "generators": [{"generator": generator, "index": index} for index in each],
                "clusters": [{"clusters": entry.train_on.per}],
            },
            (FAMILIES[entry.family], POOL_SOURCES[module]),
        )
    return Images(
        module,
        {"generator": [generator, which], **chosen},
        {"generators": [{"generator": generator, "index": which}]},
        (FAMILIES[entry.family],),
    )


def weights_of(plan: Planner, pool: str, config: Pool) -> dict[str, object]:
    """Return which of its generator's weights draw a pool: {snapshot, ema_decay where it is not the first average}.

    Raises SynthGainError where they are not kept, or what guides them is not earlier.
    """
    generator, place = str(config.from_), f"pools.{pool}"
    kept, training = snapshots_of(plan, generator), plan.study.generators[generator].training
    snapshot = kept[-1] if config.snapshot is None else config.snapshot
    by = config.sampling.autoguidance
    wanted = {f"{place}.snapshot": snapshot}
    decays = {f"{place}.ema_decay": config.ema_decay}
    if by is not None:
        wanted[f"{place}.sampling.autoguidance.snapshot"] = by.snapshot
        decays[f"{place}.sampling.autoguidance.ema_decay"] = by.ema_decay
    for where, step in wanted.items():
        if step not in kept:
            listed = ", ".join(map(str, kept))
            raise SynthGainError(f"{where}: {step} of generator {generator!r} is not kept; kept are {listed}")
    for where, decay in decays.items():
        if decay is not None and decay not in training.kept_decays:
            listed = ", ".join(map(str, training.kept_decays))
            raise SynthGainError(
                f"{where}: {decay} of generator {generator!r} is not kept; kept are {listed} (training.ema_decays)"
            )
    first = training.ema_decay
    if by is not None and by.snapshot >= snapshot and (by.ema_decay or first) == (config.ema_decay or first):
        raise SynthGainError(
            f"{place}.sampling.autoguidance.snapshot: {by.snapshot} is no earlier than the pool's own {snapshot}; "
            f"kept are {', '.join(map(str, kept))}"
        )
    own = {} if config.ema_decay in (None, first) else {"ema_decay": config.ema_decay}
    return {"snapshot": snapshot, **own}


def _known(plan: Planner, draw: Draw) -> Images:
    name = draw.config.autoencoder
    through = {} if name is None else {"autoencoder": name}
    inputs: Inputs = {} if name is None else {"autoencoders": [{"autoencoder": name}]}
    return Images("known", {"kind": draw.config.known, **through, **draw.config.known_options.given()}, inputs)


def _imported(plan: Planner, draw: Draw) -> Images:
    assert draw.config.imported is not None
    place = {"pool": draw.pool, "index": draw.index, "replica": draw.replica, "shard": 0}
    recorded = plan.folder / plan.stages["draw_pool_shard"].output.format(**place)
    source = table_checksum(plan, draw.config.imported.table, f"pools.{draw.pool}", recorded)
    return Images("imported", {**draw.config.imported.given(), "source": source})


def _derived(plan: Planner, draw: Draw) -> Images:
    config = draw.config
    rule = config.filter or plan.study.pools[config.thin_to or ""].filter
    assert config.of is not None
    assert rule is not None
    base: Wildcards = {"pool": config.of, "index": draw.index}
    scores = SCORES[rule.scores]
    return Images(
        "derived",
        {"of": config.of, "filter": rule.dump(), "thin": config.thin_to is not None},
        {"replicas": [{**base, "replica": draw.replica}], scores.input: [scores.made_by(base, rule)]},
    )


@dataclass(frozen=True)
class ScoreTable:
    """Who makes a score table: the input that it comes by, and the job for a draw of a pool and a rule."""

    input: str
    made_by: Callable[[Wildcards, Filter], Wildcards] = lambda base, rule: base


SCORES: dict[str, ScoreTable] = {
    "memorisation": ScoreTable("memorisation"),
    "label_consistency": ScoreTable("consistency"),
    "mask_agreement": ScoreTable("consistency"),
    "readers": ScoreTable("ratings", lambda base, rule: {"panel": str(rule.name)}),
}


SOURCES = {
    "from_": _generated,
    "known": _known,
    "imported": _imported,
    "of": _derived,
}


def _condition_masks(plan: Planner, config: Pool, index: Wildcard) -> dict[str, object] | None:
    """Return how condition masks are drawn, or None where the generator takes none."""
    if config.from_ is None or not plan.study.generators[config.from_].mask_conditioned:
        return None
    masks = config.masks or PoolMasks()
    transform = masks.transform or MaskTransform()
    generator = None
    if masks.from_ is not None:
        generator = [masks.from_, _training(plan, index)]
    return {
        "source": masks.source,
        "transform": transform.dump() if masks.source == "transformed" else None,
        "generator": generator,
    }


def _training(plan: Planner, index: Wildcard) -> int:
    """Return which training of a generator a draw of a pool takes."""
    return int(index) % plan.study.replicates.generators


def _first_replicas(plan: Planner) -> list[Wildcards]:
    return [{"pool": p, "index": i, "replica": 1} for p in plan.study.pools for i in range(plan.pool_draws())]


def _one_if_drawn(study: Study, wildcards: Wildcards) -> int:
    return 0 if study.pools[str(wildcards["pool"])].from_ is None else 1


def _share(plan: Planner, pool: str) -> dict[str, float]:
    return {f"{drawn(plan, pool).rows_of}/train": 1 / shards_of(plan.study, plan.study.pools[pool])}


def _passes(plan: Planner, pool: str, index: Wildcard, replica: Wildcard, shard: Wildcard) -> list[Term]:
    """Passes of the shard's images, and of their masks where a generator draws those; images that are decoded."""
    config, by, share = plan.study.pools[pool], drawn(plan, pool), _share(plan, pool)
    if config.autoencoder is not None:
        return [encoded(config.autoencoder, share), decoded(config.autoencoder, 1, share)]
    if by.images is None:
        return []
    each = evaluations(config.sampling, config.inpainting) if by.denoises else 1
    terms = [passes(by.images, each, share)]
    through = None if config.from_ is None else plan.study.generators[config.from_].autoencoder_name
    if through is not None:
        terms.append(decoded(through, 1, share))
    if by.masks is not None:
        terms.append(passes(by.masks, evaluations(config.sampling), share))
    if config.styling is not None:
        each = styling_evaluations(config.sampling, config.styling.strength)
        terms.append(passes(by.images, each, share))
        space = space_kind(plan.study, config.styling.space)
        seen = LOOKS if config.styling.weight == 0 else LOOKS + LOOKS_A_STEP * each
        terms.append(Term(kind=space, unit="image", amount=seen, images=share))
    return terms


def _pixels(plan: Planner, pool: str, index: Wildcard, replica: Wildcard, shard: Wildcard) -> list[Term]:
    return pixels(plan.study, drawn(plan, pool).planes, _share(plan, pool))


STAGES = (
    Stage(
        "draw_pool_shard",
        "Drawing pools",
        "pools/{pool}/{index}/replica-{replica}/shard-{shard}/manifest.json",
        draw_pool_shard,
        {
            "datasets": "prepare_dataset",
            "splits": "split_dataset",
            "autoencoders": "train_autoencoder",
            "generators": "train_generator",
            "mask_generators": "train_generator",
            "replicas": "merge_pool_replica",
            "memorisation": "check_memorisation",
            "consistency": "score_pool",
            "clusters": "cluster_images",
            "ratings": "read_ratings",
        },
        gpus=_one_if_drawn,
        loads=DRAWING,
        synthesis=True,
        work=_passes,
        disk=_pixels,
    ),
    Stage(
        "merge_pool_replica",
        "Closing replicas",
        "pools/{pool}/{index}/replica-{replica}/manifest.json",
        merge_pool_replica,
        {"shards": "draw_pool_shard"},
        synthesis=True,
        shown=_first_replicas,
    ),
    Stage(
        "export_pool",
        "Exporting pools",
        "exports/{pool}/{index}/manifest.json",
        export_pool,
        {"replicas": "merge_pool_replica"},
    ),
)
