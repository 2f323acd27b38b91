"""Plans of the data stages and generators."""

from pathlib import Path
from typing import Any

from synthgain.generators.family import TRAINING_SETTINGS
from synthgain.generators.snapshots import snapshot_steps
from synthgain.registry import ADAPTERS, FAMILIES, FAMILY_TRAINING, NETWORKS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, sha256_file
from synthgain.study.generation import family_of
from synthgain.study.planner import OUTPUTS, Draft, Planner, plans

# Sampling of the grids that show a generator's progress: small, and apart from any pool.
GRID_STEPS, GRID_COLUMNS = 18, 8
DATA_ROOT = "pass --config data_root=FOLDER or set SYNTHGAIN_DATA"


@plans
def prepare_dataset(plan: Planner, dataset: str) -> Draft:
    config = plan.study.datasets[dataset]
    return Draft(
        {
            "dataset": dataset,
            "module": config.adapter,
            "options": config.job_options(dataset),
            "image": plan.study.image.dump(),
            "max_quarantined_share": config.max_quarantined_share,
            "source": _source_checksum(plan, dataset),
            "seed": plan.seed,
        },
        modules=(ADAPTERS[config.adapter], *config.modules),
    )


@plans
def split_dataset(plan: Planner, dataset: str) -> Draft:
    split = plan.study.datasets[dataset].split
    assert split is not None, dataset
    column: dict[str, Any] | None = None
    if split.column is not None:
        column = {"name": split.column, "map": split.map, "on_conflict": split.on_conflict}
        if split.validation:
            column["validation"] = split.validation
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
    network = config.network
    training = config.training.dump(exclude=TRAINING_SETTINGS)
    training["snapshots"] = snapshots_of(plan, generator)
    inputs = [*data_inputs(config.train_on.datasets)]
    start = None
    if config.init_from is not None:
        start = plan.job("train_generator", generator=config.init_from, index=index).output
        inputs.append(("train_generator", {"generator": config.init_from, "index": index}))
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "module": config.family,
            "network": {"module": network.module, "options": network.options()},
            "output": config.output,
            "structures": config.structures,
            "condition_on": config.columns,
            **family_of(config).facts(config),
            "training": training,
            "train_on": config.train_on.dump(),
            "init_from": start,
            "image": {"size": plan.study.image.size, "channels": plan.study.image.channels},
            "seed": plan.seed,
        },
        tuple(inputs),
        (FAMILY_TRAINING[config.family], NETWORKS[network.module]),
    )


@plans
def draw_sample_grid(plan: Planner, generator: str, index: Any, snapshot: Any) -> Draft:
    config = plan.study.generators[generator]
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "snapshot": int(snapshot),
            "condition_on": config.columns,
            "columns": GRID_COLUMNS,
            "sampling": {"solver": "dpmpp_2m", "steps": GRID_STEPS},
            "seed": plan.seed,
        },
        (
            ("train_generator", {"generator": generator, "index": index}),
            *data_inputs(config.train_on.datasets[:1]),
        ),
        (FAMILIES[config.family], "synthgain.pools.solvers"),
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
    return snapshot_steps(plan.study.generators[generator].training)


def data_inputs(names: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the inputs that a reader of training rows needs: data set and split of each name."""
    return [(rule, {"dataset": name}) for name in names for rule in ("prepare_dataset", "split_dataset")]


def table_checksum(plan: Planner, table: str, place: str, recorded: Path) -> str:
    """Return the SHA-256 of a table below the data root, or as `recorded` (a manifest) where the root is not at hand.

    Raises SynthGainError, naming `place`, where neither is there.
    """
    path = None if plan.root is None else plan.root / table
    found = sha256_file(path) if path is not None and path.is_file() else _recorded_source(recorded)
    if found is None:
        raise SynthGainError(f"{place}: {table!r} {_lacking(plan)}; {DATA_ROOT}")
    return found


def _source_checksum(plan: Planner, dataset: str) -> str | None:
    """Checksum of a data set's files: from the data root, or as recorded where the root is not at hand."""
    config = plan.study.datasets[dataset]
    needed = config.needs()
    if needed is None:
        return None
    recorded = plan.folder / OUTPUTS["prepare_dataset"].format(dataset=dataset)
    found = (None if plan.root is None else config.source(plan.root)) or _recorded_source(recorded)
    if found is None:
        mend = (plan.root and config.get()) or DATA_ROOT
        raise SynthGainError(f"datasets.{dataset}: {needed!r} {_lacking(plan)}; {mend}")
    return found


def _recorded_source(manifest: Path) -> str | None:
    """Return the checksum of the source that a data set, or a shard of imported images, was read from."""
    if not manifest.exists():
        return None
    facts = read_json(manifest)
    found = facts.get("source") or (facts.get("imported") or {}).get("source")
    return None if found is None else str(found)


def _lacking(plan: Planner) -> str:
    return f"not in {plan.root}" if plan.root else "but the data root is not known"
