"""The diffusion family: a U-Net, its condition encoder and a formulation, trained, saved and loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import diffusers
import pandas as pd
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.diffusion.formulations import Formulation, saved_formulation
from synthgain.generators.diffusion.mask_condition import CONTROLNET, UNKNOWN, checked_masks, evaluate_conditioned
from synthgain.generators.loading import Condition, saved_parts
from synthgain.networks.recording import Recorded
from synthgain.networks.unet import prepare_memory_format
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json

Part = TypeVar("Part", bound=ModelMixin)
NETWORK_CLASSES = ("UNet2DModel", "UNet2DConditionModel")  # of diffusers


class ConditionalNetwork(nn.Module):
    """U-Net, encoder and control network (or None) as one module for one optimiser, average and DDP wrapper.

    With a control network the other two stay as they are: frozen, and without dropout.
    """

    def __init__(self, network: ModelMixin, encoder: ConditionEncoder, control: ModelMixin | None = None) -> None:
        super().__init__()
        self.network, self.encoder, self.control = network, encoder, control
        if control is not None:
            network.requires_grad_(False)
            encoder.requires_grad_(False)

    def forward(self, scaled: Tensor, time: Tensor, values: Tensor, null: Tensor, masks: Tensor | None) -> Tensor:
        """Return the network's output (N,C,H,W) for values (N, columns) float32, null (N, columns) bool and masks.

        masks: (N,K,H,W) float32 in {-1, 0 (not known), 1}, or None.
        """
        return evaluate_conditioned(self.network, self.control, scaled, time, self.encoder(values, null), masks)

    def train(self, mode: bool = True) -> "ConditionalNetwork":
        """Switch to training (or back); what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.control is not None:
            self.network.eval()
            self.encoder.eval()
        return self

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the weights that training changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


@dataclass
class DiffusionGenerator:
    """A trained generator: what samplers, filters and membership tests see of it.

    condition: {"vector": (N, D) float32, "null": (N, columns) bool, "values": (N, columns) float32}, and where it
        is conditioned on masks "image": (N, K, H, W) float32 in {-1, 1}, all 0 where the mask is not known.
    image_shape: (channels, H, W) of what it draws; with `output` image+mask the first `image_channels` are the image,
        the others the masks of `structures` in [-1, 1], with `mask` all are masks (image_channels 0).
    recorded: `evaluate` as a CUDA graph, after `record`.
    structures: masks drawn, or conditioned on where `mask_by` is "concatenation" or "controlnet".
    """

    network: ModelMixin  # UNet2DModel or UNet2DConditionModel
    encoder: ConditionEncoder
    formulation: Formulation
    image_shape: tuple[int, int, int]
    device: torch.device
    image_channels: int
    output: str = "image"
    structures: tuple[str, ...] = ()
    mask_by: str | None = None
    control: ModelMixin | None = None  # ControlNetModel
    recorded: Callable[..., Tensor] | None = None

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
        vector, masks = condition["vector"], condition.get("image")
        evaluate = self.recorded or self.evaluate
        return self.formulation.denoise(lambda scaled, time: evaluate(scaled, time, vector, masks), x, sigma)

    def evaluate(self, scaled: Tensor, time: Tensor, vector: Tensor, masks: Tensor | None) -> Tensor:
        """Return the network's output (N,C,H,W) for scaled samples, time (N,), vector (N,D) and masks (N,K,H,W)."""
        return evaluate_conditioned(self.network, self.control, scaled, time, vector, masks)

    def record(self) -> None:
        """Replay the network from now on as a CUDA graph; `denoise` must then be called below inference mode."""
        self.recorded = Recorded(self.evaluate)

    def encode_conditions(self, table: pd.DataFrame, masks: Tensor | None = None) -> Condition:
        """Return the condition of each row; missing values become the column's learned null.

        masks: (N, K, H, W) in {-1, 1}, planes in the order of `structures`; None: not known. Raises SynthGainError
        for masks of another shape or other values, or where the generator takes none.
        """
        values, null = self.encoder.encode_table(table)
        if masks is not None and self.mask_by is None:
            raise SynthGainError("masks given as condition of a generator without `mask` in its condition_on")
        if masks is not None:
            masks = checked_masks(masks, len(table), self.structures, self.image_shape[-1])
        return self._condition(torch.from_numpy(values), torch.from_numpy(null), masks)

    def null_condition(self, n: int) -> Condition:
        """Return the condition of `n` samples of which nothing is known."""
        shape = (n, len(self.encoder.columns))
        return self._condition(torch.zeros(shape), torch.ones(shape, dtype=torch.bool))

    @torch.no_grad()
    def _condition(self, values: Tensor, null: Tensor, masks: Tensor | None = None) -> Condition:
        values, null = values.to(self.device), null.to(self.device)
        condition = {"vector": self.encoder(values, null), "null": null, "values": values}
        if self.mask_by is not None:
            if masks is None:
                masks = torch.full((len(values), len(self.structures), *self.image_shape[1:]), UNKNOWN)
            condition["image"] = masks.to(self.device)
        return condition


def load(folder: Path, snapshot: int | None = None, device: torch.device | str = "cpu") -> DiffusionGenerator:
    """Load a trained generator's averaged weights; every file is compared with the manifest's checksum."""
    saved, parts = saved_parts(folder, snapshot, ("network", "condition_encoder", "control_network"))
    place = torch.device(device)
    control: ModelMixin | None = None
    if saved.mask_by == CONTROLNET:
        control = _saved(_diffusers("ControlNetModel"), parts / "control_network", place)
    return DiffusionGenerator(
        _saved(_network_class(parts / "network"), parts / "network", place),
        _saved(ConditionEncoder, parts / "condition_encoder", place),
        saved_formulation(saved.formulation),
        saved.image_shape,
        place,
        saved.drawn_channels,
        saved.output,
        saved.structures,
        saved.mask_by,
        control,
    )


def _saved(kind: type[Part], folder: Path, device: torch.device) -> Part:
    """Return the weights in `folder` as a module of `kind`, for inference."""
    module = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    module.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]  # diffusers wraps `to`
    prepare_memory_format(module)
    return module


def _network_class(folder: Path) -> type[ModelMixin]:
    name = str(read_json(folder / "config.json").get("_class_name"))
    if name not in NETWORK_CLASSES:
        raise SynthGainError(f"{folder}/config.json: network {name!r}; known are {', '.join(NETWORK_CLASSES)}")
    return _diffusers(name)


def _diffusers(name: str) -> type[ModelMixin]:
    """Return a class of diffusers by its name, so that only what is used is loaded."""
    kind: type[ModelMixin] = getattr(diffusers, name)
    return kind


def save_parts(folder: Path, module: ConditionalNetwork) -> None:
    """Write `network/`, `condition_encoder/` and, if any, `control_network/` as diffusers does (safetensors)."""
    parts = {"network": module.network, "condition_encoder": module.encoder, "control_network": module.control}
    for name, part in parts.items():
        if part is not None:
            part.save_pretrained(folder / name, safe_serialization=True)


def fitting_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of `weights` that `module` has by name and shape (its other weights stay as they are)."""
    own = module.state_dict()
    return {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
