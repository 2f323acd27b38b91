"""The GAN family: a generator network and its condition encoder, trained against a discriminator, saved and loaded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.loading import Condition, saved_parts
from synthgain.networks.gan import GanNetwork
from synthgain.runtime.errors import SynthGainError


class ConditionalGenerator(nn.Module):
    """Generator network and condition encoder as one module, so that one optimiser and average cover both."""

    def __init__(self, network: GanNetwork, encoder: ConditionEncoder) -> None:
        super().__init__()
        self.network, self.encoder = network, encoder

    def forward(self, z: Tensor, values: Tensor, null: Tensor) -> Tensor:
        """Return images (N, C, H, W), not bounded, for values (N, columns) float32 and null (N, columns) bool."""
        return self.network(z, self.encoder(values, null))


@dataclass
class GanGenerator:
    """A trained generator: what pools and filters see of it.

    condition: {"vector": (N, D) float32, "null": (N, columns) bool, "values": (N, columns) float32}.
    image_shape: (channels, H, W) of what it draws; with `output` image+mask the first `image_channels` are the image,
        the others the masks of `structures` in [-1, 1].
    """

    network: GanNetwork
    encoder: ConditionEncoder
    image_shape: tuple[int, int, int]
    latent_dim: int
    device: torch.device
    image_channels: int
    output: str = "image"
    structures: tuple[str, ...] = ()

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Condition) -> Tensor:
        """Return images (N, C, H, W) float32 in [-1, 1] of z (N, latent_dim), standard normal."""
        images: Tensor = self.network(z.to(self.device), condition["vector"])
        return images.float().clamp(-1, 1)

    def encode_conditions(self, table: pd.DataFrame, masks: np.ndarray | None = None) -> Condition:
        """Return the condition of each row; missing values become the column's learned null. It takes no masks."""
        if masks is not None:
            raise SynthGainError("masks given as condition of a gan: it draws image and mask together")
        values, null = self.encoder.encode_table(table)
        return self._condition(torch.from_numpy(values), torch.from_numpy(null))

    def null_condition(self, n: int) -> Condition:
        """Return the condition of `n` samples of which nothing is known."""
        shape = (n, len(self.encoder.columns))
        return self._condition(torch.zeros(shape), torch.ones(shape, dtype=torch.bool))

    @torch.no_grad()
    def _condition(self, values: Tensor, null: Tensor) -> Condition:
        values, null = values.to(self.device), null.to(self.device)
        return {"vector": self.encoder(values, null), "null": null, "values": values}


def load(
    folder: Path,
    snapshot: int | None = None,
    device: torch.device | str = "cpu",
    ema_decay: float | None = None,
) -> GanGenerator:
    """Load a trained generator's averaged weights; every file is compared with the manifest's checksum."""
    saved, parts = saved_parts(folder, snapshot, ("network", "condition_encoder"), ema_decay)
    place = torch.device(device)
    network, encoder = (
        kind.from_pretrained(parts / name, use_safetensors=True, local_files_only=True)
        .to(place)
        .eval()
        .requires_grad_(False)
        for kind, name in ((GanNetwork, "network"), (ConditionEncoder, "condition_encoder"))
    )
    return GanGenerator(
        network,
        encoder,
        saved.image_shape,
        int(network.config.latent_dim),
        place,
        saved.drawn_channels,
        saved.output,
        saved.structures,
    )


def save_parts(folder: Path, module: ConditionalGenerator) -> None:
    """Write `network/` and `condition_encoder/` as diffusers does: config.json and safetensors."""
    module.network.save_pretrained(folder / "network", safe_serialization=True)
    module.encoder.save_pretrained(folder / "condition_encoder", safe_serialization=True)
