"""clean-fid's Inception space: the one in which a Fréchet distance is called FID.

TorchScript file `inception-2015-12-05.pt` (Karras et al., StyleGAN2-ADA), by local path only: nothing is
fetched. Resize and value range are clean-fid's own ("clean" mode: PIL bicubic in float, Parmar et al. 2022).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from synthgain.networks.extractors import Extractor, check_weights, load_torchscript, three_channels

INPUT_SIZE = 299


def build(options: dict[str, Any], weights: Path | None, device: torch.device) -> Extractor:
    """Extractor of Inception pool features. options: `batch` (32), `sha256` (of `weights`)."""
    checksum = check_weights(weights, options.get("sha256"), "inception")
    assert weights is not None  # check_weights refuses None
    network = load_torchscript(weights, device, required="layers")

    def forward(x: torch.Tensor) -> torch.Tensor:
        return network.layers((clean_resize(three_channels(x)) - 128.0) / 128.0)

    return Extractor(
        label="Inception (clean-fid)",
        weights_sha256=checksum,
        settings={"mode": "clean"},
        forward=forward,
        device=device,
        batch=int(options.get("batch", 32)),
        fid=True,
    )


def clean_resize(x: torch.Tensor) -> torch.Tensor:
    """clean-fid's resize of (n, 3, h, w) values 0 … 255 to 299 × 299, image by image."""
    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    rows = [resize(image.permute(1, 2, 0).cpu().numpy()) for image in x]
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous().to(x.device)
