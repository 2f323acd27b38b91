"""Plans of the data stages, generators and pools."""

import math
from typing import Any

from synthgain.errors import SynthGainError
from synthgain.files import digest, read_json, sha256_file
from synthgain.study.data import ADAPTERS, COMMON, TableDataset
from synthgain.study.generation import FAMILIES, GENERATOR_NETWORKS, Pool
from synthgain.study.planner import Draft, Planner, plans
from synthgain.study.roles import root_pool

# Sampling of the grids that show a generator's progress: small, and apart from any pool.
GRID_STEPS, GRID_COLUMNS = 18, 8


@plans
def prepare_dataset(plan: Planner, dataset: str) -> Draft:
    config = plan.study.datasets[dataset]
    options = config.model_dump(exclude=COMMON)
    if isinstance(config, TableDataset) and config.split is not None and config.split.column is not None:
        options["keep"] = [config.split.column]  # the split reads it from the prepared table
    return Draft(
        {
            "dataset": dataset,
            "module": ADAPTERS[config.adapter],
            "options": options,
            "image": plan.study.image.model_dump(),
            "max_quarantined_share": config.max_quarantined_share,
            "source": _source_checksum(plan, dataset),
            "seed": plan.seed,
        },
        modules=(ADAPTERS[config.adapter],),
    )


@plans
def split_dataset(plan: Planner, dataset: str) -> Draft:
    split = plan.study.datasets[dataset].split
    assert split is not None, dataset
    column = (
        None if split.column is None else {"name": split.column, "map": split.map, "on_conflict": split.on_conflict}
    )
    fractions = None if column else {part: getattr(split, part) for part in ("train", "validation", "test")}
    return Draft(
        {
            "dataset": dataset,
            "fractions": fractions,
            "column": column,
            "stratify": split.stratify,
            "split_seed": split.seed,
            "seed": plan.seed,
        },
        (("prepare_dataset", {"dataset": dataset}),),
    )


@plans
def audit_datasets(plan: Planner) -> Draft:
    used = used_datasets(plan)
    split = [name for name in used if plan.study.datasets[name].split is not None]
    return Draft(
        {
            "datasets": [
                {
                    "name": name,
                    "split": name in split,
                    "role": "training" if name in split else "test",
                }
                for name in used
            ]
        },
        (
            *(("prepare_dataset", {"dataset": name}) for name in used),
            *(("split_dataset", {"dataset": name}) for name in split),
        ),
    )


@plans
def train_generator(plan: Planner, generator: str, index: Any) -> Draft:
    config = plan.study.generators[generator]
    network = _module(config.network, "unet", GENERATOR_NETWORKS, f"generators.{generator}.network")
    training = config.training.model_dump()
    training["snapshots"] = snapshots_of(plan, generator)
    inputs = [*_data(config.train_on.datasets)]
    start = None
    if config.init_from is not None:
        start = plan.job("train_generator", generator=config.init_from, index=index).output
        inputs.append(("train_generator", {"generator": config.init_from, "index": index}))
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "module": FAMILIES[config.family],
            "network": network,
            "output": "image",
            "condition_on": config.condition_on,
            "formulation": config.formulation.model_dump(),
            "training": training,
            "train_on": config.train_on.model_dump(),
            "init_from": start,
            "image": {"size": plan.study.image.size, "channels": plan.study.image.channels},
            "seed": plan.seed,
        },
        tuple(inputs),
        (FAMILIES[config.family], network["module"]),
    )


@plans
def draw_sample_grid(plan: Planner, generator: str, index: Any, snapshot: Any) -> Draft:
    config = plan.study.generators[generator]
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "snapshot": int(snapshot),
            "condition_on": config.condition_on,
            "columns": GRID_COLUMNS,
            "sampling": {"solver": "dpmpp_2m", "steps": GRID_STEPS},
            "seed": plan.seed,
        },
        (
            ("train_generator", {"generator": generator, "index": index}),
            *_data(config.train_on.datasets[:1]),
        ),
        (FAMILIES[config.family], "synthgain.pools.solvers"),
    )


@plans
def draw_pool_shard(plan: Planner, pool: str, index: Any, replica: Any, shard: Any) -> Draft:
    config = plan.study.pools[pool]
    source, inputs, modules = _pool_source(plan, config, index, replica)
    rows = config.rows_of
    if rows is not None:
        inputs += _data([rows])
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
        "sampling": config.sampling.model_dump(),
        "image": plan.study.image.model_dump(),
        "seed": plan.seed,
    }
    upstream = {job.output: job.identity for job in (plan.job(name, **w) for name, w in inputs)}
    identity = digest({"pool": facts, "inputs": upstream if config.of is None else sorted(upstream)})
    facts.update(replica=int(replica), shard=int(shard), shards=shards_of(config), pool_identity=identity)
    return Draft(facts, tuple(inputs), tuple(modules))


@plans
def merge_pool_replica(plan: Planner, pool: str, index: Any, replica: Any) -> Draft:
    shards = shards_of(plan.study.pools[pool])
    place = {"pool": pool, "index": index, "replica": replica}
    return Draft(
        {"pool": pool, "index": int(index), "replica": int(replica), "shards": shards},
        tuple(("draw_pool_shard", {**place, "shard": shard}) for shard in range(shards)),
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
            "config": config.model_dump(by_alias=True, exclude={"description"}),
        },
        tuple(("merge_pool_replica", {"pool": pool, "index": index, "replica": replica}) for replica in replicas),
    )


def used_datasets(plan: Planner) -> list[str]:
    """Return the data sets that the study trains, draws or tests on, in config order."""
    study = plan.study
    used = {*study.evaluate_on, *(arm.real for arm in study.arms.values())}
    used |= {name for generator in study.generators.values() for name in generator.train_on.datasets}
    used |= {pool.rows_of for pool in study.pools.values()}
    return [name for name in study.datasets if name in used]


def snapshots_of(plan: Planner, generator: str) -> list[int]:
    """Return the steps at which a generator is kept: as configured, or a quarter, a half and all."""
    training = plan.study.generators[generator].training
    wanted = training.snapshots or [math.ceil(training.steps / 4), math.ceil(training.steps / 2)]
    return sorted({*(step for step in wanted if step < training.steps), training.steps})


def shards_of(pool: Pool) -> int:
    """Return the number of shards of a replica: only sampling from a generator is worth cutting."""
    return pool.shards if pool.from_ is not None else 1


def _pool_source(plan: Planner, config: Pool, index: Any, replica: Any) -> tuple[dict[str, Any], list, list[str]]:
    """Return slice entries, inputs and modules of where a pool's images come from."""
    if config.from_ is not None:
        generator = config.from_
        which = int(index) % plan.study.replicates.generators
        family = FAMILIES[plan.study.generators[generator].family]
        kept = snapshots_of(plan, generator)
        snapshot = kept[-1] if config.snapshot is None else config.snapshot
        if snapshot not in kept:
            listed = ", ".join(map(str, kept))
            raise SynthGainError(
                f"pools: snapshot {snapshot} of generator {generator!r} is not kept; kept are {listed}"
            )
        entries = {"module": "synthgain.pools.generated", "options": {"snapshot": snapshot}}
        inputs: list = [("train_generator", {"generator": generator, "index": which})]
        return entries, inputs, ["synthgain.pools.generated", family]
    options: dict[str, Any]
    if config.known is not None:
        options = {"kind": config.known, **config.known_options}
        return {"module": "synthgain.pools.known", "options": options}, [], ["synthgain.pools.known"]
    if config.imported is not None:
        table = plan.root / config.imported["table"] if plan.root and "table" in config.imported else None
        source = sha256_file(table) if table and table.exists() else None
        options = {**config.imported, "source": source}
        return {"module": "synthgain.pools.imported", "options": options}, [], ["synthgain.pools.imported"]
    base = {"pool": config.of, "index": index, "replica": replica}
    rule = config.filter or plan.study.pools[config.thin_to or ""].filter
    assert rule is not None
    entries = {
        "module": "synthgain.pools.derived",
        "options": {"of": config.of, "filter": rule.model_dump(), "thin": config.thin_to is not None},
    }
    scored = "check_memorisation" if rule.scores == "memorisation" else "score_pool"
    inputs = [("merge_pool_replica", base), (scored, {"pool": config.of, "index": index})]
    return entries, inputs, ["synthgain.pools.derived"]


def _data(names: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the inputs that a reader of training rows needs: data set and split of each name."""
    return [(rule, {"dataset": name}) for name in names for rule in ("prepare_dataset", "split_dataset")]


def _module(config: dict[str, Any], default: str, known: dict[str, str], place: str) -> dict[str, Any]:
    name = config.get("name", default)
    if name not in known:
        raise SynthGainError(f"{place}: unknown network {name!r}; known: {', '.join(known)}")
    return {"module": known[name], "options": {key: value for key, value in config.items() if key != "name"}}


def _source_checksum(plan: Planner, dataset: str) -> str | None:
    """Checksum of a table data set's file: from the data root, or as recorded where the root is not at hand."""
    config = plan.study.datasets[dataset]
    if not isinstance(config, TableDataset):
        return None
    if plan.root is not None and (plan.root / config.table).exists():
        return sha256_file(plan.root / config.table)
    recorded = plan.folder / OUTPUT_MANIFEST.format(dataset=dataset)
    if recorded.exists():
        return read_json(recorded).get("source")
    where = f"not in {plan.root}" if plan.root else "but the data root is not known"
    raise SynthGainError(
        f"datasets.{dataset}.table: {config.table!r} {where}; pass --config data_root=FOLDER or set SYNTHGAIN_DATA"
    )


OUTPUT_MANIFEST = "datasets/{dataset}/manifest.json"
