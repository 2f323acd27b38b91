"""What is measured on pools: fidelity, memorisation, labels and masks, snapshots; does fidelity predict usefulness?"""

from collections.abc import Mapping
from typing import Any

from synthgain.pools.options import Sampling
from synthgain.pools.passes import evaluations
from synthgain.registry import FAMILIES, MASK_CHECKS, NETWORKS, SPACES, TASKS
from synthgain.study.planner import Planner
from synthgain.study.roles import baseline_of, main_endpoint, reference_dataset, root_pool
from synthgain.study.schema import Study
from synthgain.study.stage import DRAWING, TORCH, Draft, Slice, Stage, one_gpu
from synthgain.study.stages.data import whole_datasets
from synthgain.study.stages.downstream import network_entry
from synthgain.study.stages.generators import GRID_STEPS, snapshots_of
from synthgain.study.stages.measured import (
    compared_snapshots,
    fidelity_draws,
    gated_draws,
    measured_pools,
    real_cell,
    related_models,
    scored_draws,
    segmented,
)
from synthgain.study.stages.pools import replicas_of
from synthgain.study.work import Term, drawn, first_model, passes, space_kind, term

MEMBERSHIP_DRAWS = 4  # noise draws per image and level: the loss of one draw is mostly noise
MEMBERSHIP_IMAGES = 500  # a side
# EfficientNet-Lite0 was trained at 224 px; enlarging small films that far costs four times as much and adds nothing.
SMALL_IMAGE, SMALL_INPUT, FULL_INPUT = 64, 128, 224
CANDIDATE_PAIRS = 12  # likeliest copies shown side by side
MEMBERSHIP_LEVELS = 4  # noise levels of evaluation/membership.py
FIDELITY_CAP = 2000  # images a side where the config sets none (measure_fidelity.py)


def measure_fidelity(plan: Planner, pool: str, index: Any) -> Draft:
    fidelity = plan.study.evaluation.fidelity
    assert fidelity is not None, pool
    rows = reference_dataset(plan.study, pool)
    spaces, trained, modules = _spaces(plan, list(fidelity.spaces), rows, int(index))
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
        {
            "replicas": replicas_of(plan, pool, index)[:1],
            **whole_datasets(plan.study, [rows]),
            "trainings": trained,
        },
        tuple(modules),
    )


def check_memorisation(plan: Planner, pool: str, index: Any) -> Draft:
    gate = plan.study.evaluation.memorisation
    assert gate is not None, pool
    config = root_pool(plan.study, pool)
    rows = reference_dataset(plan.study, pool)
    spaces, trained, modules = _spaces(plan, [gate.space] if gate.space else [], rows, int(index))
    generators: list[dict[str, Any]] = []
    train_on, generator = [rows], None
    if config.from_ is not None:
        which = int(index) % plan.study.replicates.generators
        steps = snapshots_of(plan, config.from_)
        generator = {"name": config.from_, "index": which, "snapshot": config.snapshot or steps[-1]}
        generators = [{"generator": config.from_, "index": which}]
        modules.append(FAMILIES[plan.study.generators[config.from_].family])
        train_on = _seen_by(plan, config.from_)
    imported = config.imported is not None
    evaluated = list(plan.study.evaluate_on) if imported else []
    membership = {"images": MEMBERSHIP_IMAGES, "draws": MEMBERSHIP_DRAWS} if gate.membership else None
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
        {
            "replicas": replicas_of(plan, pool, index),
            **whole_datasets(plan.study, [*train_on, *evaluated]),
            "generators": generators,
            "trainings": trained,
        },
        tuple(modules),
    )


def score_pool(plan: Planner, pool: str, index: Any) -> Draft:
    rows = reference_dataset(plan.study, pool)
    name = next(iter(plan.study.models))
    model = plan.study.models[name]
    trained = real_cell(plan, rows, int(index))
    assert trained is not None, f"no plain arm trains on {rows}"
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
            "trained": _cell_key(trained),
            "replicate": int(index),
            "by": plan.study.analysis.subgroups,
            "minimum": plan.study.analysis.minimum.positives,
            "seed": plan.seed,
        },
        {
            "replicas": replicas_of(plan, pool, index),
            **whole_datasets(plan.study, [rows]),
            "trainings": [trained],
        },
        tuple(modules),
    )


def evaluate_snapshots(plan: Planner, generator: str, index: Any) -> Draft:
    config = plan.study.generators[generator]
    train_on = list(config.train_on.datasets)
    spaces, _, modules = _spaces(plan, ["efficientnet_lite0"], train_on[0], int(index))
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
        {
            "generators": [{"generator": generator, "index": index}],
            **whole_datasets(plan.study, train_on),
        },
        (*modules, FAMILIES[config.family]),
    )


def relate_fidelity(plan: Planner, model: str) -> Draft:
    main = main_endpoint(plan.study, model)
    endpoint = {"test_set": main.test_set, "label": main.labels, "metric": main.metric}
    arms = [
        {"name": name, "baseline": baseline_of(plan.study, name), "pool": arm.synthetic, "indices": plan.pool_draws()}
        for name, arm in plan.study.arms.items()
        if arm.synthetic in measured_pools(plan) and arm.real is not None  # gains over the same real images
    ]
    pools = dict.fromkeys(str(arm["pool"]) for arm in arms)
    return Draft(
        {"model": model, "arms": arms, **endpoint, "seed": plan.seed},
        {
            "statistics": [{"model": model}],
            "fidelity": [{"pool": p, "index": i} for p in pools for i in range(plan.pool_draws())],
        },
    )


def _spaces(
    plan: Planner, names: list[str], rows: str, index: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Return feature spaces as slice entries, the trainings that they read and their modules.

    `downstream` needs a plain arm.
    """
    spaces: list[dict[str, Any]] = []
    read: list[dict[str, Any]] = []
    modules = []
    trained = real_cell(plan, rows, index)
    for name in names:
        if name == "downstream":
            if trained is None:
                continue
            network = network_entry(plan.study.models[trained["model"]])
            read.append(trained)
            modules.append(NETWORKS[network["module"]])
            entry = {"options": {"network": network}, "trained": _cell_key(trained), "replicate": index}
        elif name == "inception":
            fidelity = plan.study.evaluation.fidelity
            entry = {"options": {}, "weights": fidelity.inception_weights if fidelity else None}
        else:
            entry = {"options": {"size": SMALL_INPUT if plan.study.image.size <= SMALL_IMAGE else FULL_INPUT}}
        spaces.append({"name": name, "module": name, **entry})
        modules.append(SPACES[name])
    return spaces, read, modules


def _cell_key(cell: Mapping[str, Any]) -> list[str | int]:
    """Return a downstream training as `job.inputs.trainings` finds it."""
    return [cell[name] for name in ("model", "arm", "ratio", "chunk")]


def _seen_by(plan: Planner, generator: str) -> list[str]:
    """Return the data sets that a generator saw, pretraining included."""
    seen: list[str] = []
    here: str | None = generator
    while here is not None:
        config = plan.study.generators[here]
        seen += config.train_on.datasets
        here = config.init_from
    return list(dict.fromkeys(seen))


def _fidelity_kinds(study: Study, job: Slice) -> dict[str, Any]:
    return {"spaces_kinds": {space["name"]: space_kind(study, space["name"]) for space in job["spaces"]}}


def _pool_kinds(study: Study, job: Slice) -> dict[str, Any]:
    space, pool = job.get("space"), job["pool"]
    return {
        **drawn(study, pool),
        "rows_of": reference_dataset(study, pool),
        "replicas": root_pool(study, pool).replicas,
        "space_kind": space_kind(study, space["name"]) if space else None,
        "kind": first_model(study),
    }


def _snapshot_kinds(study: Study, job: Slice) -> dict[str, str]:
    return {"space_kind": space_kind(study, job["space"]["name"])}


def _fidelity_images(job: Slice) -> list[Term]:
    """Images of three sides through every feature space."""
    rows, most = job["rows_of"], job["n"] or FIDELITY_CAP
    sides = [{f"{rows}/train": 1.0}, {f"{rows}/train": 1.0}, {f"{rows}/validation": 1.0, f"{rows}/test": 1.0}]
    return [term(job["spaces_kinds"][name], "image", 1, side, most) for name in job["spaces_kinds"] for side in sides]


def _searched_images(job: Slice) -> list[Term]:
    """Features of the pool and of the real images, and the denoising losses of membership inference."""
    terms = [term(job["space_kind"], "image", 1, _pool_and_real(job))] if job["space_kind"] else []
    if job["membership"] and job["draws"] is not None and job["denoises"][job["draws"]]:
        each, most = MEMBERSHIP_LEVELS * job["membership"]["draws"], job["membership"]["images"]
        members = {f"{name}/train": 1.0 for name in job["train_on"]}
        others = {f"{name}/{part}": 1.0 for name in job["train_on"] for part in ("validation", "test")}
        terms += [passes(job["draws"], each, side, most) for side in (members, others)]
    return terms


def _scored_images(job: Slice) -> list[Term]:
    """The pool's and the real images through the real-only model."""
    return [term(job["kind"], "image", 1, _pool_and_real(job))]


def _snapshot_images(job: Slice) -> list[Term]:
    """Images drawn from every snapshot, and their features."""
    count, rows = len(job["snapshots"]), {f"{name}/train": 1.0 for name in job["train_on"]}
    images = passes(job["generator"], count * evaluations(Sampling.from_slice(job["sampling"])), rows, job["n"])
    return [images, term(job["space_kind"], "image", count, rows, job["n"])]


def _pool_and_real(job: Slice) -> dict[str, float]:
    seen: dict[str, float] = {f"{job['rows_of']}/train": float(job["replicas"])}
    for name in job.get("train_on") or [job["rows_of"]]:
        for part in ("train", "validation", "test"):
            seen[f"{name}/{part}"] = seen.get(f"{name}/{part}", 0.0) + 1.0
    return seen


_POOL_AND_REAL = {"replicas": "merge_pool_replica", "datasets": "prepare_dataset", "splits": "split_dataset"}

STAGES = (
    Stage(
        "measure_fidelity",
        "Measuring fidelity",
        "fidelity/{pool}/{index}/manifest.json",
        measure_fidelity,
        {**_POOL_AND_REAL, "trainings": "train_downstream"},
        gpus=one_gpu,
        loads=TORCH,
        kinds=_fidelity_kinds,
        work=_fidelity_images,
        shown=fidelity_draws,
    ),
    Stage(
        "check_memorisation",
        "Looking for copies",
        "memorisation/{pool}/{index}/manifest.json",
        check_memorisation,
        {**_POOL_AND_REAL, "generators": "train_generator", "trainings": "train_downstream"},
        gpus=one_gpu,
        loads=DRAWING,
        kinds=_pool_kinds,
        work=_searched_images,
        shown=gated_draws,
    ),
    Stage(
        "score_pool",
        "Scoring pools",
        "label_consistency/{pool}/{index}/manifest.json",
        score_pool,
        {**_POOL_AND_REAL, "trainings": "train_downstream"},
        gpus=one_gpu,
        loads=TORCH,
        kinds=_pool_kinds,
        work=_scored_images,
        shown=scored_draws,
    ),
    Stage(
        "evaluate_snapshots",
        "Measuring snapshots",
        "snapshots/{generator}/{index}/manifest.json",
        evaluate_snapshots,
        {"generators": "train_generator", "datasets": "prepare_dataset", "splits": "split_dataset"},
        gpus=one_gpu,
        loads=DRAWING,
        kinds=_snapshot_kinds,
        work=_snapshot_images,
        shown=compared_snapshots,
    ),
    Stage(
        "relate_fidelity",
        "Relating fidelity to usefulness",
        "fidelity_utility/{look}{model}/manifest.json",
        relate_fidelity,
        {"statistics": "compare_arms", "fidelity": "measure_fidelity"},
        shown=related_models,
    ),
)
