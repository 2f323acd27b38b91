"""Downstream models: training, prediction, trivial floors."""

import math
from typing import TypedDict

from synthgain.downstream.options import Arm
from synthgain.networks.options import DOWNSTREAM
from synthgain.registry import NETWORKS, TASKS
from synthgain.runtime.errors import SynthGainError
from synthgain.speed.documents import Term
from synthgain.study.planner import Planner
from synthgain.study.roles import baseline_of, root_pool, source_dataset, validation_dataset
from synthgain.study.stage import TORCH, Draft, Stage, Wildcard, Wildcards, one_gpu
from synthgain.study.stages.data import Inputs, training_rows, whole_datasets
from synthgain.study.training import Model
from synthgain.study.work import model_kind

NETWORK_COPIES = 2  # a downstream job keeps its finished weights as state beside the published ones
TESTED_BY = {"tolerance", "keep_masks"}  # of a model: change what is measured, not what is trained


def train_downstream(plan: Planner, model: str, arm: str, ratio: Wildcard, chunk: Wildcard) -> Draft:
    config, recipe = plan.study.models[model], plan.study.arms[arm]
    replicates = plan.replicates_of(chunk)
    pools = {str(r): _replicas(plan, arm, int(ratio), r % plan.pool_draws()) for r in replicates}
    validation = validation_dataset(plan.study, arm)
    replicas = dict.fromkeys(key for keys in pools.values() for key in keys)
    return Draft(
        {
            "model": plan.once(
                ("model", model, recipe.augmentation), lambda: model_slice(plan, model, recipe.augmentation)
            ),
            "arm": plan.once(("arm", arm), lambda: _arm(plan, arm)),
            "ratio": int(ratio),
            "replicates": replicates,
            "pools": {r: [list(key) for key in keys] for r, keys in pools.items()},
            "seed": plan.seed,
        },
        {
            **training_rows(name for name in (recipe.real, validation) if name is not None),
            "replicas": [{"pool": pool, "index": index, "replica": replica} for pool, index, replica in replicas],
        },
        (NETWORKS[config.chosen.module], TASKS[config.task]),
    )


def model_slice(plan: Planner, model: str, augmentation: str) -> dict[str, object]:
    config = plan.study.models[model]
    return {
        **config.dump(exclude={"description", "network", "augmentation", "pretrained_sha256", *TESTED_BY}),
        "name": model,
        "task_module": config.task,
        "augmentation": _augmentation(config, augmentation),
        "pretrained_sha256": _checksum(plan, model, "pretrained"),
        **({"encoder_sha256": _checksum(plan, model, "pretrained_encoder")} if config.pretrained_encoder else {}),
        "network": network_entry(config),
    }


def _checksum(plan: Planner, model: str, key: str) -> str | None:
    """Return the SHA-256 of a file of weights; SynthGainError where it is missing, or another one than declared."""
    config, place = plan.study.models[model], f"models.{model}.{key}"
    found = plan.checksum(getattr(config, key), place)
    if found is not None and config.pretrained_sha256 not in (None, found):
        raise SynthGainError(
            f"{place}: {config.weights_file!r} has the SHA-256 {found}, not that of pretrained_sha256; get the file "
            "again, or declare this one"
        )
    return found


def _arm(plan: Planner, arm: str) -> dict[str, object]:
    recipe = plan.study.arms[arm]
    return {
        **recipe.dump(exclude={"description", "ratios", "baseline"}),
        "name": arm,
        "match": plan.study.match,
        "validation": validation_dataset(plan.study, arm),
        "source": source_dataset(plan.study, recipe.synthetic or ""),
        "filtered": recipe.synthetic is not None and plan.study.pools[recipe.synthetic].of is not None,
    }


def predict_downstream(plan: Planner, model: str, arm: str, ratio: Wildcard, chunk: Wildcard) -> Draft:
    config = plan.study.models[model]
    place = {"model": model, "arm": arm, "ratio": ratio, "chunk": chunk}
    evaluate, read = _evaluated(plan, arm)
    return Draft(
        {
            "model": {
                "name": model,
                **tested_model(config),
                "precision": config.precision,
                "real_fraction": plan.study.arms[arm].fraction,
            },
            "arm": arm,
            "ratio": int(ratio),
            "replicates": plan.replicates_of(chunk),
            "evaluate": evaluate,
        },
        {"trainings": [place], **read},
        (NETWORKS[config.chosen.module], TASKS[config.task]),
    )


def collect_predictions(plan: Planner, model: str, arm: str) -> Draft:
    place: Wildcards = {"model": model, "arm": arm}
    cells: list[Wildcards]
    cells = [{**place, "ratio": ratio, "chunk": chunk} for ratio in plan.ratios(arm) for chunk in plan.chunks()]
    return Draft({**place, "task": plan.study.models[model].kind.predictions}, {"predictions": cells})


def trivial_floor(plan: Planner, model: str) -> Draft:
    config, arm = plan.study.models[model], floor_arm(plan, model)
    recipe = plan.study.arms[arm]
    evaluate, inputs = _evaluated(plan, arm)
    tested = {name: value for name, value in tested_model(config).items() if name != "network"}
    return Draft(
        {
            # No network looks at these images: another segmenter leaves the floors as they are.
            "model": {"name": model, **tested},
            "arm": {"name": arm, "real": recipe.real, "real_fraction": recipe.fraction},
            "evaluate": evaluate,
            "seed": plan.seed,
        },
        inputs,
        (TASKS[config.task],),
    )


def floor_arm(plan: Planner, model: str) -> str:
    """Return the arm whose training masks the floors rest on: what the primary comparison starts from, if real."""
    study = plan.study
    declared = [entry.arm for entry in study.analysis.primaries if entry.model == model]
    named = [baseline_of(study, arm) or arm for arm in declared]
    names = [name for name in (*named, *study.arms) if study.arms[name].real is not None]
    if not names:
        raise SynthGainError(f"models.{model}: no arm with real images, so there is no mean mask to compare with")
    return names[0]


def tested_model(config: Model) -> dict[str, object]:
    """Return what prediction needs of a model beside its weights."""
    fields: dict[str, object] = {
        "task": config.task,
        "task_module": config.task,
        "network": network_entry(config),
    }
    if not config.kind.masks:
        return {**fields, "targets": config.targets}
    measured = {"window": config.window, "tolerance": config.tolerance, "keep_masks": config.keep_masks}
    return {**fields, "structures": config.structures, **measured}


class Evaluated(TypedDict):
    """Parts of a data set on which an arm is predicted."""

    dataset: str
    split: bool
    parts: list[str]


def _evaluated(plan: Planner, arm: str) -> tuple[list[Evaluated], Inputs]:
    """Return the parts of data sets on which an arm is predicted, and the jobs that make these sets."""
    evaluate: list[Evaluated] = []
    validation = validation_dataset(plan.study, arm)
    for name in dict.fromkeys((*plan.study.evaluate_on, *([validation] if validation else []))):
        has_split = plan.study.datasets[name].split is not None
        parts = ["validation"] * (name == validation) + ["test"] * (name in plan.study.evaluate_on)
        evaluate.append({"dataset": name, "split": has_split, "parts": parts})
    return evaluate, whole_datasets(plan.study, [entry["dataset"] for entry in evaluate])


class NetworkEntry(TypedDict):
    """A network as slices hold it."""

    module: str
    options: dict[str, object]


def network_entry(model: Model) -> NetworkEntry:
    """Return a model's network; modules with several networks get the name as an option."""
    network = model.chosen
    options = network.options()
    if sum(kind.module == network.module for kinds in DOWNSTREAM.values() for kind in kinds.values()) > 1:
        options["name"] = network.name
    return {"module": network.module, "options": options}


def _augmentation(model: Model, recipe: str) -> dict[str, object]:
    """Return the one recipe that an arm uses, as it was given."""
    overrides = {} if recipe == "none" else getattr(model.augmentation, recipe).given()
    return {"laterality": model.augmentation.laterality, recipe: overrides}


def _replicas(plan: Planner, arm: str, ratio: int, index: int) -> list[tuple[str, int, int]]:
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
    whole = own_rows and not (redrawn and recipe.fraction < 1)
    needed = math.ceil(ratio / 100) if whole else root_pool(plan.study, recipe.synthetic).replicas
    return [(recipe.synthetic, index, replica) for replica in range(1, needed + 1)]


def _cells(plan: Planner) -> list[Wildcards]:
    """Return the first chunk of every cell: the report reads how these were trained."""
    return [
        {"model": model, "arm": arm, "ratio": ratio, "chunk": 0}
        for model in plan.study.models
        for arm in plan.study.arms
        for ratio in plan.ratios(arm)
    ]


def steps_of(steps: int, match: str, arm: Arm, ratio: int) -> int:
    """Return the optimiser steps of one replicate of a cell (`downstream/cell.py`, to the rounding of its counts)."""
    steps = round(steps * arm.steps_factor)
    if match != "epochs":
        return steps
    copies = ratio / 100 * (arm.sibling_probability or 1.0)
    return round(steps * ((1.0 if arm.real else 0.0) + copies if ratio else 1.0))


def _kind(plan: Planner, model: str, arm: str) -> str:
    return model_kind(model, plan.study.arms[arm].augmentation)


def _training_steps(plan: Planner, model: str, arm: str, ratio: Wildcard, chunk: Wildcard) -> list[Term]:
    """Steps of all replicates, and the validation images that they look at."""
    config, recipe, kind = plan.study.models[model], plan.study.arms[arm], _kind(plan, model, arm)
    steps = steps_of(config.steps, plan.study.match, recipe, int(ratio))
    replicates = len(plan.replicates_of(chunk))
    seen = {f"{validation_dataset(plan.study, arm)}/validation": recipe.fraction}
    looks = replicates * math.ceil(steps / config.validate_every)
    return [
        Term(kind=kind, unit="step", amount=replicates * steps, passes=config.batch_size),
        Term(kind=kind, unit="image", amount=looks, images=seen),
    ]


def _weights(plan: Planner, model: str, arm: str, ratio: Wildcard, chunk: Wildcard) -> list[Term]:
    copies = NETWORK_COPIES * len(plan.replicates_of(chunk))
    return [Term(kind=_kind(plan, model, arm), unit="network", amount=copies)]


def _tested_images(plan: Planner, model: str, arm: str, ratio: Wildcard, chunk: Wildcard) -> list[Term]:
    """Images of every evaluation part, by each replicate."""
    seen: dict[str, float] = {}
    for entry in _evaluated(plan, arm)[0]:
        for part in entry["parts"]:
            share = plan.study.arms[arm].fraction if part == "validation" else 1.0
            seen[f"{entry['dataset']}/{part if entry['split'] else 'all'}"] = share
    replicates = len(plan.replicates_of(chunk))
    return [Term(kind=_kind(plan, model, arm), unit="image", amount=replicates, images=seen)]


STAGES = (
    Stage(
        "train_downstream",
        "Training downstream models",
        "downstream/{model}/{arm}/{ratio}/{chunk}/manifest.json",
        train_downstream,
        {"datasets": "prepare_dataset", "splits": "split_dataset", "replicas": "merge_pool_replica"},
        gpus=one_gpu,
        loads=TORCH,
        work=_training_steps,
        disk=_weights,
        shown=_cells,
    ),
    Stage(
        "predict_downstream",
        "Predicting",
        "predictions/{model}/{arm}/{ratio}/{chunk}.parquet",
        predict_downstream,
        {"trainings": "train_downstream", "datasets": "prepare_dataset", "splits": "split_dataset"},
        gpus=one_gpu,
        loads=TORCH,
        work=_tested_images,
    ),
    Stage(
        "collect_predictions",
        "Collecting predictions",
        "predictions/{look}{model}/{arm}.parquet",
        collect_predictions,
        {"predictions": "predict_downstream"},
    ),
    Stage(
        "trivial_floor",
        "Scoring trivial segmentations",
        "floors/{model}.parquet",
        trivial_floor,
        {"datasets": "prepare_dataset", "splits": "split_dataset"},
    ),
)
