"""The domain space: penultimate features of a real-only downstream model of the same replicate.

Never of a model that saw synthetic images: those would judge themselves.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from synthgain.data.pixels import to_signed
from synthgain.networks.extractors import Extractor, SpaceOptions, check_weights, load_state_dict
from synthgain.networks.options import NetworkChoice
from synthgain.registry import NETWORKS
from synthgain.runtime.loading import load


class DownstreamOptions(SpaceOptions):
    """The network and what it was built for."""

    network: NetworkChoice
    in_channels: int
    outputs: int
    image_size: int
    batch: int = 256


def build(options: Mapping[str, object], weights: Path | None, device: torch.device) -> Extractor:
    """Extractor of a downstream network's module-level `features(network, x)`.

    options: DownstreamOptions. weights: `weights-<replicate>.safetensors` of the real-only arm.
    """
    chosen = DownstreamOptions.model_validate(options)
    checksum = check_weights(weights, chosen.sha256, "downstream")
    assert weights is not None  # check_weights refuses None
    module = load(NETWORKS, chosen.network.module)
    network = module.build(chosen.in_channels, chosen.outputs, chosen.image_size, **chosen.network.options)
    load_state_dict(network, weights)
    network = network.eval().to(device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return module.features(network, to_signed(x))

    return Extractor(
        label="real-only downstream model",
        weights_sha256=checksum,
        settings={"network": chosen.network.model_dump()},
        forward=forward,
        device=device,
        batch=chosen.batch,
    )
