"""Plans of downstream training, prediction, statistics, figures and the report."""

import math
from typing import Any

from synthgain.files import digest
from synthgain.study.data import TableDataset
from synthgain.study.plan_data import snapshots_of, used_datasets
from synthgain.study.planner import Draft, Planner, plans
from synthgain.study.roles import baseline_of, borrowed, role_of, source_dataset, validation_dataset
from synthgain.study.training import CLASSIFIERS, Model


@plans
def train_downstream(plan: Planner, model: str, arm: str, ratio: Any, chunk: Any) -> Draft:
    config, recipe = plan.study.models[model], plan.study.arms[arm]
    replicates = plan.chunks()[int(chunk)]
    pools = {str(r): _replica_paths(plan, arm, int(ratio), r % plan.study.replicates.pools) for r in replicates}
    validation = validation_dataset(plan.study, arm)
    datasets = [name for name in dict.fromkeys((recipe.real, validation)) if name is not None]
    inputs: list[tuple[str, dict[str, Any]]] = []
    for name in datasets:
        inputs += [("prepare_dataset", {"dataset": name}), ("split_dataset", {"dataset": name})]
    for replica in dict.fromkeys(key for keys in pools.values() for key in keys):
        inputs.append(("merge_pool_replica", dict(zip(("pool", "index", "replica"), replica, strict=True))))
    return Draft(
        {
            "model": {
                **config.model_dump(exclude={"description", "network"}),
                "name": model,
                "network": network_entry(config),
            },
            "arm": {
                **recipe.model_dump(exclude={"description", "ratios", "baseline"}),
                "name": arm,
                "match": plan.study.match,
                "validation": validation,
                "source": source_dataset(plan.study, recipe.synthetic or ""),
            },
            "ratio": int(ratio),
            "replicates": replicates,
            "pools": {r: [_replica_output(plan, key) for key in keys] for r, keys in pools.items()},
            "seed": plan.seed,
        },
        tuple(inputs),
        (CLASSIFIERS[config.network_name],),
    )


@plans
def predict_downstream(plan: Planner, model: str, arm: str, ratio: Any, chunk: Any) -> Draft:
    config = plan.study.models[model]
    place = {"model": model, "arm": arm, "ratio": ratio, "chunk": chunk}
    inputs: list[tuple[str, dict[str, Any]]] = [("train_downstream", place)]
    evaluate = []
    validation = validation_dataset(plan.study, arm)
    for name in dict.fromkeys((*plan.study.evaluate_on, *([validation] if validation else []))):
        has_split = plan.study.datasets[name].split is not None
        parts = ["validation"] * (name == validation) + ["test"] * (name in plan.study.evaluate_on)
        evaluate.append({"dataset": name, "split": has_split, "parts": parts})
        inputs.append(("prepare_dataset", {"dataset": name}))
        if has_split:
            inputs.append(("split_dataset", {"dataset": name}))
    return Draft(
        {
            "model": {
                "name": model,
                "task": config.task,
                "targets": config.targets,
                "network": network_entry(config),
                "precision": config.precision,
                "real_fraction": plan.study.arms[arm].real_fraction,
            },
            "arm": arm,
            "ratio": int(ratio),
            "replicates": plan.chunks()[int(chunk)],
            "evaluate": evaluate,
        },
        tuple(inputs),
        (CLASSIFIERS[config.network_name],),
    )


@plans
def collect_predictions(plan: Planner, model: str, arm: str) -> Draft:
    place = {"model": model, "arm": arm}
    cells = [
        (ratio, {**place, "ratio": ratio, "chunk": chunk})
        for ratio in plan.ratios(arm)
        for chunk in range(len(plan.chunks()))
    ]
    listed = [{"ratio": r, "path": plan.job("predict_downstream", **w).output} for r, w in cells]
    return Draft(
        {"model": model, "arm": arm, "task": plan.study.models[model].task, "cells": listed},
        tuple(("predict_downstream", w) for _, w in cells),
    )


@plans
def compare_arms(plan: Planner, model: str) -> Draft:
    study = plan.study
    analysis = study.analysis.model_dump(exclude={"margin_reason"})
    analysis["primary"] = [entry for entry in predeclared_comparisons(plan) if entry["model"] == model]
    arms = {
        name: {
            **arm.model_dump(exclude={"description", "mixing", "balance"}),
            "baseline": baseline_of(study, name),
            "validation": validation_dataset(study, name),
            "role": role_of(study, name),
            "borrowed": borrowed(study, name),
            "match": study.match,
        }
        for name, arm in study.arms.items()
    }
    test_sets = [{"dataset": name, "split": study.datasets[name].split is not None} for name in study.evaluate_on]
    return Draft(
        {
            "model": model,
            "task": study.models[model].task,
            "targets": study.models[model].targets,
            "arms": arms,
            "analysis": analysis,
            "replicates": study.replicates.model_dump(exclude={"per_job"}),
            "image_level": [n for n in study.evaluate_on if _without_patients(plan, n)],
            "rehearsal": study.rehearsal,
            "test_sets": test_sets,
            "seed": plan.seed,
        },
        (
            *(("collect_predictions", {"model": model, "arm": arm}) for arm in study.arms),
            *(("prepare_dataset", {"dataset": name}) for name in study.evaluate_on),
            *(("split_dataset", {"dataset": n}) for n in study.evaluate_on if study.datasets[n].split is not None),
            ("audit_datasets", {}),
        ),
    )


@plans
def draw_figures(plan: Planner, model: str) -> Draft:
    study = plan.study
    shown = [name for name, pool in study.pools.items() if pool.of is None]
    roles = {name: role_of(study, name) for name in study.arms}
    rows = [study.pools[name].rows_of for name in shown]
    return Draft(
        {
            "model": model,
            "task": study.models[model].task,
            "targets": study.models[model].targets,
            "arms": {name: {"role": roles[name], "synthetic": arm.synthetic} for name, arm in study.arms.items()},
            "analysis": study.analysis.model_dump(include={"margin", "alpha", "subgroups"}),
            "primary": [entry for entry in predeclared_comparisons(plan) if entry["model"] == model],
            "pools": [{"pool": n, "rows_of": d} for n, d in zip(shown, rows, strict=True)],
            "generators": dict.fromkeys(study.generators, study.replicates.generators),
            "rehearsal": study.rehearsal,
            "seed": plan.seed,
        },
        (
            ("compare_arms", {"model": model}),
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
    indices = range(study.replicates.generators)
    cells = [(model, arm, ratio) for model in study.models for arm in study.arms for ratio in plan.ratios(arm)]
    return Draft(
        {
            "study": study.study,
            "run": plan.run,
            "title": study.title or study.study,
            "description": study.description,
            "config": study.model_dump(mode="json", by_alias=True, exclude={"data_root", "compute"}),
            "seed": plan.seed,
            "predeclared": declared,
            "predeclared_sha256": digest(declared),
            "rehearsal": study.rehearsal,
            "models": list(study.models),
            "image_level": [name for name in study.datasets if _without_patients(plan, name)],
            "snapshots": {name: snapshots_of(plan, name) for name in study.generators},
        },
        (
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
            *(("merge_pool_replica", {"pool": name, "index": 0, "replica": 1}) for name in study.pools),
            *(("compare_arms", {"model": model}) for model in study.models),
            *(("draw_figures", {"model": model}) for model in study.models),
            *(("train_downstream", {"model": m, "arm": a, "ratio": r, "chunk": 0}) for m, a, r in cells),
        ),
    )


def predeclared_comparisons(plan: Planner) -> list[dict[str, Any]]:
    """Return the declared primary comparisons: none in a rehearsal, a list only in calibration studies."""
    primary = plan.study.analysis.primary
    if primary is None:
        return []
    return [entry.model_dump() for entry in (primary if isinstance(primary, list) else [primary])]


def predeclared(plan: Planner) -> dict[str, Any]:
    """Return what is declared before the run: analysis, arms, replicates, seed, test sets."""
    study = plan.study
    return {
        "analysis": study.analysis.model_dump(mode="json"),
        "arms": {name: arm.model_dump(mode="json", exclude={"description"}) for name, arm in study.arms.items()},
        "replicates": study.replicates.model_dump(exclude={"per_job"}),
        "evaluate_on": study.evaluate_on,
        "match": study.match,
        "seed": plan.seed,
    }


def network_entry(model: Model) -> dict[str, Any]:
    """Return a model's network as {module, options}; modules with several networks get the name as an option."""
    options = {} if isinstance(model.network, str) else {k: v for k, v in model.network.items() if k != "name"}
    module = CLASSIFIERS[model.network_name]
    if list(CLASSIFIERS.values()).count(module) > 1:
        options["name"] = model.network_name
    return {"module": module, "options": options}


def _replica_paths(plan: Planner, arm: str, ratio: int, index: int) -> list[tuple[str, int, int]]:
    """Return (pool, index, replica) of the replicas that a cell reads.

    With its own rows ⌈ratio/100⌉, so that raising the largest ratio touches no smaller cell; where
    the number of rows is known only on disk (another site's rows, filtered, imported), all of them.
    """
    recipe = plan.study.arms[arm]
    if recipe.synthetic is None:
        return []
    pool = plan.study.pools[recipe.synthetic]
    own_rows = pool.of is None and pool.imported is None and recipe.real in (None, pool.rows_of)
    whole = own_rows and not (pool.balance and recipe.real_fraction < 1)
    replicas = plan.study.pools[pool.of].replicas if pool.of is not None else pool.replicas
    needed = math.ceil(ratio / 100) if whole else replicas
    return [(recipe.synthetic, index, replica) for replica in range(1, needed + 1)]


def _replica_output(plan: Planner, key: tuple[str, int, int]) -> str:
    pool, index, replica = key
    return plan.job("merge_pool_replica", pool=pool, index=index, replica=replica).output


def _without_patients(plan: Planner, name: str) -> bool:
    """True for a data set without patient ids: its split is by image, which the report says."""
    config = plan.study.datasets[name]
    return isinstance(config, TableDataset) and config.patient_id is None
