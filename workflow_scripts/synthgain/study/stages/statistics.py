"""Statistics: every number comes from stored predictions; nothing is retrained to add one."""

import math
from collections.abc import Iterable

from synthgain.statistics.metric_registry import METRICS, metrics_of
from synthgain.study.planner import Planner
from synthgain.study.roles import (
    base_pool,
    baseline_of,
    borrowed,
    cleaned,
    copies_real,
    filtered_twin,
    generated,
    role_of,
    validation_dataset,
    without_patients,
)
from synthgain.study.stage import Draft, Stage, Wildcards
from synthgain.study.stages.data import whole_datasets
from synthgain.study.stages.measured import searched_pools


def compare_arms(plan: Planner, model: str) -> Draft:
    study = plan.study
    analysis = study.analysis.dump(exclude={"margin_reason", "assumed"})
    analysis["primary"] = [entry.dump() for entry in study.analysis.primaries if entry.model == model]
    arms = {
        name: {
            **arm.dump(exclude={"description", "mixing", "balance", "label_fraction"}),
            "real_fraction": arm.fraction,  # of the patients it learns from: what the learning curve is drawn over
            "baseline": baseline_of(study, name),
            "validation": validation_dataset(study, name),
            "role": role_of(study, name),
            "borrowed": borrowed(study, name),
            "generated": generated(study, name),
            "filtered": filtered_twin(study, name),
            "cleaned": cleaned(study, name),
            "copies": copies_real(study, name),
            "match": study.match,
        }
        for name, arm in study.arms.items()
    }
    gated = gates(plan)
    masks = study.models[model].kind.masks
    test_sets = [{"dataset": name, "split": study.datasets[name].split is not None} for name in study.evaluate_on]
    return Draft(
        {
            "model": model,
            "task": study.models[model].kind.predictions,
            "targets": study.models[model].labels,
            "arms": arms,
            "analysis": analysis,
            "guarded_models": len({entry.model for entry in study.analysis.primaries}),
            "replicates": {**study.replicates.dump(exclude={"per_job"}), "count": plan.replicates},
            "image_level": [name for name in study.evaluate_on if without_patients(study, name)],
            "rehearsal": study.rehearsal,
            **({"diagonal": round(math.hypot(study.image.size, study.image.size), 3)} if masks else {}),
            "gates": {arm: [[draw["pool"], draw["index"]] for draw in draws] for arm, draws in gated.items()},
            "test_sets": test_sets,
            "seed": plan.seed,
        },
        {
            "predictions": [{"model": model, "arm": arm} for arm in study.arms],
            **whole_datasets(study, study.evaluate_on),
            "audit": [{}],
            "floors": [{"model": model}] if study.models[model].kind.masks else [],
            "memorisation": unique(draw for draws in gated.values() for draw in draws),
        },
        tuple(METRICS[name].computed_by for name in metrics_of(study.models[model].kind.predictions)),
    )


def gates(plan: Planner) -> dict[str, list[Wildcards]]:
    """Return {arm: every draw of the pool behind its images}; pools not searched have none."""
    found: dict[str, list[Wildcards]] = {}
    for name, arm in plan.study.arms.items():
        pool = base_pool(plan.study, arm.synthetic) if arm.synthetic is not None else None
        if pool in searched_pools(plan):
            draws = range(plan.pool_draws())  # as in training: a copy in any of them is in a trained arm
            found[name] = [{"pool": pool, "index": index} for index in draws]
    return found


def unique(places: Iterable[Wildcards]) -> list[Wildcards]:
    """Return the places without repeats, in their order."""
    return list({tuple(place.values()): place for place in places}.values())


def models(plan: Planner) -> list[Wildcards]:
    """Return every model."""
    return [{"model": model} for model in plan.study.models]


STAGES = (
    Stage(
        "compare_arms",
        "Comparing arms",
        "statistics/{look}{model}/manifest.json",
        compare_arms,
        {
            "predictions": "collect_predictions",
            "datasets": "prepare_dataset",
            "splits": "split_dataset",
            "audit": "audit_datasets",
            "floors": "trivial_floor",
            "memorisation": "check_memorisation",
        },
        shown=models,
    ),
)
