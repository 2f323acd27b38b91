"""One interface for frozen feature extractors: uint8 images in, float32 features out.

Every kind is a module with `build(options, weights, device) -> Extractor`; `synthgain.registry.SPACES` names it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import nn
from torch.nn import functional

from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, sha256_file


class SpaceOptions(BaseModel):
    """What every feature space may be built with. sha256: that of its weights file; another is refused."""

    batch: int = 32
    sha256: str | None = None


@dataclass(frozen=True)
class Extractor:
    """A frozen network and all that decides its numbers.

    label: what a report prints. weights_sha256, settings: identify the space.
    forward: (n, C, h, w) float32 values 0 … 255 on `device` -> (n, d).
    fid: True only for the network, resize and value range of clean-fid, the one case called "FID".
    """

    label: str
    weights_sha256: str
    settings: dict[str, object]
    forward: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device
    batch: int = 256
    fid: bool = False

    @property
    def identity(self) -> str:
        """Digest of weights and settings: equal identities give equal features (up to hardware)."""
        return digest({"label": self.label, "weights": self.weights_sha256, "settings": self.settings})

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Return (N, d) float32 features of (N, H, W, C) uint8 images.

        Raises ValueError for other shapes or types, SynthGainError if the features are not finite.
        """
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"images must be (N, H, W, C) uint8, got {images.shape} {images.dtype}")
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), self.batch):
                batch = torch.from_numpy(np.array(images[start : start + self.batch])).to(self.device)
                parts.append(self.forward(batch.permute(0, 3, 1, 2).float()).float().flatten(1).cpu().numpy())
        features = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
        if not np.isfinite(features).all():
            raise SynthGainError(f"feature space {self.label}: some features are not finite; check its weights file")
        return features


def check_weights(weights: Path | None, sha256: str | None, space: str) -> str:
    """Return the SHA-256 of a weights file; SynthGainError where it is missing or not the expected one."""
    if weights is None:
        raise SynthGainError(f"feature space {space}: needs `weights:`, the path of its weights file")
    if not weights.is_file():
        raise SynthGainError(f"feature space {space}: no weights file at {weights}; correct `weights:` in the config")
    found = sha256_file(weights)
    if sha256 is not None and found != sha256:
        raise SynthGainError(
            f"feature space {space}: {weights} has SHA-256 {found[:12]}…, expected {sha256[:12]}…; "
            "get the right file or correct `sha256:`"
        )
    return found


def load_state_dict(network: nn.Module, weights: Path) -> None:
    """Load a safetensors or torch file (tensors only, never pickled objects) into `network`."""
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(str(weights))
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:  # torch and safetensors raise a dozen kinds for a file that is not theirs
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SynthGainError(f"{weights}: not weights of {type(network).__name__} ({reason})") from error


def load_torchscript(weights: Path, device: torch.device, required: str | None = None) -> Any:
    """Open a TorchScript file in evaluation mode; SynthGainError if it is none or lacks the module `required`."""
    try:
        network = torch.jit.load(str(weights), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise SynthGainError(f"{weights}: not a TorchScript file; export the network with torch.jit.trace") from error
    if required is not None and not hasattr(network, required):
        raise SynthGainError(f"{weights}: this TorchScript network has no part {required!r}; give the right file")
    return network


def three_channels(x: torch.Tensor) -> torch.Tensor:
    """Repeat a grey channel three times; SynthGainError for other channel counts than 1 and 3."""
    if x.shape[1] not in (1, 3):
        raise SynthGainError(f"this feature space takes 1 or 3 channels, the images have {x.shape[1]}")
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def resize_bilinear(x: torch.Tensor, size: int) -> torch.Tensor:
    """Resize (n, c, h, w) to `size` × `size`, bilinear with antialiasing (Parmar 2022: aliasing moves distances)."""
    if x.shape[2:] == (size, size):
        return x
    return functional.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
