"""Plans of downstream training, prediction and trivial floors."""

import math
from typing import Any

from synthgain.networks.options import DOWNSTREAM
from synthgain.registry import NETWORKS, TASKS
from synthgain.runtime.errors import SynthGainError
from synthgain.study.planner import Draft, Planner, plans
from synthgain.study.roles import baseline_of, root_pool, source_dataset, validation_dataset
from synthgain.study.training import Model

TESTED_BY = {"tolerance", "keep_masks"}  # of a model: change what is measured, not what is trained


@plans
def train_downstream(plan: Planner, model: str, arm: str, ratio: Any, chunk: Any) -> Draft:
    config, recipe = plan.study.models[model], plan.study.arms[arm]
    replicates = plan.replicates_of(chunk)
    pools = {str(r): _replica_paths(plan, arm, int(ratio), r % plan.pool_draws()) for r in replicates}
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
                **config.dump(exclude={"description", "network", "augmentation", *TESTED_BY}),
                "name": model,
                "task_module": config.task,
                "augmentation": _augmentation(config, recipe.augmentation),
                "pretrained_sha256": plan.checksum(config.pretrained, f"models.{model}.pretrained"),
                "network": network_entry(config),
            },
            "arm": {
                **recipe.dump(exclude={"description", "ratios", "baseline"}),
                "name": arm,
                "match": plan.study.match,
                "validation": validation,
                "source": source_dataset(plan.study, recipe.synthetic or ""),
                "filtered": recipe.synthetic is not None and plan.study.pools[recipe.synthetic].of is not None,
            },
            "ratio": int(ratio),
            "replicates": replicates,
            "pools": {r: [_replica_output(plan, key) for key in keys] for r, keys in pools.items()},
            "seed": plan.seed,
        },
        tuple(inputs),
        (NETWORKS[config.chosen.module], TASKS[config.task]),
    )


@plans
def predict_downstream(plan: Planner, model: str, arm: str, ratio: Any, chunk: Any) -> Draft:
    config = plan.study.models[model]
    place = {"model": model, "arm": arm, "ratio": ratio, "chunk": chunk}
    inputs: list[tuple[str, dict[str, Any]]] = [("train_downstream", place)]
    evaluate, read = _evaluated(plan, arm)
    inputs += read
    return Draft(
        {
            "model": {
                "name": model,
                **tested_model(config),
                "precision": config.precision,
                "real_fraction": plan.study.arms[arm].real_fraction,
            },
            "arm": arm,
            "ratio": int(ratio),
            "replicates": plan.replicates_of(chunk),
            "evaluate": evaluate,
        },
        tuple(inputs),
        (NETWORKS[config.chosen.module], TASKS[config.task]),
    )


@plans
def collect_predictions(plan: Planner, model: str, arm: str) -> Draft:
    place = {"model": model, "arm": arm}
    cells = [
        (ratio, {**place, "ratio": ratio, "chunk": chunk}) for ratio in plan.ratios(arm) for chunk in plan.chunks()
    ]
    listed = [{"ratio": r, "path": plan.job("predict_downstream", **w).output} for r, w in cells]
    return Draft(
        {"model": model, "arm": arm, "task": plan.study.models[model].kind.predictions, "cells": listed},
        tuple(("predict_downstream", w) for _, w in cells),
    )


@plans
def trivial_floor(plan: Planner, model: str) -> Draft:
    config, arm = plan.study.models[model], floor_arm(plan, model)
    recipe = plan.study.arms[arm]
    evaluate, inputs = _evaluated(plan, arm)
    return Draft(
        {
            # No network looks at these images: another segmenter leaves the floors as they are.
            "model": {"name": model, **{k: v for k, v in tested_model(config).items() if k != "network"}},
            "arm": {"name": arm, "real": recipe.real, "real_fraction": recipe.real_fraction},
            "evaluate": evaluate,
            "seed": plan.seed,
        },
        tuple(inputs),
        (TASKS[config.task],),
    )


def floor_arm(plan: Planner, model: str) -> str:
    """Return the arm whose training masks the floors rest on: what the primary comparison starts from, if real."""
    study = plan.study
    primary = study.analysis.primary
    listed = primary if isinstance(primary, list) else [primary] if primary else []
    named = [baseline_of(study, entry.arm) or entry.arm for entry in listed if entry.model == model]
    names = [name for name in (*named, *study.arms) if study.arms[name].real is not None]
    if not names:
        raise SynthGainError(f"models.{model}: no arm with real images, so there is no mean mask to compare with")
    return names[0]


def tested_model(config: Model) -> dict[str, Any]:
    """Return what prediction needs of a model beside its weights."""
    fields = {"task": config.task, "task_module": config.task, "network": network_entry(config)}
    if not config.kind.masks:
        return {**fields, "targets": config.targets}
    measured = {"window": config.window, "tolerance": config.tolerance, "keep_masks": config.keep_masks}
    return {**fields, "structures": config.structures, **measured}


def _evaluated(plan: Planner, arm: str) -> tuple[list[dict[str, Any]], list[tuple[str, dict[str, Any]]]]:
    """Return the parts of data sets on which an arm is predicted, and the jobs that make these sets."""
    evaluate: list[dict[str, Any]] = []
    inputs: list[tuple[str, dict[str, Any]]] = []
    validation = validation_dataset(plan.study, arm)
    for name in dict.fromkeys((*plan.study.evaluate_on, *([validation] if validation else []))):
        has_split = plan.study.datasets[name].split is not None
        parts = ["validation"] * (name == validation) + ["test"] * (name in plan.study.evaluate_on)
        evaluate.append({"dataset": name, "split": has_split, "parts": parts})
        inputs.append(("prepare_dataset", {"dataset": name}))
        if has_split:
            inputs.append(("split_dataset", {"dataset": name}))
    return evaluate, inputs


def network_entry(model: Model) -> dict[str, Any]:
    """Return a model's network as {module, options}; modules with several networks get the name as an option."""
    network = model.chosen
    options = network.options()
    if sum(kind.module == network.module for kinds in DOWNSTREAM.values() for kind in kinds.values()) > 1:
        options["name"] = network.name
    return {"module": network.module, "options": options}


def _augmentation(model: Model, recipe: str) -> dict[str, Any]:
    """Return the one recipe that an arm uses, as it was given."""
    overrides = {} if recipe == "none" else getattr(model.augmentation, recipe).given()
    return {"laterality": model.augmentation.laterality, recipe: overrides}


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
    redrawn = pool.balance is not None or pool.known == "mode_dropper"  # not every row once in each replica
    whole = own_rows and not (redrawn and recipe.real_fraction < 1)
    needed = math.ceil(ratio / 100) if whole else root_pool(plan.study, recipe.synthetic).replicas
    return [(recipe.synthetic, index, replica) for replica in range(1, needed + 1)]


def _replica_output(plan: Planner, key: tuple[str, int, int]) -> str:
    pool, index, replica = key
    return plan.job("merge_pool_replica", pool=pool, index=index, replica=replica).output
