"""The diffusion family: a U-Net, its condition encoder and a formulation, trained, saved and loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import diffusers
import numpy as np
import pandas as pd
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from synthgain.data.image_set import Columns
from synthgain.data.options import Prompt
from synthgain.entry import checked
from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.diffusion.formulations import Formulation, saved_formulation
from synthgain.generators.diffusion.mask_condition import CONTROLNET, UNKNOWN, checked_masks, evaluate_conditioned
from synthgain.generators.loading import Condition, SavedGenerator, check_parts, saved_parts
from synthgain.generators.prompting import Prompting, Text, TextEncoder
from synthgain.networks.frozen_text import FrozenEncoder
from synthgain.networks.recording import Recorded
from synthgain.networks.unet import prepare_memory_format
from synthgain.networks.words import WordEncoder
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_json

if TYPE_CHECKING:
    from synthgain.networks.autoencoder import LatentSpace

Part = TypeVar("Part", bound=ModelMixin)
NETWORK_CLASSES = ("UNet2DModel", "UNet2DConditionModel")  # of diffusers


class ConditionalNetwork(nn.Module):
    """U-Net, encoders and control network (or None) as one module for one optimiser, average and DDP wrapper.

    With a control network the others stay as they are: frozen, and without dropout.
    """

    def __init__(
        self,
        network: ModelMixin,
        encoder: ConditionEncoder,
        control: ModelMixin | None = None,
        text: WordEncoder | FrozenEncoder | None = None,
    ) -> None:
        super().__init__()
        self.network, self.encoder, self.control, self.text = network, encoder, control, text
        if control is not None:
            for part in self.frozen:
                part.requires_grad_(False)

    @property
    def saved(self) -> dict[str, ModelMixin]:
        """The parts that it has, by the folder that each is saved in."""
        parts = {
            "network": self.network,
            "condition_encoder": self.encoder,
            "control_network": self.control,
            "text_encoder": self.text,
        }
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def frozen(self) -> list[nn.Module]:
        """What stays as it is beside a control network."""
        return [part for part in (self.network, self.encoder, self.text) if part is not None]

    def forward(
        self,
        scaled: Tensor,
        time: Tensor,
        values: Tensor,
        null: Tensor,
        masks: Tensor | None,
        words: Tensor | None = None,
    ) -> Tensor:
        """Return the network's output (N,C,H,W) for values (N, columns) float32, null (N, columns) bool and masks.

        masks: (N,K,H,W) float32 in {-1, 0 (not known), 1}, or None; words: inputs of the text encoder, or None.
        """
        vector, told = condition_of(self.encoder, self.text, values, null, words)
        return evaluate_conditioned(self.network, self.control, scaled, time, vector, masks, told)

    def train(self, mode: bool = True) -> "ConditionalNetwork":
        """Switch to training (or back); what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.control is not None:
            for part in self.frozen:
                part.eval()
        return self

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the weights that training changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def condition_of(
    encoder: ConditionEncoder, text: TextEncoder | None, values: Tensor, null: Tensor, words: Tensor | None
) -> tuple[Tensor, Text | None]:
    """Return the vector (N, D) of columns and text, and what the network attends to of the text."""
    vector = encoder(values, null)
    if text is None or words is None:
        return vector, None
    tokens, mask, of_text = text(words)
    return vector + of_text, Text(tokens, mask)


@dataclass
class DiffusionGenerator:
    """A trained generator: what samplers, filters and membership tests see of it.

    condition: {"vector": (N, D) float32, "null": (N, columns) bool, "values": (N, columns) float32}, and where it
        is conditioned on masks "image": (N, K, H, W) float32 in {-1, 1}, all 0 where the mask is not known; with a
        text also "tokens" (N, T, width) float32 and "token_mask" (N, T) bool.
    latents: the autoencoder whose latents it denoises, None for a generator of pixels.
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
    text: WordEncoder | FrozenEncoder | None = None
    prompting: Prompting | None = None
    recorded: Callable[..., Tensor] | None = None
    latents: "LatentSpace | None" = None

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(channels, H, W) of what is denoised: the image, or its latent."""
        return self.image_shape if self.latents is None else self.latents.shape(self.image_shape[-1])

    def encode(self, images: Tensor) -> Tensor:
        """Return the samples (N, *sample_shape) of images (N, *image_shape) in [-1, 1]: of latents their mean."""
        return images if self.latents is None else self.latents.posterior(images)[0]

    def decode(self, samples: Tensor) -> Tensor:
        """Return the images (N, *image_shape) of samples (N, *sample_shape)."""
        return samples if self.latents is None else self.latents.decode(samples)

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
        """Standard deviation of the training pixels in [-1, 1], 1 of latents."""
        return self.formulation.sigma_data

    def denoise(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Return the expected clean sample (N, *sample_shape) float32 of x = x0 + sigma · noise; sigma (N,).

        A sample is an image in [-1, 1], or a standardised latent.
        """
        told = tuple(condition.get(name) for name in ("image", "tokens", "token_mask"))
        evaluate = self.recorded or self.evaluate
        return self.formulation.denoise(
            lambda scaled, time: evaluate(scaled, time, condition["vector"], *told), x, sigma
        )

    def evaluate(
        self,
        scaled: Tensor,
        time: Tensor,
        vector: Tensor,
        masks: Tensor | None,
        tokens: Tensor | None = None,
        token_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the network's output (N,C,H,W) for scaled samples, time (N,), vector (N,D), masks (N,K,H,W), text."""
        text = None if tokens is None or token_mask is None else Text(tokens, token_mask)
        return evaluate_conditioned(self.network, self.control, scaled, time, vector, masks, text)

    def record(self) -> None:
        """Replay the network from now on as a CUDA graph; `denoise` must then be called below inference mode."""
        self.recorded = Recorded(self.evaluate)

    def encode_conditions(self, table: pd.DataFrame, masks: Tensor | None = None) -> Condition:
        """Return the condition of each row; missing values become the column's learned null.

        masks: (N, K, H, W) in {-1, 1}, planes in the order of `structures`; None: not known. A generator with a text
        reads the table's `prompt`, or makes prompts of its rows as in training. Raises SynthGainError for masks of
        another shape or other values, or where the generator takes none.
        """
        values, null = self.encoder.encode_table(table)
        words = None
        if self.text is not None and self.prompting is not None:
            words = self.text.inputs_of(self.prompting.prompts_of(table))
        if masks is not None and self.mask_by is None:
            raise SynthGainError("masks given as condition of a generator without `mask` in its condition_on")
        if masks is not None:
            masks = checked_masks(masks, len(table), self.structures, self.image_shape[-1])
        return self._condition(torch.from_numpy(values), torch.from_numpy(null), masks, words)

    def readable(self, table: pd.DataFrame) -> np.ndarray:
        """Return which rows it can be told of (N,) bool: not those whose text has a word that it never saw."""
        if self.text is None or self.prompting is None:
            return np.ones(len(table), dtype=bool)
        prompts = self.prompting.prompts_of(table)
        known = {prompt: _reads(self.text, prompt) for prompt in set(prompts)}
        return np.array([known[prompt] for prompt in prompts], dtype=bool)

    def null_condition(self, n: int, prompt: str | None = None) -> Condition:
        """Return the condition of `n` samples of which nothing is known but the `prompt`, if any.

        Raises SynthGainError where it is given to a generator without a text.
        """
        if prompt is not None and self.text is None:
            raise SynthGainError("negative_prompt: the generator is told of no text; leave it out")
        words = None if prompt is None or self.text is None else self.text.inputs_of([prompt] * n)
        shape = (n, len(self.encoder.columns))
        return self._condition(torch.zeros(shape), torch.ones(shape, dtype=torch.bool), words=words)

    @torch.no_grad()
    def _condition(
        self, values: Tensor, null: Tensor, masks: Tensor | None = None, words: Tensor | None = None
    ) -> Condition:
        values, null = values.to(self.device), null.to(self.device)
        if self.text is not None:
            words = (self.text.null_inputs(len(values)) if words is None else words).to(self.device)
        vector, told = condition_of(self.encoder, self.text, values, null, words)
        condition = {"vector": vector, "null": null, "values": values}
        if told is not None:
            condition |= {"tokens": told.tokens, "token_mask": told.mask}
        if self.mask_by is not None:
            if masks is None:
                masks = torch.full((len(values), len(self.structures), *self.image_shape[1:]), UNKNOWN)
            condition["image"] = masks.to(self.device)
        return condition


def load(
    folder: Path,
    snapshot: int | None = None,
    device: torch.device | str = "cpu",
    ema_decay: float | None = None,
) -> DiffusionGenerator:
    """Load a trained generator's averaged weights; every file is compared with the manifest's checksum."""
    names = ("network", "condition_encoder", "control_network", "text_encoder")
    saved, parts = saved_parts(folder, snapshot, names, ema_decay)
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
        _saved(_text_class(parts / "text_encoder"), parts / "text_encoder", place) if saved.text else None,
        _prompting(saved),
        latents=_latents(folder, place) if saved.autoencoder is not None else None,
    )


def _reads(text: TextEncoder, prompt: str) -> bool:
    try:
        text.inputs_of([prompt])
    except SynthGainError:
        return False
    return True


def _latents(folder: Path, device: torch.device) -> "LatentSpace":
    """Open the autoencoder that lies beside the snapshots, its files compared with their checksums."""
    from synthgain.networks.autoencoder import load_latents  # loads diffusers' autoencoders: only where used

    check_parts(folder, ("autoencoder",))
    return load_latents(folder / "autoencoder", device)


def _prompting(saved: SavedGenerator) -> Prompting | None:
    if saved.prompt is None:
        return None
    columns = cast(Columns, saved.prompt_columns)  # as written of them
    return Prompting(checked(Prompt, saved.prompt, "prompt"), columns)


def _saved(kind: type[Part], folder: Path, device: torch.device) -> Part:
    """Return the weights in `folder` as a module of `kind`, for inference."""
    module = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    module.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]  # diffusers wraps `to`
    prepare_memory_format(module)
    return module


def _text_class(folder: Path) -> type[WordEncoder] | type[FrozenEncoder]:
    name = str(read_json(folder / "config.json").get("_class_name"))
    return FrozenEncoder if name == FrozenEncoder.__name__ else WordEncoder


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
    """Write `network/`, `condition_encoder/` and, if any, `control_network/` and `text_encoder/` as diffusers does."""
    for name, part in module.saved.items():
        part.save_pretrained(folder / name, safe_serialization=True)


def fitting_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of `weights` that `module` has by name and shape (its other weights stay as they are)."""
    own = module.state_dict()
    return {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
