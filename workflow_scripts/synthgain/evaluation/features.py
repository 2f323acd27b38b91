"""Features of image sets, computed once per content and kept."""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synthgain.data.image_set import image_hashes
from synthgain.networks.extractors import Extractor
from synthgain.registry import SPACES
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file
from synthgain.runtime.guarded import GuardedFolder
from synthgain.runtime.loading import load

FEATURES = "features.npy"


def open_extractor(space: Mapping[str, Any], job: Job, device: torch.device) -> Extractor:
    """Build the extractor of a space entry {name, module, options, weights, sha256, trained, replicate}.

    `weights` is relative to the data root (SYNTHGAIN_DATA) or absolute. `trained` is instead the key of a
    downstream training among the inputs, `replicate` the one whose weights count.
    """
    options, weights = dict(space.get("options") or {}), None
    if space.get("sha256"):
        options["sha256"] = space["sha256"]
    if space.get("trained"):
        weights, facts = trained_weights(job, space["trained"], space["replicate"])
        options |= {"in_channels": facts["channels"], "outputs": len(facts["labels"])}
        options["image_size"] = facts["image_size"]
    elif space.get("weights"):
        weights = Path(os.environ.get("SYNTHGAIN_DATA", ".")) / space["weights"]
    extractor = load(SPACES, space["module"]).build(options, weights, device)
    if not isinstance(extractor, Extractor):
        raise SynthGainError(f"feature space {space['name']}: {space['module']}.build does not return an Extractor")
    return extractor


def trained_weights(job: Job, key: Sequence[str | int], replicate: int) -> tuple[Path, dict[str, Any]]:
    """Return the weights file of one replicate of a downstream model, and {kind, labels, image_size, channels}.

    Raises SynthGainError where the model has no such replicate or its bytes are damaged.
    """
    trained, folder = job.inputs.trainings[tuple(key)].manifest(), job.inputs.trainings[tuple(key)].folder()
    name = f"weights-{replicate}.safetensors"
    if name not in trained["files"]:
        raise SynthGainError(f"{folder}: has no replicate {replicate}; the rule must name the chunk that holds it")
    return check_file(folder, name, trained["files"][name]), trained["replicates"][str(replicate)]["task"]


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
