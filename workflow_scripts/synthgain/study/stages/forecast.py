"""The forecast: which kinds of work are measured, and how much of each the study's jobs are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from synthgain.registry import FAMILIES, FAMILY_TRAINING, NETWORKS, SPACES, SPEED, TASKS
from synthgain.speed.documents import (
    AutoencoderKind,
    Counted,
    Document,
    ExtractKind,
    LearnKind,
    ModelKind,
    SampleKind,
    SamplingKind,
    SpaceKind,
    Term,
    TrainKind,
)
from synthgain.study.generation import family_of
from synthgain.study.planner import Planner, look_folders
from synthgain.study.stage import NUMBERS, TABLES, Draft, PlannedJob, Stage, Wildcards, one_gpu
from synthgain.study.stages.data import size_facts, used_datasets
from synthgain.study.stages.downstream import model_slice
from synthgain.study.stages.evaluation import SNAPSHOT_SPACE
from synthgain.study.stages.generators import network_facts
from synthgain.study.stages.measured import measured_pools
from synthgain.study.stages.report import shown
from synthgain.study.work import FEW_IMAGES, autoencoder_kind, input_size, joined, model_kind, samplers, size_of

MEASURED_SPACES = ("efficientnet_lite0",)  # the others need weights of the user's or of the study itself
# Of the length of a usual prompt: what it says moves no speed.
A_PROMPT = "Chest radiograph, frontal view, of a woman of fifty: small effusion on the left, heart not enlarged."
# What the speed of a model depends on. All are measured uncompiled: compiling takes minutes.
MODEL_SPEED = (
    "task", "task_module", "targets", "structures", "network", "batch_size", "window", "precision", "augmentation",
)  # fmt: skip


def measure_speed(plan: Planner) -> Draft:
    kinds, modules = measured_kinds(plan)
    measured = {name: kind.json_values() for name, kind in kinds.items()}
    image = {"size": plan.study.image.size, "channels": plan.study.image.channels}
    return Draft({"kinds": measured, "image": image}, modules=tuple(modules))


def forecast_cost(plan: Planner) -> Draft:
    facts = {
        "study": plan.study.study,
        "runs": len(plan.study.study_seeds or [plan.seed]),
        "groups": [group.counted().json_values() for group in work_groups(plan)],
        "datasets": {name: size_facts(plan, name) for name in used_datasets(plan)},
    }
    return Draft({**facts, **_looks(plan)}, {"speed": [{}]})


def _looks(plan: Planner) -> dict[str, object]:
    """Return the work up to each planned look, and what says where a study ends; nothing for one look."""
    study = plan.study
    if study.replicates.looks is None:
        return {}
    groups = [work_groups(plan.at(look)) for look in look_folders(study)]
    assumed, first = study.analysis.assumed, next(iter(study.analysis.primaries), None)
    looks = [
        {"replicates": count, "groups": [group.counted().json_values() for group in found]}
        for count, found in zip(study.replicates.planned, groups, strict=True)
    ]
    facts = {"alpha": study.analysis.alpha, "test_set": first.test_set if first else study.evaluate_on[0]}
    return {"looks": looks, **facts, "assumed": assumed.model_dump() if assumed is not None else None}


def measured_kinds(plan: Planner) -> tuple[dict[str, Document], list[str]]:
    """Return {name: what to measure} and the modules that this loads. Equal kinds are measured once."""
    study = plan.study
    kinds: dict[str, Document] = {}
    modules: list[str] = []
    for name, model in study.models.items():
        for augmentation in dict.fromkeys(arm.augmentation for arm in study.arms.values()):
            kinds[model_kind(name, augmentation)] = _model(plan, name, augmentation)
        modules += [SPEED["downstream"], NETWORKS[model.chosen.module], TASKS[model.task]]
    for name in study.autoencoders:
        kinds[autoencoder_kind(name)] = _autoencoder(plan, name)
        modules.append(SPEED["autoencoders"])
    for name, generator in study.generators.items():
        kinds[f"generator {name}"] = _generator(plan, name)
        modules += [SPEED["generators"], FAMILY_TRAINING[generator.family], FAMILIES[generator.family]]
        modules.append(NETWORKS[generator.network.module])
    for label, (name, sampling) in samplers(study).items():
        kinds[f"sampling {label}"] = SampleKind(do="sample", generator=_generator(plan, name), sampling=sampling)
    for space in _measured_spaces(plan):
        kinds[f"features {space.name}"] = ExtractKind(do="extract", space=space)
        modules += [SPEED["features"], SPACES[space.module]]
    return kinds, sorted(set(modules))


@dataclass
class Group:
    """Jobs of one rule and name. sizes: of each job, in no unit; after: numbers of the groups that it waits for."""

    rule: str
    name: str
    arm: str | None
    gpu: bool
    loads: str
    work: list[Term] = field(default_factory=list)
    disk: list[Term] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    after: set[int] = field(default_factory=set)
    outputs: dict[str, str] = field(default_factory=dict)  # {path: identity}

    def counted(self) -> Counted:
        """Return what the forecast needs of it."""
        total, jobs = sum(self.sizes), len(self.sizes)
        return Counted(
            rule=self.rule,
            name=self.name,
            arm=self.arm,
            gpu=self.gpu,
            loads=self.loads,
            jobs=jobs,
            work=joined(self.work),
            disk=joined(self.disk),
            longest=round(max(self.sizes) / total, 6) if total else 1 / jobs,
            after=sorted(self.after),
        )


def work_groups(plan: Planner) -> list[Group]:
    """Return the study's jobs in groups, in an order in which inputs come first; the last one is the report."""
    wanted = [plan.job(rule, **place).output for rule, places in shown(plan).items() for place in places]
    groups: dict[tuple[str, str], Group] = {}
    numbers: dict[str, int] = {}  # of each output's group
    for job in closure(wanted, {job.output: job for job in plan.jobs()}):
        stage, key = plan.stages[job.rule], (job.rule, _name(job))
        if key not in groups:
            groups[key] = _empty(plan, stage, key[1], job.place)
        group = groups[key]
        own = numbers[job.output] = list(groups).index(key)
        terms = stage.work(plan, **job.place) if stage.work is not None else []
        group.work += terms
        group.disk += stage.disk(plan, **job.place) if stage.disk is not None else []
        group.sizes.append(size_of(terms))
        group.after |= {numbers[path] for path in job.inputs} - {own}
        group.outputs[job.output] = job.identity
    report = _empty(plan, plan.stages["write_report"], "", {})
    report.sizes, report.after = [0.0], set(range(len(groups)))
    return [*groups.values(), report]


def _empty(plan: Planner, stage: Stage, name: str, place: Wildcards) -> Group:
    gpu = stage.gpus(plan.study, place) > 0
    return Group(stage.name, name, str(place["arm"]) if "arm" in place else None, gpu, stage.loads if gpu else TABLES)


def _name(job: PlannedJob) -> str:
    """Return what a job's group is called within its rule: the entries of the config that its wildcards name."""
    return " ".join(str(value) for key, value in job.place.items() if key not in NUMBERS)


def _generator(plan: Planner, name: str) -> TrainKind:
    """What a step of a generator's training depends on; beside a frozen network also that network."""
    config = plan.study.generators[name]
    training = SamplingKind(batch_size=config.training.batch_size, precision=config.training.precision)
    built_on = config.init_from if family_of(config).built_on(config) else None
    start = None if built_on is None else _generator(plan, built_on)
    latents = None if config.autoencoder_name is None else _autoencoder(plan, config.autoencoder_name)
    told = {} if config.prompt_name is None else {"prompt": {"template": A_PROMPT}}
    facts = {"do": "train", "training_module": config.family, "training": training, "start": start, "latents": latents}
    return TrainKind.model_validate({**network_facts(config), **told, **facts})


def _autoencoder(plan: Planner, name: str) -> AutoencoderKind:
    """What the speed of an autoencoder depends on; one that is read is not trained, and any batch will do."""
    config = plan.study.autoencoders[name]
    training = FEW_IMAGES
    if config.training is not None:
        training = SamplingKind(batch_size=config.training.batch_size, precision=config.training.precision)
    own = config.dump(include={"downsampling", "latent_channels", "output", "structures", "folder"})
    return AutoencoderKind.model_validate(
        {**own, "do": "autoencode", "network": config.network.dump(), "training": training}
    )


def _model(plan: Planner, name: str, augmentation: str) -> LearnKind:
    kept = {key: value for key, value in model_slice(plan, name, augmentation).items() if key in MODEL_SPEED}
    return LearnKind(do="learn", model=ModelKind.model_validate(kept), augmentation=augmentation)


def _measured_spaces(plan: Planner) -> list[SpaceKind]:
    """Return the feature spaces of measured pools and snapshots that can be measured before there is a study."""
    evaluation = plan.study.evaluation
    wanted: list[str | None] = [SNAPSHOT_SPACE] if evaluation.snapshots and plan.study.generators else []
    if measured_pools(plan):
        wanted += evaluation.fidelity.spaces if evaluation.fidelity is not None else []
        wanted += [evaluation.memorisation.space] if evaluation.memorisation is not None else []
    wanted += [pool.styling.space for pool in plan.study.pools.values() if pool.styling is not None]
    wanted += [clusters.space for clusters in plan.study.clusters.values()]
    options: dict[str, object] = {"size": input_size(plan.study)}
    return [SpaceKind(name=name, module=name, options=options) for name in MEASURED_SPACES if name in wanted]


def planned_outputs(plan: Planner) -> list[dict[str, str]]:
    """Return the outputs {path: identity} of each group of `work_groups`."""
    plan = plan.at(look_folders(plan.study)[-1])
    report = plan.job("write_report")
    return [*(group.outputs for group in work_groups(plan)[:-1]), {report.output: report.identity}]


def closure(first: Sequence[str], jobs: Mapping[str, PlannedJob]) -> list[PlannedJob]:
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
