"""The data stages: read and prepared, divided by patient, audited."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from synthgain.registry import ADAPTERS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json, sha256_file
from synthgain.speed.documents import SizeSource, Term
from synthgain.study.planner import Planner
from synthgain.study.schema import Study
from synthgain.study.stage import Draft, Stage, Wildcards

Inputs = Mapping[str, list[Wildcards]]
DATA_ROOT = "pass --config data_root=FOLDER or set SYNTHGAIN_DATA"


def prepare_dataset(plan: Planner, dataset: str) -> Draft:
    config = plan.study.datasets[dataset]
    options = config.job_options(dataset)
    texts = text_columns(plan.study, dataset)
    if texts:
        kept = options.get("keep")
        options = {**options, "keep": [*(kept if isinstance(kept, list) else []), *texts]}
    return Draft(
        {
            "dataset": dataset,
            "module": config.adapter,
            "options": options,
            "image": plan.study.image.dump(),
            "max_quarantined_share": config.max_quarantined_share,
            "source": _source_checksum(plan, dataset),
            "seed": plan.seed,
        },
        modules=(ADAPTERS[config.adapter], *config.modules),
    )


def text_columns(study: Study, dataset: str) -> list[str]:
    """Return the columns of a data set whose text the study's prompts take as it is."""
    used = {generator.prompt_name for generator in study.generators.values() if dataset in generator.train_on.datasets}
    used |= {pool.prompt for pool in study.pools.values() if pool.rows_of == dataset}
    found = [study.prompts[name].column for name in sorted(filter(None, used)) if name in study.prompts]
    return list(dict.fromkeys(column for column in found if column is not None))


def split_dataset(plan: Planner, dataset: str) -> Draft:
    split = plan.study.datasets[dataset].split
    assert split is not None, dataset
    column: dict[str, object] | None = None
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
        {"datasets": [{"dataset": dataset}]},
    )


def audit_datasets(plan: Planner) -> Draft:
    used = used_datasets(plan)
    split = with_split(plan.study, used)
    return Draft(
        {
            "datasets": [
                {
                    "name": name,
                    "split": name in split,
                    "role": "training" if name in split else "test",
                    **_asked_of(plan.study, name),
                }
                for name in used
            ],
            **({"clusters": list(plan.study.clusters)} if plan.study.clusters else {}),
        },
        whole_datasets(plan.study, used),
    )


def audit_clusters(plan: Planner) -> Draft:
    if not plan.study.clusters:
        raise KeyError("clusters")
    options = {name: config.dump(exclude={"description"}) for name, config in plan.study.clusters.items()}
    return Draft(
        {"study": plan.study.study, "clusters": options},
        {"clusters": [{"clusters": name} for name in plan.study.clusters]},
    )


def _asked_of(study: Study, dataset: str) -> dict[str, object]:
    """Return what the audit must see before anything trains: classes and levels of training rows, films in common."""
    config = study.datasets[dataset]
    learned = {
        target
        for model in study.models.values()
        if any(arm.real == dataset for arm in study.arms.values())
        for target in model.targets
    }
    balanced = {name: pool.balance for name, pool in study.pools.items() if pool.balance and pool.rows_of == dataset}
    asked: dict[str, object] = {
        "learned": sorted(learned),
        "balanced": balanced,
        "films": config.films,
        "tested": config.split is not None and dataset in study.evaluate_on,
        "shares_films": config.shares_films,
    }
    return {key: value for key, value in asked.items() if value}


def used_datasets(plan: Planner) -> list[str]:
    """Return the data sets that the study trains, draws or tests on, in config order."""
    study = plan.study
    used = {*study.evaluate_on, *(arm.real for arm in study.arms.values())}
    used |= {name for generator in study.generators.values() for name in generator.train_on.datasets}
    used |= {name for one in study.autoencoders.values() if one.train_on for name in one.train_on.datasets}
    used |= {pool.rows_of for pool in study.pools.values()}
    return [name for name in study.datasets if name in used]


def whole_datasets(study: Study, names: Iterable[str]) -> Inputs:
    """Return the inputs of a reader of whole data sets: each set, and its split where it has one."""
    names = list(dict.fromkeys(names))
    return {"datasets": _named(names), "splits": _named(with_split(study, names))}


def training_rows(names: Iterable[str]) -> Inputs:
    """Return the inputs of a reader of training rows: each set, and its split, which it must have."""
    names = list(dict.fromkeys(names))
    return {"datasets": _named(names), "splits": _named(names)}


def with_split(study: Study, names: Iterable[str]) -> list[str]:
    """Return the data sets that are divided; the others are for testing only."""
    return [name for name in names if study.datasets[name].split is not None]


def _named(names: list[str]) -> list[Wildcards]:
    return [{"dataset": name} for name in names]


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
    recorded = plan.folder / plan.stages["prepare_dataset"].output.format(dataset=dataset)
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


def pixels(study: Study, planes: int, images: dict[str, float]) -> list[Term]:
    """Return the bytes of so many images with masks of so many planes."""
    return [Term(kind="", unit="bytes", amount=study.image.size**2 * (study.image.channels + planes), images=images)]


def _pixels(plan: Planner, dataset: str) -> list[Term]:
    """Images and masks of a whole data set."""
    return pixels(plan.study, len(plan.study.datasets[dataset].known_structures or ()), {f"{dataset}/all": 1.0})


def size_facts(plan: Planner, name: str) -> dict[str, object]:
    """What tells how many images a data set has: its manifests once it is read, before that the config or its table."""
    config = plan.study.datasets[name]
    read = plan.job("prepare_dataset", dataset=name)
    facts: dict[str, object] = {"manifest": read.output, "identity": read.identity}
    if config.split is not None:
        split, divided = config.split, plan.job("split_dataset", dataset=name)
        facts |= {"split_manifest": divided.output, "split_identity": divided.identity}
        shares = {part: getattr(split, part) for part in ("train", "validation", "test")}
        facts["shares"] = {part: share for part, share in shares.items() if share is not None}
        if split.column is not None:
            validation = {"validation": split.validation} if split.validation else {}
            facts["column"] = {"name": split.column, "map": split.map, **validation}
    return facts | config.counted(plan.root)


def training_images(plan: Planner, name: str) -> float | None:
    """Return about how many training images a data set has, as its manifests, folder, table or config tell it.

    None where that is not known before it is read.
    """
    from synthgain.speed.sizes import dataset_sizes  # loads pandas, which planning has no other use for

    source = SizeSource.model_validate(size_facts(plan, name))
    return dataset_sizes(plan.folder, {name: source}, plan.root)[name].train


STAGES = (
    Stage(
        "prepare_dataset",
        "Reading data sets",
        "datasets/{dataset}/manifest.json",
        prepare_dataset,
        disk=_pixels,
        shown=lambda plan: whole_datasets(plan.study, used_datasets(plan))["datasets"],
    ),
    Stage(
        "split_dataset",
        "Dividing patients",
        "splits/{dataset}/manifest.json",
        split_dataset,
        {"datasets": "prepare_dataset"},
        shown=lambda plan: whole_datasets(plan.study, used_datasets(plan))["splits"],
        values={"dataset": lambda study: with_split(study, study.datasets)},
    ),
    Stage(
        "audit_datasets",
        "Auditing data sets",
        "audit/audit.json",
        audit_datasets,
        {"datasets": "prepare_dataset", "splits": "split_dataset"},
        shown=lambda plan: [{}],
    ),
    Stage(
        "audit_clusters",
        "Showing the clusters",
        "audit/clusters/manifest.json",
        audit_clusters,
        {"clusters": "cluster_images"},
    ),
)
