"""Plans of the forecast: which kinds of work are measured, and how much of each the study's jobs are."""

from typing import Any

from synthgain.registry import FAMILIES, FAMILY_TRAINING, NETWORKS, SPACES, SPEED, TASKS
from synthgain.study.check_masks import structures_of
from synthgain.study.forecast import WORK, closure, disk_of, joined, size_of
from synthgain.study.generation import family_of
from synthgain.study.plan_data import GRID_COLUMNS, used_datasets
from synthgain.study.plan_evaluation import measured_pools, reference_dataset
from synthgain.study.plan_report import report_inputs
from synthgain.study.planner import Draft, PlannedJob, Planner, plans
from synthgain.study.roles import root_pool, source_dataset

MEASURED_SPACES = ("efficientnet_lite0",)  # the others need weights of the user's or of the study itself
MEASURING = {"learn": "downstream", "train": "generators", "sample": "generators", "extract": "features"}
# What the speed of a training, a sampler and a model depends on. All are measured uncompiled: compiling takes minutes.
TRAINING_SPEED = SAMPLING_SPEED = ("batch_size", "precision")
MODEL_SPEED = (
    "task", "task_module", "targets", "structures", "network", "batch_size", "window", "precision",
)  # fmt: skip
Kind = dict[str, Any]


@plans
def measure_speed(plan: Planner) -> Draft:
    kinds, modules = measured_kinds(plan)
    return Draft({"kinds": kinds, "image": _image(plan)}, (), tuple(modules))


@plans
def forecast_cost(plan: Planner) -> Draft:
    groups = [
        {key: value for key, value in group.items() if key not in ("outputs", "sizes")} for group in work_groups(plan)
    ]
    facts = {
        "study": plan.study.study,
        "runs": len(plan.study.study_seeds or [plan.seed]),
        "groups": groups,
        "datasets": {name: _size(plan, name) for name in used_datasets(plan)},
    }
    return Draft(facts, (("measure_speed", {}),))


def measured_kinds(plan: Planner) -> tuple[dict[str, Kind], list[str]]:
    """Return {name: what to measure} and the modules that this loads. Equal kinds are measured once."""
    study = plan.study
    kinds: dict[str, Kind] = {}
    modules: list[str] = []
    for name, arm in ((m, a) for m in study.models for a in study.arms.values()):
        kinds.setdefault(model_kind(name, arm.augmentation), _model(plan, name, arm.augmentation))
    for name, generator in study.generators.items():
        kinds[f"generator {name}"] = _generator(plan, name)
        modules += [FAMILY_TRAINING[generator.family], FAMILIES[generator.family]]
    for label, (name, sampling) in _samplers(plan).items():
        kinds[f"sampling {label}"] = {"do": "sample", "generator": _generator(plan, name), "sampling": sampling}
    for space in _measured_spaces(plan):
        kinds[f"features {space['name']}"] = {"do": "extract", "space": space}
        modules.append(SPACES[space["module"]])
    for kind in kinds.values():
        modules.append(SPEED[MEASURING[kind["do"]]])
        network = kind.get("model", kind)
        modules += [NETWORKS[network["network"]["module"]]] if "network" in network else []
        modules += [TASKS[network["task_module"]]] if "task_module" in network else []
    return kinds, sorted(set(modules))


def work_groups(plan: Planner) -> list[dict[str, Any]]:
    """Return the study's jobs in groups of one rule and name, in an order in which inputs come first.

    Each {rule, name, arm (if any), jobs, work and disk: terms of all jobs, longest: share of the longest job, after:
    numbers of the groups that it waits for, outputs: {path: identity}, sizes: of each job, in no unit}.
    """
    wanted = [plan.job(rule, **wildcards).output for rule, wildcards in report_inputs(plan)]
    groups: list[dict[str, Any]] = []
    more: list[dict[str, Any]] = []  # what counting needs of each group beyond its jobs' slices
    place: dict[Any, int] = {}  # of a group by rule and name, and of an output's group
    for job in closure(wanted, {job.output: job for job in plan.jobs()}):
        name, arm = _named(job)
        own = place.setdefault((job.rule, name), len(groups))
        if own == len(groups):
            groups.append(_empty(job.rule, name) | ({"arm": arm} if arm else {}))
            more.append(_more(plan, job))
        place[job.output] = own
        group, facts = groups[own], {**job.slice, **more[own]}
        terms = WORK[job.rule](facts) if job.rule in WORK else []
        group["jobs"] += 1
        group["work"] += terms
        group["disk"] += disk_of(job.rule, facts, _image(plan))
        group["sizes"].append(size_of(terms))
        group["after"] |= {place[path] for path in job.inputs} - {own}
        group["outputs"][job.output] = job.identity
    groups.append(_empty("write_report", "") | {"jobs": 1, "sizes": [0.0], "after": set(range(len(groups)))})
    for group in groups:
        total = sum(group["sizes"])
        group["longest"] = round(max(group["sizes"]) / total, 6) if total else 1 / group["jobs"]
        group.update(work=joined(group["work"]), disk=joined(group["disk"]), after=sorted(group["after"]))
    return groups


def _empty(rule: str, name: str) -> dict[str, Any]:
    lists: dict[str, Any] = {"work": [], "disk": [], "sizes": []}
    return {"rule": rule, "name": name, "jobs": 0, "after": set(), "outputs": {}, **lists}


def _more(plan: Planner, job: PlannedJob) -> dict[str, Any]:
    """Return what counting needs of a group beyond its jobs' slices: kinds of work, families, planes of masks."""
    study, facts = plan.study, job.slice
    if job.rule == "prepare_dataset":
        return {"planes": len(structures_of(study, facts["dataset"]) or ())}
    if job.rule in ("train_generator", "draw_sample_grid"):
        family = family_of(study.generators[facts["generator"]])
        return {"step_passes": family.step_passes, "denoises": family.denoises}
    if job.rule == "draw_pool_shard":
        return _drawn(plan, facts["pool"])
    if job.rule == "predict_downstream":
        return {"kind": model_kind(facts["model"]["name"], study.arms[facts["arm"]].augmentation)}
    if job.rule in ("check_memorisation", "score_pool"):
        space = facts.get("space")
        drawn = _drawn(plan, facts["pool"]) | {"rows_of": reference_dataset(plan, facts["pool"])}
        kind = _space_kind(plan, space["name"]) if space else None
        replicas = root_pool(study, facts["pool"]).replicas
        return {**drawn, "replicas": replicas, "space_kind": kind, "kind": _first_model(plan)}
    if job.rule == "measure_fidelity":
        return {"spaces_kinds": {space["name"]: _space_kind(plan, space["name"]) for space in facts["spaces"]}}
    if job.rule == "evaluate_snapshots":
        return {"space_kind": _space_kind(plan, facts["space"]["name"])}
    return {}


def model_kind(model: str, augmentation: str) -> str:
    """Return how the work of a model with a recipe of augmentation is called."""
    return f"model {model}, {augmentation} augmentation"


def _named(job: PlannedJob) -> tuple[str, str]:
    """Return what a job's group is called within its rule, and the arm that it belongs to, if any."""
    facts = job.slice
    if job.rule in ("train_downstream", "predict_downstream", "collect_predictions"):
        model, arm = facts["model"], facts["arm"]
        names = [entry["name"] if isinstance(entry, dict) else entry for entry in (model, arm)]
        return " ".join(names), names[1]
    for key in ("pool", "generator", "dataset", "model"):
        if isinstance(facts.get(key), str):
            return facts[key], ""
    return "", ""


def _image(plan: Planner) -> dict[str, int]:
    return {"size": plan.study.image.size, "channels": plan.study.image.channels}


def _generator(plan: Planner, name: str) -> Kind:
    """What a step of a generator's training depends on; beside a frozen network also that network."""
    job = plan.job("train_generator", generator=name, index=0).slice
    config = plan.study.generators[name]
    family = family_of(config)
    kept = ("module", "network", "output", "structures", "condition_on", *family.facts(config))
    kind: Kind = {"do": "train", "training_module": config.family, **{key: job[key] for key in kept}}
    kind["training"] = {key: job["training"][key] for key in TRAINING_SPEED}
    if family.built_on(config) and config.init_from is not None:
        kind["start"] = _generator(plan, config.init_from)
    return kind


def _samplers(plan: Planner) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return {label: (generator, sampling)}: every generator as its first pool draws it, and where others differ."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for pool in plan.study.pools.values():
        for name in (pool.from_, pool.masks.from_ if pool.masks else None):
            if name is not None:
                chosen = {key: getattr(pool.sampling, key) for key in SAMPLING_SPEED}
                found.setdefault(_sampler(found, name, chosen), (name, chosen))
    for name in plan.study.generators:
        found.setdefault(name, (name, {"batch_size": GRID_COLUMNS, "precision": "float32"}))
    return found


def _sampler(known: dict[str, tuple[str, dict[str, Any]]], generator: str, sampling: dict[str, Any]) -> str:
    if generator not in known or known[generator][1] == sampling:
        return generator
    return f"{generator} " + " ".join(f"{key}={value}" for key, value in sampling.items())


def _model(plan: Planner, name: str, augmentation: str) -> Kind:
    arm = next(a for a, config in plan.study.arms.items() if config.augmentation == augmentation)
    model = plan.job("train_downstream", model=name, arm=arm, ratio=plan.ratios(arm)[0], chunk=0).slice["model"]
    kept = {key: model[key] for key in (*MODEL_SPEED, "augmentation") if key in model}
    return {"do": "learn", "model": kept, "augmentation": augmentation}


def _measured_spaces(plan: Planner) -> list[dict[str, Any]]:
    """Return the feature spaces of measured pools and snapshots that can be measured before there is a study."""
    found: dict[str, dict[str, Any]] = {}
    evaluation = plan.study.evaluation
    spaces = []
    for pool in measured_pools(plan):
        if evaluation.fidelity is not None:
            spaces += plan.job("measure_fidelity", pool=pool, index=0).slice["spaces"]
        if evaluation.memorisation is not None:
            spaces.append(plan.job("check_memorisation", pool=pool, index=0).slice["space"])
    if evaluation.snapshots:
        spaces += [plan.job("evaluate_snapshots", generator=g, index=0).slice["space"] for g in plan.study.generators]
    for space in spaces:
        if space is not None and space["name"] in MEASURED_SPACES:
            found.setdefault(space["name"], {key: space[key] for key in ("name", "module", "options")})
    return list(found.values())


def _space_kind(plan: Planner, name: str) -> str:
    return _first_model(plan) if name == "downstream" else f"features {name}"


def _first_model(plan: Planner) -> str:
    """The model and recipe of the plain real arm: what scores pools and gives features."""
    return model_kind(next(iter(plan.study.models)), "standard")


def _drawn(plan: Planner, pool: str) -> dict[str, Any]:
    """Which generators draw a pool, by the names of their sampling, and of which data set's rows."""
    study, config = plan.study, root_pool(plan.study, pool)
    known: dict[str, tuple[str, dict[str, Any]]] = _samplers(plan)
    chosen = {key: getattr(config.sampling, key) for key in SAMPLING_SPEED}
    names = {"draws": config.from_, "draws_masks": config.masks.from_ if config.masks else None}
    labels = {key: _sampler(known, name, chosen) if name is not None else None for key, name in names.items()}
    drawing = {label: family_of(study.generators[known[label][0]]) for label in labels.values() if label is not None}
    denoises = {label: family.denoises for label, family in drawing.items()}
    rows = source_dataset(study, pool)
    if config.from_ is not None:
        planes = len(study.generators[config.from_].structures)
    else:
        planes = len(structures_of(study, rows) or ()) if rows is not None else 0
    if study.pools[pool].of is not None:
        labels = dict.fromkeys(labels)  # its images are copied
    return {**labels, "denoises": denoises, "planes": planes, "rows_of": rows or f"pool {pool}"}


def _size(plan: Planner, name: str) -> dict[str, Any]:
    """What tells how many images a data set has: its manifests once it is read, before that the config or its table."""
    config = plan.study.datasets[name]
    facts: dict[str, Any] = {"identity": plan.job("prepare_dataset", dataset=name).identity}
    if config.split is not None:
        split = config.split
        facts["split_identity"] = plan.job("split_dataset", dataset=name).identity
        facts["shares"] = {part: getattr(split, part) for part in ("train", "validation", "test")}
        if split.column is not None:
            facts["column"] = {"name": split.column, "map": split.map}
            if split.validation:
                facts["column"]["validation"] = split.validation
    return facts | config.counted


def planned_outputs(plan: Planner) -> list[dict[str, str]]:
    """Return the outputs {path: identity} of each group of `work_groups`."""
    report = plan.job("write_report")
    return [*(group["outputs"] for group in work_groups(plan)[:-1]), {report.output: report.identity}]
