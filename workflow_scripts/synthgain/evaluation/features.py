"""Features of image sets, computed once per content and kept."""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from synthgain.data.image_set import image_hashes
from synthgain.networks.extractors import Extractor
from synthgain.networks.options import TaskFacts
from synthgain.registry import SPACES
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file
from synthgain.runtime.guarded import GuardedFolder
from synthgain.runtime.loading import load

FEATURES = "features.npy"


class Space(BaseModel):
    """A feature space as a job gets it: the module that builds its extractor, and the options of that.

    weights: relative to the data root (SYNTHGAIN_DATA) or absolute. trained: instead the key of a downstream training
    among the inputs; replicate: the one whose weights count.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    module: str
    options: dict[str, object] = {}
    weights: str | None = None
    sha256: str | None = None
    trained: tuple[str | int, ...] | None = None
    replicate: int = 0


def open_extractor(entry: Mapping[str, object], job: Job, device: torch.device) -> Extractor:
    """Build the extractor of a slice's `Space`."""
    space = Space.model_validate(entry)
    options, weights = dict(space.options), None
    if space.sha256:
        options["sha256"] = space.sha256
    if space.trained:
        weights, facts = trained_weights(job, space.trained, space.replicate)
        options |= {"in_channels": facts.channels, "outputs": len(facts.labels), "image_size": facts.image_size}
    elif space.weights:
        weights = Path(os.environ.get("SYNTHGAIN_DATA", ".")) / space.weights
    extractor = load(SPACES, space.module).build(options, weights, device)
    if not isinstance(extractor, Extractor):
        raise SynthGainError(f"feature space {space.name}: {space.module}.build does not return an Extractor")
    return extractor


def trained_weights(job: Job, key: Sequence[str | int], replicate: int) -> tuple[Path, TaskFacts]:
    """Return the weights file of one replicate of a downstream model, and its task.

    Raises SynthGainError where the model has no such replicate or its bytes are damaged.
    """
    trained, folder = job.inputs.trainings[tuple(key)].manifest(), job.inputs.trainings[tuple(key)].folder()
    name = f"weights-{replicate}.safetensors"
    if name not in trained["files"]:
        raise SynthGainError(f"{folder}: has no replicate {replicate}; the rule must name the chunk that holds it")
    facts = TaskFacts.model_validate(trained["replicates"][str(replicate)]["task"])
    return check_file(folder, name, trained["files"][name]), facts


def content_key(extractor: Extractor, images: np.ndarray) -> str:
    """Key of the features of these images in this order: equal keys, equal features."""
    return hashlib.sha256("".join([extractor.identity, *image_hashes(images)]).encode()).hexdigest()[:32]


def cached_features(extractor: Extractor, images: np.ndarray, cache: Path) -> np.ndarray:
    """Return extract(images), (N, d) float32, from `cache`/<key>/features.npy where it is there and whole."""
    key = content_key(extractor, images)
    kept = GuardedFolder(cache / key, key, shared=True)
    path = kept.folder / FEATURES
    if kept.find(FEATURES) is not None:
        with contextlib.suppress(ValueError):
            return np.asarray(np.load(path, allow_pickle=False))
    features = extractor.extract(images)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            np.save(handle, features, allow_pickle=False)

    kept.keep(FEATURES, write, label=extractor.label, images=len(images))
    return features
