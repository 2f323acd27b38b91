"""What is measured on pools: fidelity, memorisation, labels and masks, snapshots; does fidelity predict usefulness?"""

from synthgain.pools.options import Sampling
from synthgain.pools.passes import evaluations
from synthgain.registry import FAMILIES, MASK_CHECKS, NETWORKS, SPACES, TASKS
from synthgain.speed.documents import Term
from synthgain.study.planner import Planner
from synthgain.study.roles import base_pool, baseline_of, judging, main_endpoint, reference_dataset, root_pool
from synthgain.study.stage import DRAWING, TORCH, Draft, Stage, Wildcard, Wildcards, one_gpu
from synthgain.study.stages.data import whole_datasets
from synthgain.study.stages.downstream import network_entry
from synthgain.study.stages.generators import GRID_SAMPLING, snapshots_of
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
from synthgain.study.stages.pools import replicas_of, weights_of
from synthgain.study.stages.weights import SpaceEntry, inception_space, torchscript_spaces
from synthgain.study.work import decoded, drawn, encoded, first_model, input_size, passes, space_kind

MEMBERSHIP_DRAWS = 4  # noise draws per image and level: the loss of one draw is mostly noise
MEMBERSHIP_IMAGES = 500  # a side
CANDIDATE_PAIRS = 12  # likeliest copies shown side by side
MEMBERSHIP_LEVELS = 4  # noise levels of evaluation/membership.py
PARTS = ("train", "validation", "test")
SNAPSHOT_SPACE = "efficientnet_lite0"
FIDELITY_CAP = 2000  # images a side where the config sets none (measure_fidelity.py)


def measure_fidelity(plan: Planner, pool: str, index: Wildcard) -> Draft:
    fidelity = plan.study.evaluation.fidelity
    assert fidelity is not None, pool
    rows = reference_dataset(plan.study, pool)
    spaces, trained, modules = _spaces(plan, judging(plan.study, pool, fidelity.spaces), rows, int(index))
    own = torchscript_spaces(fidelity)
    spaces, modules = [*spaces, *own], [*modules, *[SPACES["torchscript"]] * len(own)]
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


def check_memorisation(plan: Planner, pool: str, index: Wildcard) -> Draft:
    gate = plan.study.evaluation.memorisation
    assert gate is not None, pool
    config = root_pool(plan.study, pool)
    rows = reference_dataset(plan.study, pool)
    spaces, trained, modules = _spaces(plan, judging(plan.study, pool, gate.spaces), rows, int(index))
    generators: list[Wildcards] = []
    generator: dict[str, object] | None = None
    clusters: dict[str, object] | None = None
    if config.from_ is not None:
        which = int(index) % plan.study.replicates.generators
        seen = plan.study.generators[config.from_].train_on
        if seen.per is not None:
            clusters = {"name": seen.per, "only": None}
        else:
            clusters = None if seen.cluster is None else {"name": seen.cluster[0], "only": seen.cluster[1]}
            weights = weights_of(plan, base_pool(plan.study, pool), config)
            generator = {"name": config.from_, "index": which, **weights}
            generators = [{"generator": config.from_, "index": which}]
            modules.append(FAMILIES[plan.study.generators[config.from_].family])
    through = _autoencoder(plan, config.from_)
    train_on = _searched(plan, pool)
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
            **({} if clusters is None else {"clusters": clusters}),
            **({} if through is None else {"autoencoder": through}),
            "seed": plan.seed,
        },
        {
            "replicas": replicas_of(plan, pool, index),
            **whole_datasets(plan.study, [*train_on, *evaluated]),
            "autoencoders": [] if through is None else [{"autoencoder": str(through["name"])}],
            "generators": generators,
            "trainings": trained,
            "clusters": [] if clusters is None else [{"clusters": str(clusters["name"])}],
        },
        tuple(modules),
    )


def score_pool(plan: Planner, pool: str, index: Wildcard) -> Draft:
    rows = reference_dataset(plan.study, pool)
    name = next(iter(plan.study.models))
    model = plan.study.models[name]
    trained = real_cell(plan, rows, int(index))
    assert trained is not None, f"no plain arm trains on {rows}"
    network = network_entry(model)
    entry: dict[str, object] = {"name": name, "targets": model.targets, "network": network}
    check, modules = {}, [NETWORKS[network["module"]]]
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


def evaluate_snapshots(plan: Planner, generator: str, index: Wildcard) -> Draft:
    config = plan.study.generators[generator]
    train_on = list(config.train_on.datasets)
    spaces, _, modules = _spaces(plan, [SNAPSHOT_SPACE], train_on[0], int(index))
    return Draft(
        {
            "generator": generator,
            "index": int(index),
            "snapshots": snapshots_of(plan, generator),
            "train_on": train_on,
            "n": plan.study.evaluation.snapshot_images,
            **({} if config.autoencoder_name is None else {"autoencoder": config.autoencoder_name}),
            "space": spaces[0],
            "sampling": GRID_SAMPLING,
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
) -> tuple[list[SpaceEntry], list[Wildcards], list[str]]:
    """Return feature spaces as slice entries, the trainings that they read and their modules.

    `downstream` needs a plain arm.
    """
    spaces: list[SpaceEntry] = []
    read: list[Wildcards] = []
    modules = []
    trained = real_cell(plan, rows, index)
    for name in names:
        entry: SpaceEntry = {"name": name, "module": name, "options": {}}
        if name == "downstream":
            if trained is None:
                continue
            network = network_entry(plan.study.models[str(trained["model"])])
            read.append(trained)
            modules.append(NETWORKS[network["module"]])
            entry["options"] = {"network": network}
            entry["trained"], entry["replicate"] = _cell_key(trained), index
        elif name == "inception":
            fidelity = plan.study.evaluation.fidelity
            entry = inception_space(fidelity) if fidelity else entry
        else:
            entry["options"] = {"size": input_size(plan.study)}
        spaces.append(entry)
        modules.append(SPACES[name])
    return spaces, read, modules


def _cell_key(cell: Wildcards) -> list[str | int]:
    """Return a downstream training as `job.inputs.trainings` finds it."""
    return [cell[name] for name in ("model", "arm", "ratio", "chunk")]


def _autoencoder(plan: Planner, generator: str | None) -> dict[str, object] | None:
    """Return the autoencoder that a pool's images went through, as its slice says it; None for one of pixels."""
    name = None if generator is None else plan.study.generators[generator].autoencoder_name
    return None if name is None else {"name": name, "structures": plan.study.autoencoders[name].structures}


def _searched(plan: Planner, pool: str) -> list[str]:
    """Return the data sets in which copies are looked for: those that the generator saw, pretraining included."""
    here = root_pool(plan.study, pool).from_
    if here is None:
        return [reference_dataset(plan.study, pool)]
    seen: list[str] = []
    while here is not None:
        config = plan.study.generators[here]
        seen += config.train_on.datasets
        here = config.init_from
    return list(dict.fromkeys(seen))


def _fidelity_images(plan: Planner, pool: str, index: Wildcard) -> list[Term]:
    """Images of three sides through every feature space."""
    fidelity = plan.study.evaluation.fidelity
    assert fidelity is not None, pool
    rows, most = reference_dataset(plan.study, pool), fidelity.images or FIDELITY_CAP
    judges = judging(plan.study, pool, fidelity.spaces)
    names = [space["name"] for space in _spaces(plan, judges, rows, int(index))[0]]
    sides = [{f"{rows}/train": 1.0}, {f"{rows}/train": 1.0}, {f"{rows}/validation": 1.0, f"{rows}/test": 1.0}]
    return [
        Term(kind=space_kind(plan.study, name), unit="image", amount=1, images=side, at_most=most)
        for name in [*names, *fidelity.torchscript]
        for side in sides
    ]


def _searched_images(plan: Planner, pool: str, index: Wildcard) -> list[Term]:
    """Features of the pool and of the real images, and the denoising losses of membership inference."""
    gate, by, real = plan.study.evaluation.memorisation, drawn(plan, pool), _searched(plan, pool)
    assert gate is not None, pool
    names = judging(plan.study, pool, gate.spaces)
    spaces, *_ = _spaces(plan, names, reference_dataset(plan.study, pool), int(index))
    terms = [_looked_at(plan, space_kind(plan.study, space["name"]), pool, real) for space in spaces]
    members = {f"{name}/train": 1.0 for name in real}
    others = {f"{name}/{part}": 1.0 for name in real for part in ("validation", "test")}
    if gate.membership and by.images is not None and by.denoises:
        each = MEMBERSHIP_LEVELS * MEMBERSHIP_DRAWS
        terms += [passes(by.images, each, side, MEMBERSHIP_IMAGES) for side in (members, others)]
    through = _autoencoder(plan, root_pool(plan.study, pool).from_)
    if through is not None:  # real images, reconstructed; those of membership, encoded
        name = str(through["name"])
        terms += [encoded(name, members | others), decoded(name, 1, members | others)]
        if gate.membership and by.images is not None:
            terms += [encoded(name, side, 1, MEMBERSHIP_IMAGES) for side in (members, others)]
    return terms


def _scored_images(plan: Planner, pool: str, index: Wildcard) -> list[Term]:
    """The pool's and the real images through the real-only model."""
    return [_looked_at(plan, first_model(plan.study), pool, [reference_dataset(plan.study, pool)])]


def _snapshot_images(plan: Planner, generator: str, index: Wildcard) -> list[Term]:
    """Images drawn from every snapshot, and their features."""
    count, most = len(snapshots_of(plan, generator)), plan.study.evaluation.snapshot_images
    rows = {f"{name}/train": 1.0 for name in plan.study.generators[generator].train_on.datasets}
    images = passes(generator, count * evaluations(Sampling.from_slice(GRID_SAMPLING)), rows, most)
    kind = space_kind(plan.study, SNAPSHOT_SPACE)
    features = Term(kind=kind, unit="image", amount=count, images=rows, at_most=most)
    through = plan.study.generators[generator].autoencoder_name
    if through is None:
        return [images, features]
    real = {f"{place}/{part}": 1.0 for place in plan.study.generators[generator].train_on.datasets for part in PARTS}
    again = [encoded(through, real), decoded(through, 1, real), decoded(through, count, rows, most)]
    return [images, features, *again]


def _looked_at(plan: Planner, kind: str, pool: str, real: list[str]) -> Term:
    """All images of a pool and of real data sets, once through a network."""
    rows, replicas = reference_dataset(plan.study, pool), root_pool(plan.study, pool).replicas
    seen = {f"{rows}/train": float(replicas)}
    for name in real:
        for part in PARTS:
            seen[f"{name}/{part}"] = seen.get(f"{name}/{part}", 0.0) + 1.0
    return Term(kind=kind, unit="image", amount=1, images=seen)


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
        work=_fidelity_images,
        shown=fidelity_draws,
    ),
    Stage(
        "check_memorisation",
        "Looking for copies",
        "memorisation/{pool}/{index}/manifest.json",
        check_memorisation,
        {
            **_POOL_AND_REAL,
            "generators": "train_generator",
            "autoencoders": "train_autoencoder",
            "trainings": "train_downstream",
            "clusters": "cluster_images",
        },
        gpus=one_gpu,
        loads=DRAWING,
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
