"""How fast a feature space looks at images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synthgain.device import chosen_device
from synthgain.registry import SPACES
from synthgain.runtime.loading import load
from synthgain.speed.clock import memory_gb, timed

IMAGES = 32  # the batch of every extractor


def measure_features(kind: Mapping[str, Any], image: dict[str, int], folder: Path, threads: int) -> dict[str, Any]:
    """Return {image: rate of one image, memory} of a space entry {module, options}."""
    torch.set_num_threads(threads)
    device, space = chosen_device(), kind["space"]
    extractor = load(SPACES, space["module"]).build(dict(space["options"]), None, device)
    shape = (IMAGES, image["size"], image["size"], image["channels"])
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return {"image": timed(lambda: extractor.extract(images), device, 1 / IMAGES), **memory_gb(device)}
