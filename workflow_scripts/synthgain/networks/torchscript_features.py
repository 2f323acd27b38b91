"""Any frozen network exported to TorchScript by its owner: DINOv2, torchxrayvision, SSCD, RAD-DINO …

Export once where there is a network connection (`torch.jit.trace(model, example).save("dinov2.pt")`), then
give the path: no hub, no download, no pickle of Python classes.
"""

from pathlib import Path
from typing import Any

import torch

from synthgain.networks.extractors import Extractor, check_weights, load_torchscript, resize_bilinear, three_channels
from synthgain.runtime.errors import SynthGainError

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(options: dict[str, Any], weights: Path | None, device: torch.device) -> Extractor:
    """Extractor of a TorchScript network (n, c, size, size) -> (n, d).

    options: `label`, `size` (224), `channels` (3 or 1), `mean` and `sd` per channel of pixels in [0, 1]
    (ImageNet's; torchxrayvision's ±1024 range is mean 0.5, sd 1/2048), `batch` (32), `sha256`.
    """
    label = str(options.get("label", "TorchScript network"))
    channels, size = int(options.get("channels", 3)), int(options.get("size", 224))
    default_mean, default_sd = (IMAGENET_MEAN, IMAGENET_SD) if channels == 3 else ((0.5,), (0.5,))
    mean = torch.tensor(options.get("mean", default_mean), device=device).float().view(1, -1, 1, 1)
    sd = torch.tensor(options.get("sd", default_sd), device=device).float().view(1, -1, 1, 1)
    if channels not in (1, 3) or mean.shape[1] != channels or sd.shape[1] != channels:
        raise SynthGainError(f"feature space {label}: channels is {channels}; give mean and sd for 1 or 3 channels")
    checksum = check_weights(weights, options.get("sha256"), label)
    assert weights is not None  # check_weights refuses None
    network = load_torchscript(weights, device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = three_channels(x) if channels == 3 else x.mean(1, keepdim=True)
        return network((resize_bilinear(x, size) / 255.0 - mean) / sd)

    settings = {"size": size, "channels": channels, "mean": mean.flatten().tolist(), "sd": sd.flatten().tolist()}
    return Extractor(label, checksum, settings, forward, device, int(options.get("batch", 32)))
