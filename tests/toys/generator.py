"""The toy family's generator: it offers `generate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.loading import Condition, saved_parts


@dataclass
class MeanImage:
    """What pools and filters see of it."""

    network: nn.Module
    encoder: ConditionEncoder
    mean: Tensor
    image_shape: tuple[int, int, int]
    device: torch.device
    image_channels: int
    latent_dim: int = 4
    output: str = "image"
    structures: tuple[str, ...] = ()

    def generate(self, z: Tensor, condition: Condition) -> Tensor:
        return (self.mean + 0.1 * z.mean(dim=1)[:, None, None, None]).clamp(-1, 1)

    def encode_conditions(self, table: pd.DataFrame, masks: Any = None) -> Condition:
        values, null = self.encoder.encode_table(table)
        return {"values": torch.from_numpy(values), "null": torch.from_numpy(null)}

    def null_condition(self, n: int) -> Condition:
        return {"null": torch.ones((n, len(self.encoder.columns)), dtype=torch.bool)}


def load(folder: Path, snapshot: int | None = None, device: torch.device | str = "cpu") -> MeanImage:
    saved, parts = saved_parts(folder, snapshot, ("network", "condition_encoder"))
    encoder = ConditionEncoder.from_pretrained(parts / "condition_encoder", local_files_only=True)
    mean = load_file(parts / "network" / "mean.safetensors")["mean"]
    return MeanImage(nn.Identity(), encoder, mean, saved.image_shape, torch.device(device), saved.drawn_channels)
