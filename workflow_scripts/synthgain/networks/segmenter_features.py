"""The domain space of segmentation studies: bottleneck features of the real-only segmenter of the same replicate.

The bottleneck is found, not named, so that every segmentation network serves: the last convolution's output among those
of the fewest pixels. Never of a model that saw synthetic images: those would judge themselves.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthgain.networks.extractors import Extractor, check_weights, load_state_dict

HALF_RANGE = 127.5  # downstream networks see pixels in [−1, 1]


def build(options: dict[str, Any], weights: Path | None, device: torch.device) -> Extractor:
    """Extractor of a segmentation network: the mean over pixels of its bottleneck.

    options: `network: {module, options}`, `in_channels`, `outputs`, `image_size`, and optionally `batch` and `sha256`.
    weights: `weights-<replicate>.safetensors` of the real-only arm.
    """
    checksum = check_weights(weights, options.get("sha256"), "downstream")
    assert weights is not None  # check_weights refuses None
    module = importlib.import_module(options["network"]["module"])
    network: nn.Module = module.build(
        options["in_channels"], options["outputs"], options["image_size"], **options["network"].get("options", {})
    )
    load_state_dict(network, weights)
    network = network.eval().to(device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return bottleneck(network, x / HALF_RANGE - 1.0)

    return Extractor(
        label="real-only segmentation model, bottleneck",
        weights_sha256=checksum,
        settings={"network": options["network"]},
        forward=forward,
        device=device,
        batch=int(options.get("batch", 64)),
    )


def bottleneck(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return (n, d) float32: the coarsest convolution output of `network` on x (n, C, H, W), averaged over pixels."""
    coarsest: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if not coarsest or output[0, 0].numel() <= coarsest[0][0, 0].numel():
            coarsest[:] = [output]

    hooks = [part.register_forward_hook(keep) for part in network.modules() if isinstance(part, nn.Conv2d)]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return coarsest[0].float().mean(dim=(2, 3))
