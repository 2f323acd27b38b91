"""Open weights from elsewhere as the jobs that need them will: those of another network are known at once."""

import os
from collections.abc import Callable
from pathlib import Path

import torch

from synthgain.downstream.prediction import build_network
from synthgain.evaluation.features import open_extractor
from synthgain.networks.options import FilledNetwork
from synthgain.networks.pretrained import load_encoder, load_pretrained
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest


def check_weights(job: Job) -> None:
    """Slice: models {name: FilledNetwork}, spaces (evaluation.features.Space). Nothing of the networks is kept."""
    root = Path(os.environ.get("SYNTHGAIN_DATA", "."))
    for name, given in job.slice["models"].items():
        model = FilledNetwork.model_validate(given)
        network = build_network(model.network, model.channels, model.outputs, model.size, f"models.{name}")
        fill = load_encoder if model.key == "pretrained_encoder" else load_pretrained
        _at(
            f"models.{name}.{model.key}", lambda fill=fill, network=network, file=model.file: fill(network, root / file)
        )
        logger.info("[weights] %s fits models.%s", model.file, name)
    for space in job.slice["spaces"]:
        _at("evaluation.fidelity", lambda space=space: open_extractor(space, job, torch.device("cpu")))
        logger.info("[weights] %s fits space %s", space["weights"], space["name"])
    write_manifest(job.outputs[0], job.identity, [])


def _at(place: str, load: Callable[[], object]) -> None:
    """Call `load`; what is wrong is said with its place in the config."""
    try:
        load()
    except SynthGainError as error:
        raise SynthGainError(f"{place}: {error}") from error


if __name__ == "__main__":
    run_script(check_weights)
