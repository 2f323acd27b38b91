"""Any frozen network exported to TorchScript by its owner: DINOv2, torchxrayvision, SSCD, RAD-DINO …

Export once where there is a network connection (`torch.jit.trace(model, example).save("dinov2.pt")`), then
give the path: no hub, no download, no pickle of Python classes.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from synthgain.networks.extractors import (
    Extractor,
    SpaceOptions,
    check_weights,
    load_torchscript,
    resize_bilinear,
    three_channels,
)
from synthgain.runtime.errors import SynthGainError

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchScriptOptions(SpaceOptions):
    """mean, sd: per channel of pixels in [0, 1], by default ImageNet's; torchxrayvision's ±1024 is 0.5 and 1/2048."""

    label: str = "TorchScript network"
    size: int = 224
    channels: int = 3
    mean: list[float] | None = None
    sd: list[float] | None = None


def build(options: Mapping[str, object], weights: Path | None, device: torch.device) -> Extractor:
    """Extractor of a TorchScript network (n, c, size, size) -> (n, d). options: TorchScriptOptions."""
    chosen = TorchScriptOptions.model_validate(options)
    label, channels, size = chosen.label, chosen.channels, chosen.size
    default_mean, default_sd = (IMAGENET_MEAN, IMAGENET_SD) if channels == 3 else ((0.5,), (0.5,))
    mean = torch.tensor(chosen.mean or default_mean, device=device).float().view(1, -1, 1, 1)
    sd = torch.tensor(chosen.sd or default_sd, device=device).float().view(1, -1, 1, 1)
    if channels not in (1, 3) or mean.shape[1] != channels or sd.shape[1] != channels:
        raise SynthGainError(f"feature space {label}: channels is {channels}; give mean and sd for 1 or 3 channels")
    checksum = check_weights(weights, chosen.sha256, label)
    assert weights is not None  # check_weights refuses None
    network = load_torchscript(weights, device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = three_channels(x) if channels == 3 else x.mean(1, keepdim=True)
        return network((resize_bilinear(x, size) / 255.0 - mean) / sd)

    settings = {"size": size, "channels": channels, "mean": mean.flatten().tolist(), "sd": sd.flatten().tolist()}
    return Extractor(label, checksum, settings, forward, device, chosen.batch)
