"""clean-fid's Inception space: the one in which a Fréchet distance is called FID.

TorchScript file `inception-2015-12-05.pt` (Karras et al., StyleGAN2-ADA), by local path only: nothing is
fetched. Resize and value range are clean-fid's own ("clean" mode: PIL bicubic in float, Parmar et al. 2022).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from synthgain.networks.extractors import Extractor, SpaceOptions, check_weights, load_torchscript, three_channels

INPUT_SIZE = 299


def build(options: Mapping[str, object], weights: Path | None, device: torch.device) -> Extractor:
    """Extractor of Inception pool features. options: SpaceOptions."""
    chosen = SpaceOptions.model_validate(options)
    checksum = check_weights(weights, chosen.sha256, "inception")
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
        batch=chosen.batch,
        fid=True,
    )


def clean_resize(x: torch.Tensor) -> torch.Tensor:
    """clean-fid's resize of (n, 3, h, w) values 0 … 255 to 299 × 299, image by image."""
    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    rows = [resize(image.permute(1, 2, 0).cpu().numpy()) for image in x]
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous().to(x.device)
