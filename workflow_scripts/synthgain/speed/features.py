"""How fast a feature space looks at images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from synthgain.device import chosen_device
from synthgain.registry import SPACES
from synthgain.runtime.loading import load
from synthgain.speed.clock import memory_gb, timed
from synthgain.speed.documents import ExtractKind, ImageKind, Measured

IMAGES = 32  # the batch of every extractor


def measure_features(kind: Mapping[str, object], image: ImageKind, folder: Path, threads: int) -> Measured:
    """Return how fast a space (ExtractKind) looks at one image."""
    torch.set_num_threads(threads)
    device, space = chosen_device(), ExtractKind.model_validate(kind).space
    extractor = load(SPACES, space.module).build(space.options, None, device)
    shape = (IMAGES, image.size, image.size, image.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rate = timed(lambda: extractor.extract(images), device, 1 / IMAGES)
    return Measured(image=rate, **memory_gb(device))
