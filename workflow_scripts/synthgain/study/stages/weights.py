"""Weights from elsewhere: whether each file is of the network that it is for, before anything trains."""

from typing import NotRequired, TypedDict

from synthgain.registry import NETWORKS, SPACES
from synthgain.runtime.errors import SynthGainError
from synthgain.study.planner import Planner
from synthgain.study.schema import Fidelity, Study
from synthgain.study.stage import TORCH, Draft, Stage
from synthgain.study.stages.downstream import network_entry


class SpaceEntry(TypedDict):
    """A feature space as slices hold it: what its module builds it of; trained, replicate: whose weights it has."""

    name: str
    module: str
    options: dict[str, object]
    weights: NotRequired[str | None]
    sha256: NotRequired[str | None]
    trained: NotRequired[list[str | int]]
    replicate: NotRequired[int]


def torchscript_spaces(fidelity: Fidelity) -> list[SpaceEntry]:
    """Return the feature spaces of the user's own networks."""
    return [
        {
            "name": name,
            "module": "torchscript",
            "options": config.options(name),
            "weights": config.weights,
            "sha256": config.sha256,
        }
        for name, config in fidelity.torchscript.items()
    ]


def inception_space(fidelity: Fidelity) -> SpaceEntry:
    """Return the space of clean-fid's network."""
    return {"name": "inception", "module": "inception", "options": {}, "weights": fidelity.inception_weights}


def from_files(study: Study) -> bool:
    """Return whether a study has weights from elsewhere that a job must open to know whether they fit."""
    return any(model.weights_file for model in study.models.values()) or bool(_spaces(study))


def _spaces(study: Study) -> list[SpaceEntry]:
    fidelity = study.evaluation.fidelity
    if fidelity is None:
        return []
    return [*torchscript_spaces(fidelity), *[inception_space(fidelity)] * ("inception" in fidelity.spaces)]


def check_weights(plan: Planner) -> Draft:
    study = plan.study
    if not from_files(study):
        raise KeyError("weights")
    models = {}
    for name, model in study.models.items():
        if model.weights_file is not None:
            key = "pretrained_encoder" if model.pretrained_encoder else "pretrained"
            models[name] = {
                "key": key,
                "file": model.weights_file,
                "sha256": plan.checksum(model.weights_file, f"models.{name}.{key}"),
                "network": network_entry(model),
                "channels": study.image.channels,
                "outputs": len(model.labels),
                "size": model.window or study.image.size,
            }
    spaces = _spaces(study)
    for space in spaces:
        _check_there(plan, space)
    modules = [NETWORKS[study.models[name].chosen.module] for name in models]
    modules += [SPACES[space["module"]] for space in spaces]
    return Draft({"models": models, "spaces": spaces}, modules=tuple(modules))


def _check_there(plan: Planner, space: SpaceEntry) -> None:
    """Raise SynthGainError where the file of a feature space is missing and its check is due."""
    made = plan.folder / plan.stages["check_weights"].output
    if plan.root is not None and not made.exists() and not (plan.root / str(space["weights"])).is_file():
        own = space["module"] == "torchscript"
        key = f"torchscript.{space['name']}.weights" if own else "inception_weights"
        raise SynthGainError(f"evaluation.fidelity.{key}: {space['weights']!r} not in {plan.root}; correct the path")


STAGES = (
    Stage(
        "check_weights", "Checking weights from elsewhere", "audit/weights/manifest.json", check_weights, loads=TORCH
    ),
)
