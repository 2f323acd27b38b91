"""The forecast: which kinds of work are measured, and how much of each the study's jobs are."""

from collections.abc import Mapping
from typing import Any

from synthgain.registry import FAMILIES, FAMILY_TRAINING, NETWORKS, SPACES, SPEED, TASKS
from synthgain.study.generation import family_of
from synthgain.study.planner import Planner
from synthgain.study.stage import NUMBERS, TABLES, Draft, PlannedJob, Stage, Wildcards, one_gpu
from synthgain.study.stages.data import used_datasets
from synthgain.study.stages.measured import measured_pools
from synthgain.study.stages.report import shown
from synthgain.study.work import SAMPLING_SPEED, joined, model_kind, samplers, size_of

MEASURED_SPACES = ("efficientnet_lite0",)  # the others need weights of the user's or of the study itself
MEASURING = {"learn": "downstream", "train": "generators", "sample": "generators", "extract": "features"}
# What the speed of a training and a model depends on. All are measured uncompiled: compiling takes minutes.
TRAINING_SPEED = SAMPLING_SPEED
MODEL_SPEED = (
    "task", "task_module", "targets", "structures", "network", "batch_size", "window", "precision",
)  # fmt: skip
Kind = dict[str, Any]


def measure_speed(plan: Planner) -> Draft:
    kinds, modules = measured_kinds(plan)
    return Draft({"kinds": kinds, "image": _image(plan)}, modules=tuple(modules))


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
    return Draft(facts, {"speed": [{}]})


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
    for label, (name, sampling) in samplers(plan.study).items():
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

    Each {rule, name, arm (if any), gpu: whether its jobs compute on one, loads: the libraries that they load first,
    jobs, work and disk: terms of all jobs, longest: share of the longest job, after: numbers of the groups that it
    waits for, outputs: {path: identity}, sizes: of each job, in no unit}.
    """
    wanted = [plan.job(rule, **place).output for rule, places in shown(plan).items() for place in places]
    groups: list[dict[str, Any]] = []
    more: list[Mapping[str, Any]] = []  # what counting needs of each group beyond its jobs' slices
    place: dict[Any, int] = {}  # of a group by rule and name, and of an output's group
    for job in closure(wanted, {job.output: job for job in plan.jobs()}):
        stage, name = plan.stages[job.rule], _name(job)
        own = place.setdefault((job.rule, name), len(groups))
        if own == len(groups):
            groups.append(_empty(plan, stage, name, job.place))
            more.append(stage.kinds(plan.study, job.slice) if stage.kinds is not None else {})
        place[job.output] = own
        group, facts = groups[own], {**job.slice, **more[own]}
        terms = stage.work(facts) if stage.work is not None else []
        group["jobs"] += 1
        group["work"] += terms
        group["disk"] += stage.disk(facts) if stage.disk is not None else []
        group["sizes"].append(size_of(terms))
        group["after"] |= {place[path] for path in job.inputs} - {own}
        group["outputs"][job.output] = job.identity
    report = _empty(plan, plan.stages["write_report"], "", {})
    groups.append(report | {"jobs": 1, "sizes": [0.0], "after": set(range(len(groups)))})
    for group in groups:
        total = sum(group["sizes"])
        group["longest"] = round(max(group["sizes"]) / total, 6) if total else 1 / group["jobs"]
        group.update(work=joined(group["work"]), disk=joined(group["disk"]), after=sorted(group["after"]))
    return groups


def _empty(plan: Planner, stage: Stage, name: str, place: Wildcards) -> dict[str, Any]:
    gpu = stage.gpus(plan.study, place) > 0
    arm = {"arm": place["arm"]} if "arm" in place else {}
    facts = {"rule": stage.name, "name": name, **arm, "gpu": gpu, "loads": stage.loads if gpu else TABLES}
    return {**facts, "jobs": 0, "after": set(), "outputs": {}, "work": [], "disk": [], "sizes": []}


def _name(job: PlannedJob) -> str:
    """Return what a job's group is called within its rule: the entries of the config that its wildcards name."""
    return " ".join(str(value) for key, value in job.place.items() if key not in NUMBERS)


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


def _size(plan: Planner, name: str) -> dict[str, Any]:
    """What tells how many images a data set has: its manifests once it is read, before that the config or its table."""
    config = plan.study.datasets[name]
    read = plan.job("prepare_dataset", dataset=name)
    facts: dict[str, Any] = {"manifest": read.output, "identity": read.identity}
    if config.split is not None:
        split, divided = config.split, plan.job("split_dataset", dataset=name)
        facts |= {"split_manifest": divided.output, "split_identity": divided.identity}
        facts["shares"] = {part: getattr(split, part) for part in ("train", "validation", "test")}
        if split.column is not None:
            facts["column"] = {"name": split.column, "map": split.map}
            if split.validation:
                facts["column"]["validation"] = split.validation
    return facts | config.counted(plan.root)


def planned_outputs(plan: Planner) -> list[dict[str, str]]:
    """Return the outputs {path: identity} of each group of `work_groups`."""
    report = plan.job("write_report")
    return [*(group["outputs"] for group in work_groups(plan)[:-1]), {report.output: report.identity}]


def closure(first: list[str], jobs: Mapping[str, PlannedJob]) -> list[PlannedJob]:
    """Return the jobs behind the outputs `first`, inputs before what needs them."""
    order: dict[str, PlannedJob] = {}
    pending = [(path, False) for path in reversed(first)]
    while pending:
        path, ready = pending.pop()
        if path in order:
            continue
        if ready:
            order[path] = jobs[path]
            continue
        pending.append((path, True))
        pending += [(name, False) for name in reversed(list(jobs[path].inputs)) if name not in order]
    return list(order.values())


STAGES = (
    Stage(
        "measure_speed",
        "Measuring speeds",
        "forecast/speed.json",
        measure_speed,
        gpus=one_gpu,
    ),
    Stage(
        "forecast_cost",
        "Forecasting the cost",
        "forecast/forecast.json",
        forecast_cost,
        {"speed": "measure_speed"},
    ),
)
