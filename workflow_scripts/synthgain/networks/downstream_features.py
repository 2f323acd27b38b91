"""The domain space: penultimate features of a real-only downstream model of the same replicate.

Never of a model that saw synthetic images: those would judge themselves.
"""

from pathlib import Path
from typing import Any

import torch

from synthgain.data.pixels import to_signed
from synthgain.networks.extractors import Extractor, check_weights, load_state_dict
from synthgain.registry import NETWORKS
from synthgain.runtime.loading import load


def build(options: dict[str, Any], weights: Path | None, device: torch.device) -> Extractor:
    """Extractor of a downstream network's module-level `features(network, x)`.

    options: `network: {module, options}`, `in_channels`, `outputs`, `image_size`, and optionally `batch`
    and `sha256`. weights: `weights-<replicate>.safetensors` of the real-only arm.
    """
    checksum = check_weights(weights, options.get("sha256"), "downstream")
    assert weights is not None  # check_weights refuses None
    module = load(NETWORKS, options["network"]["module"])
    network = module.build(
        options["in_channels"], options["outputs"], options["image_size"], **options["network"].get("options", {})
    )
    load_state_dict(network, weights)
    network = network.eval().to(device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return module.features(network, to_signed(x))

    return Extractor(
        label="real-only downstream model",
        weights_sha256=checksum,
        settings={"network": options["network"]},
        forward=forward,
        device=device,
        batch=int(options.get("batch", 256)),
    )
