"""Plans of the statistics, the figures and the report."""

from typing import Any

from synthgain.runtime.files import digest
from synthgain.study.plan_data import snapshots_of, used_datasets
from synthgain.study.plan_evaluation import evaluation_inputs, gates, measured_pools, segmented
from synthgain.study.planner import Draft, Planner, plans
from synthgain.study.roles import (
    baseline_of,
    borrowed,
    cleaned,
    copies_real,
    filtered_twin,
    role_of,
    validation_dataset,
)


@plans
def compare_arms(plan: Planner, model: str) -> Draft:
    study = plan.study
    analysis = study.analysis.dump(exclude={"margin_reason"})
    analysis["primary"] = [entry for entry in predeclared_comparisons(plan) if entry["model"] == model]
    arms = {
        name: {
            **arm.dump(exclude={"description", "mixing", "balance"}),
            "baseline": baseline_of(study, name),
            "validation": validation_dataset(study, name),
            "role": role_of(study, name),
            "borrowed": borrowed(study, name),
            "filtered": filtered_twin(study, name),
            "cleaned": cleaned(study, name),
            "copies": copies_real(study, name),
            "match": study.match,
        }
        for name, arm in study.arms.items()
    }
    test_sets = [{"dataset": name, "split": study.datasets[name].split is not None} for name in study.evaluate_on]
    return Draft(
        {
            "model": model,
            "task": study.models[model].kind.predictions,
            "targets": study.models[model].labels,
            "arms": arms,
            "analysis": analysis,
            "guarded_models": len({entry["model"] for entry in predeclared_comparisons(plan)}),
            "replicates": study.replicates.dump(exclude={"per_job"}),
            "image_level": [n for n in study.evaluate_on if _without_patients(plan, n)],
            "rehearsal": study.rehearsal,
            "gates": {arm: [plan.job(rule, **w).output for rule, w in jobs] for arm, jobs in gates(plan).items()},
            "test_sets": test_sets,
            "seed": plan.seed,
        },
        (
            *(("collect_predictions", {"model": model, "arm": arm}) for arm in study.arms),
            *(("prepare_dataset", {"dataset": name}) for name in study.evaluate_on),
            *(("split_dataset", {"dataset": n}) for n in study.evaluate_on if study.datasets[n].split is not None),
            ("audit_datasets", {}),
            *([("trivial_floor", {"model": model})] if study.models[model].kind.masks else []),
            *(job for jobs in gates(plan).values() for job in jobs),
        ),
    )


@plans
def relate_fidelity(plan: Planner, model: str) -> Draft:
    endpoint = _endpoint(plan, model)
    arms = [
        {"name": name, "baseline": baseline_of(plan.study, name), "pool": arm.synthetic, "indices": plan.pool_draws()}
        for name, arm in plan.study.arms.items()
        if arm.synthetic in measured_pools(plan) and arm.real is not None  # gains over the same real images
    ]
    pools = dict.fromkeys(str(arm["pool"]) for arm in arms)
    return Draft(
        {"model": model, "arms": arms, **endpoint, "seed": plan.seed},
        (
            ("compare_arms", {"model": model}),
            *(("measure_fidelity", {"pool": p, "index": i}) for p in pools for i in range(plan.pool_draws())),
        ),
    )


@plans
def draw_figures(plan: Planner, model: str) -> Draft:
    study = plan.study
    shown = [name for name, pool in study.pools.items() if pool.of is None]
    drawn = {"measure_fidelity", "evaluate_snapshots"} | ({"score_pool"} if segmented(plan) else set())
    roles = {name: role_of(study, name) for name in study.arms}
    rows = [study.pools[name].rows_of for name in shown]
    return Draft(
        {
            "model": model,
            "task": study.models[model].kind.predictions,
            "targets": study.models[model].labels,
            "arms": {name: {"role": roles[name], "synthetic": arm.synthetic} for name, arm in study.arms.items()},
            "analysis": study.analysis.dump(include={"margin", "alpha", "subgroups"}),
            "primary": [entry for entry in predeclared_comparisons(plan) if entry["model"] == model],
            "pools": [{"pool": n, "rows_of": d, **_parents(plan, n)} for n, d in zip(shown, rows, strict=True)],
            "generators": dict.fromkeys(study.generators, study.replicates.generators),
            "rehearsal": study.rehearsal,
            "seed": plan.seed,
        },
        (
            ("compare_arms", {"model": model}),
            *(job for job in evaluation_inputs(plan) if job[0] in drawn),
            *(("merge_pool_replica", {"pool": name, "index": 0, "replica": 1}) for name in shown),
            *(
                (rule, {"dataset": d})
                for d in dict.fromkeys(rows)
                if d
                for rule in ("prepare_dataset", "split_dataset")
            ),
            *(
                ("train_generator", {"generator": name, "index": index})
                for name in study.generators
                for index in range(study.replicates.generators)
            ),
        ),
    )


@plans
def write_report(plan: Planner) -> Draft:
    study = plan.study
    declared = predeclared(plan)
    # One run of one seed: a rehearsal costs nothing worth a forecast, and all seeds of a study share one.
    forecast = study.study_seeds is None and not study.rehearsal
    return Draft(
        {
            "study": study.study,
            "run": plan.run,
            "title": study.title or study.study,
            "description": study.description,
            "config": study.dump(mode="json", by_alias=True, exclude={"data_root", "compute"}),
            "seed": plan.seed,
            "predeclared": declared,
            "predeclared_sha256": digest(declared),
            "rehearsal": study.rehearsal,
            "models": list(study.models),
            "image_level": [name for name in study.datasets if _without_patients(plan, name)],
            "snapshots": {name: snapshots_of(plan, name) for name in study.generators},
        },
        (*report_inputs(plan), *([("forecast_cost", {})] if forecast else [])),
    )


def report_inputs(plan: Planner) -> list[tuple[str, dict[str, Any]]]:
    """Return the jobs behind the report, but for the forecast of what they cost."""
    study = plan.study
    indices, draws = range(study.replicates.generators), range(plan.pool_draws())
    cells = [(model, arm, ratio) for model in study.models for arm in study.arms for ratio in plan.ratios(arm)]
    return [
        ("audit_datasets", {}),
        *(("prepare_dataset", {"dataset": name}) for name in used_datasets(plan)),
        *(("split_dataset", {"dataset": n}) for n in used_datasets(plan) if study.datasets[n].split is not None),
        *(("train_generator", {"generator": name, "index": i}) for name in study.generators for i in indices),
        *(
            ("draw_sample_grid", {"generator": name, "index": i, "snapshot": step})
            for name in study.generators
            for i in indices
            for step in snapshots_of(plan, name)
        ),
        *(("merge_pool_replica", {"pool": p, "index": i, "replica": 1}) for p in study.pools for i in draws),
        *evaluation_inputs(plan),
        *(("compare_arms", {"model": model}) for model in study.models),
        *(("draw_figures", {"model": model}) for model in study.models),
        *(("train_downstream", {"model": m, "arm": a, "ratio": r, "chunk": 0}) for m, a, r in cells),
    ]


def _endpoint(plan: Planner, model: str) -> dict[str, str]:
    """Return the declared endpoint of a model, else its AUROC or Dice over all labels on the first test set."""
    primary = plan.study.analysis.primary
    declared = primary if isinstance(primary, list) else [primary] if primary is not None else []
    for entry in declared:
        if entry.model == model:
            return {"test_set": entry.test_set, "label": entry.labels, "metric": entry.metric}
    metric = plan.study.models[model].kind.metric
    return {"test_set": plan.study.evaluate_on[0], "label": "macro", "metric": metric}


def _parents(plan: Planner, pool: str) -> dict[str, str]:
    """Return which column names the real image that a pool's image was made from, in a study that segments."""
    config = plan.study.pools[pool]
    if not segmented(plan) or config.from_ is None:
        return {}
    if config.inpainting is not None:
        return {"parent": "parent_image_id"}
    drawn = config.masks is not None and config.masks.source == "generated"  # such masks have no parent
    return {"parent": "mask_parent_id"} if plan.study.generators[config.from_].mask_conditioned and not drawn else {}


def predeclared_comparisons(plan: Planner) -> list[dict[str, Any]]:
    """Return the declared primary comparisons: none in a rehearsal, a list only in calibration studies."""
    primary = plan.study.analysis.primary
    if primary is None:
        return []
    return [entry.dump() for entry in (primary if isinstance(primary, list) else [primary])]


def predeclared(plan: Planner) -> dict[str, Any]:
    """Return what is declared before the run: analysis, arms, replicates, seed, test sets."""
    study = plan.study
    return {
        "analysis": study.analysis.dump(mode="json"),
        "arms": {name: arm.dump(mode="json", exclude={"description"}) for name, arm in study.arms.items()},
        "replicates": study.replicates.dump(exclude={"per_job"}),
        "evaluate_on": study.evaluate_on,
        "match": study.match,
        "seed": plan.seed,
    }


def _without_patients(plan: Planner, name: str) -> bool:
    """True for a data set without patient ids: its split is by image, which the report says."""
    return not plan.study.datasets[name].has_patients
