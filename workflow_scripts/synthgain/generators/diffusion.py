"""The diffusion family: a U-Net, its condition encoder and a formulation, trained, saved and loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor, nn

from synthgain.command import Job
from synthgain.errors import SynthGainError
from synthgain.files import check_file, read_manifest
from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.formulations import Edm, Formulation, VPrediction, formulation_from
from synthgain.networks.unet import evaluate, prepare_memory_format

Condition = dict[str, Tensor]


class ConditionalNetwork(nn.Module):
    """UNet2DModel and encoder as one module, so that one optimiser, average and DDP wrapper cover both."""

    def __init__(self, network: Any, encoder: ConditionEncoder) -> None:
        super().__init__()
        self.network, self.encoder = network, encoder

    def forward(self, scaled: Tensor, time: Tensor, values: Tensor, null: Tensor) -> Tensor:
        """Return the network's output (N,C,H,W) for values (N, columns) float32 and null (N, columns) bool."""
        return evaluate(self.network, scaled, time, self.encoder(values, null))


@dataclass
class DiffusionGenerator:
    """A trained generator: what samplers, filters and membership tests see of it.

    condition: {"vector": (N, D) float32, "null": (N, columns) bool, "values": (N, columns) float32}.
    """

    network: Any  # UNet2DModel, or a compiled one
    encoder: ConditionEncoder
    formulation: Formulation
    image_shape: tuple[int, int, int]
    device: torch.device

    @property
    def sigma_min(self) -> float:
        """Lowest noise level of the training range."""
        return self.formulation.sigma_min

    @property
    def sigma_max(self) -> float:
        """Noise level at which nothing of the image is left."""
        return self.formulation.sigma_max

    @property
    def sigma_data(self) -> float:
        """Standard deviation of the training pixels in [-1, 1]."""
        return self.formulation.sigma_data

    def denoise(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Return the expected clean image (N,C,H,W) float32 in [-1, 1] of x = x0 + sigma · noise; sigma (N,)."""
        vector = condition["vector"]
        return self.formulation.denoise(lambda scaled, time: evaluate(self.network, scaled, time, vector), x, sigma)

    def encode_conditions(self, table: pd.DataFrame) -> Condition:
        """Return the condition of each row; missing values become the column's learned null."""
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


def load(folder: Path, snapshot: int | None = None, device: torch.device | str = "cpu") -> DiffusionGenerator:
    """Load a trained generator's averaged weights; every file is compared with the manifest's checksum."""
    manifest = read_manifest(folder / "manifest.json")
    steps = manifest["snapshots"]
    if snapshot is not None and snapshot not in steps:
        raise SynthGainError(f"{folder}: no snapshot {snapshot}; kept are {', '.join(map(str, steps))}")
    part = "" if snapshot is None else f"snapshots/{snapshot}/"
    for name, listed in manifest["files"].items():
        if name.startswith((f"{part}network/", f"{part}condition_encoder/")):
            check_file(folder, name, listed)
    network = UNet2DModel.from_pretrained(folder / part / "network", use_safetensors=True, local_files_only=True)
    encoder = ConditionEncoder.from_pretrained(
        folder / part / "condition_encoder", use_safetensors=True, local_files_only=True
    )
    place = torch.device(device)
    return DiffusionGenerator(
        prepare_memory_format(network.to(place).eval().requires_grad_(False)),
        encoder.to(place).eval().requires_grad_(False),
        formulation_from(manifest["formulation"]),
        tuple(manifest["image_shape"]),
        place,
    )


def save_parts(folder: Path, module: ConditionalNetwork) -> None:
    """Write `network/` and `condition_encoder/` as diffusers does: config.json and safetensors."""
    module.network.save_pretrained(folder / "network", safe_serialization=True)
    module.encoder.save_pretrained(folder / "condition_encoder", safe_serialization=True)


def scheduler_of(formulation: Formulation) -> Any:
    """Return the diffusers scheduler that samples from this formulation; saved beside the network as `scheduler/`."""
    if isinstance(formulation, Edm):
        return EDMDPMSolverMultistepScheduler(
            sigma_min=formulation.sigma_min, sigma_max=formulation.sigma_max, sigma_data=formulation.sigma_data
        )
    assert isinstance(formulation, VPrediction)
    return DPMSolverMultistepScheduler(
        num_train_timesteps=formulation.train_steps,
        trained_betas=formulation.betas().tolist(),
        prediction_type="v_prediction",
        rescale_betas_zero_snr=formulation.zero_terminal_snr,
        timestep_spacing="trailing",
    )


def fitting_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of `weights` that `module` has by name and shape (its other weights stay as they are)."""
    own = module.state_dict()
    return {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}


def train(job: Job) -> None:
    """Train as job.slice says and write the generator's folder; resumes from its own state."""
    from synthgain.generators.training import train_diffusion  # keeps accelerate out of jobs that only draw

    train_diffusion(job)
