"""Plans of what is measured on pools: fidelity, memorisation, labels and masks, snapshots."""

from typing import Any

from synthgain.registry import FAMILIES, MASK_CHECKS, NETWORKS, SPACES, TASKS
from synthgain.study.generation import family_of
from synthgain.study.plan_data import GRID_STEPS, snapshots_of
from synthgain.study.plan_downstream import network_entry
from synthgain.study.planner import Draft, Planner, plans
from synthgain.study.roles import base_pool, root_pool, source_dataset

MEMBERSHIP_DRAWS = 4  # noise draws per image and level: the loss of one draw is mostly noise
MEMBERSHIP_IMAGES = 500  # a side
# EfficientNet-Lite0 was trained at 224 px; enlarging small films that far costs four times as much and adds nothing.
SMALL_IMAGE, SMALL_INPUT, FULL_INPUT = 64, 128, 224
CANDIDATE_PAIRS = 12  # likeliest copies shown side by side
Inputs = list[tuple[str, dict[str, Any]]]


@plans
def measure_fidelity(plan: Planner, pool: str, index: Any) -> Draft:
    fidelity = plan.study.evaluation.fidelity
    assert fidelity is not None, pool
    rows = reference_dataset(plan, pool)
    spaces, inputs, modules = _spaces(plan, list(fidelity.spaces), rows, int(index))
    for name, config in fidelity.torchscript.items():
        spaces.append({"name": name, "module": "torchscript", **config.entry(name)})
        modules.append(SPACES["torchscript"])
    masks = {"masks": {"module": "mask_shape", "structures": segmented(plan)}} if segmented(plan) else {}
    modules += [MASK_CHECKS["mask_shape"]] if masks else []
    return Draft(
        {
            "pool": pool,
            "index": int(index),
            "rows_of": rows,
            **masks,
            "spaces": spaces,
            "n": fidelity.images,
            "minimum": plan.study.analysis.minimum.patients,
            "floor_splits": fidelity.floor_splits,
            "by": fidelity.by,
            "radiomics": fidelity.radiomics,
            "seed": plan.seed,
        },
        (*_replicas(plan, pool, index, 1), *_data(plan, [rows]), *inputs),
        tuple(modules),
    )


@plans
def check_memorisation(plan: Planner, pool: str, index: Any) -> Draft:
    gate = plan.study.evaluation.memorisation
    assert gate is not None, pool
    config = root_pool(plan.study, pool)
    rows = reference_dataset(plan, pool)
    spaces, inputs, modules = _spaces(plan, [gate.space] if gate.space else [], rows, int(index))
    train_on, generator = [rows], None
    if config.from_ is not None:
        which = int(index) % plan.study.replicates.generators
        steps = snapshots_of(plan, config.from_)
        folder = f"generators/{config.from_}/{which}"
        generator = {"folder": folder, "snapshot": config.snapshot or steps[-1]}
        inputs.append(("train_generator", {"generator": config.from_, "index": which}))
        modules.append(FAMILIES[plan.study.generators[config.from_].family])
        train_on = _seen_by(plan, config.from_)
    imported = config.imported is not None
    evaluated = list(plan.study.evaluate_on) if imported else []
    membership = {"images": MEMBERSHIP_IMAGES, "draws": MEMBERSHIP_DRAWS} if gate.membership else None
    replicas = root_pool(plan.study, pool).replicas
    return Draft(
        {
            "pool": pool,
            "index": int(index),
            "train_on": train_on,
            "limit": gate.limit,
            "space": spaces[0] if spaces else None,
            "generator": generator,
            "membership": membership,
            "imported": imported,
            "evaluate_on": evaluated,
            "candidates": CANDIDATE_PAIRS,
            "seed": plan.seed,
        },
        (*_replicas(plan, pool, index, replicas), *_data(plan, list(dict.fromkeys([*train_on, *evaluated]))), *inputs),
        tuple(modules),
    )


@plans
def score_pool(plan: Planner, pool: str, index: Any) -> Draft:
    rows = reference_dataset(plan, pool)
    name = next(iter(plan.study.models))
    model = plan.study.models[name]
    trained = _real_cell(plan, rows, int(index))
    assert trained is not None, f"no plain arm trains on {rows}"
    replicas = root_pool(plan.study, pool).replicas
    entry: dict[str, Any] = {"name": name, "targets": model.targets, "network": network_entry(model)}
    check, modules = {}, [NETWORKS[entry["network"]["module"]]]
    if model.kind.masks:
        entry |= {"task": model.task, "structures": model.structures, "window": model.window}
        entry["task_module"], check = model.task, {"check": "mask_agreement"}
        modules += [TASKS[model.task], MASK_CHECKS["mask_agreement"]]
    return Draft(
        {
            "pool": pool,
            "index": int(index),
            "rows_of": rows,
            "model": entry,
            **check,
            "trained": plan.job("train_downstream", **trained).output,
            "replicate": int(index),
            "by": plan.study.analysis.subgroups,
            "minimum": plan.study.analysis.minimum.positives,
            "seed": plan.seed,
        },
        (*_replicas(plan, pool, index, replicas), *_data(plan, [rows]), ("train_downstream", trained)),
        tuple(modules),
    )


@plans
def evaluate_snapshots(plan: Planner, generator: str, index: Any) -> Draft:
    config = plan.study.generators[generator]
    train_on = list(config.train_on.datasets)
    spaces, inputs, modules = _spaces(plan, ["efficientnet_lite0"], train_on[0], int(index))
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "snapshots": snapshots_of(plan, generator),
            "train_on": train_on,
            "n": plan.study.evaluation.snapshot_images,
            "space": spaces[0],
            "sampling": {"solver": "dpmpp_2m", "steps": GRID_STEPS},
            "seed": plan.seed,
        },
        (("train_generator", {"generator": generator, "index": index}), *_data(plan, train_on), *inputs),
        (*modules, FAMILIES[config.family]),
    )


def measured_pools(plan: Planner) -> list[str]:
    """Return the pools on which fidelity and memorisation are measured: as configured, or all drawn ones."""
    chosen = plan.study.evaluation.pools
    return list(chosen) if chosen is not None else [n for n, p in plan.study.pools.items() if p.of is None]


def segmented(plan: Planner) -> list[str]:
    """Return the structures that the study's models segment, none in a study that only classifies."""
    models = [model for model in plan.study.models.values() if model.kind.masks]
    return list(dict.fromkeys(name for model in models for name in model.structures))


def evaluation_inputs(plan: Planner) -> Inputs:
    """Return every evaluation job that the report shows."""
    evaluation, indices = plan.study.evaluation, range(plan.pool_draws())
    jobs: Inputs = []
    for pool in measured_pools(plan):
        for index in indices:
            place = {"pool": pool, "index": index}
            if evaluation.fidelity is not None:
                jobs.append(("measure_fidelity", place))
            if evaluation.memorisation is not None:
                jobs.append(("check_memorisation", place))
            if evaluation.label_consistency and _real_cell(plan, reference_dataset(plan, pool), index) is not None:
                jobs.append(("score_pool", place))
    if evaluation.snapshots:
        generators = plan.study.replicates.generators
        jobs += [
            ("evaluate_snapshots", {"generator": name, "index": index})
            for name in plan.study.generators
            if draws_images(plan, name)
            for index in range(generators)
        ]
    if evaluation.fidelity is not None and not plan.study.rehearsal:
        used = {arm.synthetic for arm in plan.study.arms.values() if arm.real is not None}
        related = used & set(measured_pools(plan))
        jobs += [("relate_fidelity", {"model": model}) for model in plan.study.models if related]
    return jobs


def draws_images(plan: Planner, generator: str) -> bool:
    """True for a denoiser of images alone, the kind of which snapshots are compared on a sample."""
    config = plan.study.generators[generator]
    return family_of(config).denoises and config.output == "image" and not config.mask_conditioned


def gates(plan: Planner) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return {arm: memorisation jobs of every draw of the pool behind its images}; pools not measured have none."""
    if plan.study.evaluation.memorisation is None:
        return {}
    found = {}
    for name, arm in plan.study.arms.items():
        pool = base_pool(plan.study, arm.synthetic) if arm.synthetic is not None else None
        if pool in measured_pools(plan):
            draws = range(plan.pool_draws())  # as in training: a copy in any of them is in a trained arm
            found[name] = [("check_memorisation", {"pool": pool, "index": index}) for index in draws]
    return found


def reference_dataset(plan: Planner, pool: str) -> str:
    """Return the real data that a pool is held against: its source, or the real data of an arm that uses it."""
    source = source_dataset(plan.study, pool)
    if source is not None:
        return source
    real = [arm.real for arm in plan.study.arms.values() if arm.synthetic == pool and arm.real is not None]
    split = [name for name, dataset in plan.study.datasets.items() if dataset.split is not None]
    return (real or split)[0]


def _spaces(plan: Planner, names: list[str], rows: str, index: int) -> tuple[list[dict[str, Any]], Inputs, list[str]]:
    """Return feature spaces as slice entries, their inputs and their modules; `downstream` needs a plain arm."""
    spaces: list[dict[str, Any]] = []
    inputs: Inputs = []
    modules = []
    trained = _real_cell(plan, rows, index)
    for name in names:
        if name == "downstream":
            if trained is None:
                continue
            network = network_entry(plan.study.models[trained["model"]])
            path = plan.job("train_downstream", **trained).output
            inputs.append(("train_downstream", trained))
            modules.append(NETWORKS[network["module"]])
            entry = {"options": {"network": network}, "trained": path, "replicate": index}
        elif name == "inception":
            fidelity = plan.study.evaluation.fidelity
            entry = {"options": {}, "weights": fidelity.inception_weights if fidelity else None}
        else:
            entry = {"options": {"size": SMALL_INPUT if plan.study.image.size <= SMALL_IMAGE else FULL_INPUT}}
        spaces.append({"name": name, "module": name, **entry})
        modules.append(SPACES[name])
    return spaces, inputs, modules


def _real_cell(plan: Planner, rows: str, index: int) -> dict[str, Any] | None:
    """Return the job that trains the first model on all real images of `rows`, for replicate `index`."""
    for name, arm in plan.study.arms.items():
        if arm.plain and arm.real == rows and arm.real_fraction == 1.0:
            chunk = index // plan.study.replicates.per_job
            return {"model": next(iter(plan.study.models)), "arm": name, "ratio": 0, "chunk": chunk}
    return None


def _seen_by(plan: Planner, generator: str) -> list[str]:
    """Return the data sets that a generator saw, pretraining included."""
    seen: list[str] = []
    here: str | None = generator
    while here is not None:
        config = plan.study.generators[here]
        seen += config.train_on.datasets
        here = config.init_from
    return list(dict.fromkeys(seen))


def _replicas(plan: Planner, pool: str, index: Any, count: int) -> Inputs:
    return [("merge_pool_replica", {"pool": pool, "index": index, "replica": k}) for k in range(1, count + 1)]


def _data(plan: Planner, names: list[str]) -> Inputs:
    """Inputs of a reader of whole data sets: each set, and its split where it has one."""
    split = [name for name in names if plan.study.datasets[name].split is not None]
    return [
        *(("prepare_dataset", {"dataset": name}) for name in names),
        *(("split_dataset", {"dataset": name}) for name in split),
    ]
