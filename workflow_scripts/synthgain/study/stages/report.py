"""Figures and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from synthgain.registry import FAMILY_PROSE
from synthgain.study.planner import Planner
from synthgain.study.roles import main_endpoint, role_of, trainings_of, without_patients
from synthgain.study.schema import UNTOLD
from synthgain.study.size_lines import size_lines
from synthgain.study.stage import Draft, Stage, Wildcards
from synthgain.study.stages.data import training_rows
from synthgain.study.stages.generators import snapshots_of, trainings
from synthgain.study.stages.measured import compared_snapshots, fidelity_draws, scored_draws, segmented
from synthgain.study.stages.statistics import models


def draw_figures(plan: Planner, model: str) -> Draft:
    study = plan.study
    shown_pools = [name for name, pool in study.pools.items() if pool.of is None]
    roles = {name: role_of(study, name) for name in study.arms}
    rows = [study.pools[name].rows_of for name in shown_pools]
    return Draft(
        {
            "model": model,
            "task": study.models[model].kind.predictions,
            "targets": study.models[model].labels,
            "arms": {name: {"role": roles[name], "synthetic": arm.synthetic} for name, arm in study.arms.items()},
            "analysis": study.analysis.dump(include={"margin", "alpha", "subgroups"}),
            "endpoint": asdict(main_endpoint(study, model)),
            "pools": [{"pool": n, "rows_of": d, **_parents(plan, n)} for n, d in zip(shown_pools, rows, strict=True)],
            "generators": {name: len(trainings_of(study, name)) for name in study.generators},
            "size_lines": size_lines(study),
            "rehearsal": study.rehearsal,
            "seed": plan.seed,
        },
        {
            "statistics": [{"model": model}],
            "fidelity": fidelity_draws(plan),
            "snapshots": compared_snapshots(plan),
            "consistency": scored_draws(plan) if segmented(plan) else [],
            "replicas": [{"pool": name, "index": 0, "replica": 1} for name in shown_pools],
            **training_rows(name for name in rows if name is not None),
            "generators": trainings(plan),
        },
    )


def write_report(plan: Planner) -> Draft:
    study = plan.study
    # One run of one seed: a rehearsal costs nothing worth a forecast, and all seeds of a study share one.
    forecast = study.study_seeds is None and not study.rehearsal
    return Draft(
        {
            "study": study.study,
            "run": plan.run,
            "title": study.title or study.study,
            "description": study.description,
            # As it was given, so that the report makes the same study of it again.
            "config": study.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=UNTOLD),
            "seed": plan.seed,
            "rehearsal": study.rehearsal,
            "models": list(study.models),
            "image_level": [name for name in study.datasets if without_patients(study, name)],
            "snapshots": {name: snapshots_of(plan, name) for name in study.generators},
            "stages": described(plan.stages),
        },
        {**{NAMES[rule]: places for rule, places in shown(plan).items()}, "forecast": [{}] if forecast else []},
        tuple(FAMILY_PROSE[generator.family] for generator in study.generators.values()),
    )


def _parents(plan: Planner, pool: str) -> dict[str, str]:
    """Return which column names the real image that a pool's image was made from, in a study that segments."""
    config = plan.study.pools[pool]
    if not segmented(plan) or config.from_ is None:
        return {}
    if config.inpainting is not None:
        return {"parent": "parent_image_id"}
    drawn = config.masks is not None and config.masks.source == "generated"  # such masks have no parent
    return {"parent": "mask_parent_id"} if plan.study.generators[config.from_].mask_conditioned and not drawn else {}


def described(stages: Mapping[str, Stage]) -> dict[str, dict[str, object]]:
    """Return what the report says of each stage (report/costs.py)."""
    return {
        name: {"title": stage.title, "gpu": stage.on_gpu, "synthesis": stage.synthesis}
        for name, stage in stages.items()
    }


def shown(plan: Planner) -> dict[str, Sequence[Wildcards]]:
    """Return {stage: wildcards} of the jobs behind the report, but for the forecast of what they cost."""
    return {name: stage.shown(plan) for name, stage in plan.stages.items() if stage.shown is not None}


READ = {
    "audit": "audit_datasets",
    "datasets": "prepare_dataset",
    "splits": "split_dataset",
    "autoencoders": "train_autoencoder",
    "generators": "train_generator",
    "clusters": "cluster_images",
    "grids": "draw_sample_grid",
    "replicas": "merge_pool_replica",
    "fidelity": "measure_fidelity",
    "memorisation": "check_memorisation",
    "consistency": "score_pool",
    "snapshots": "evaluate_snapshots",
    "relations": "relate_fidelity",
    "statistics": "compare_arms",
    "figures": "draw_figures",
    "trainings": "train_downstream",
    "kits": "write_reader_kit",
    "ratings": "read_ratings",
    "forecast": "forecast_cost",
}
NAMES = {rule: name for name, rule in READ.items()}

STAGES = (
    Stage(
        "draw_figures",
        "Drawing figures",
        "figures/{look}{model}/manifest.json",
        draw_figures,
        {
            "statistics": "compare_arms",
            "fidelity": "measure_fidelity",
            "snapshots": "evaluate_snapshots",
            "consistency": "score_pool",
            "replicas": "merge_pool_replica",
            "datasets": "prepare_dataset",
            "splits": "split_dataset",
            "generators": "train_generator",
        },
        shown=models,
    ),
    Stage(
        "write_report",
        "Writing the report",
        "{look}report.html",
        write_report,
        READ,
    ),
)
