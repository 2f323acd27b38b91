"""Opens a trained generator of any family, and finds its whole weights."""

from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from synthgain.entry import checked
from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.snapshots import average_folder
from synthgain.registry import FAMILIES
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, read_manifest
from synthgain.runtime.loading import load

Condition = dict[str, Tensor]


class Generator(Protocol):
    """A trained generator of any family: what it draws, where, and under which conditions.

    image_shape: (channels, H, W) of what it draws; output: image, image+mask (the first `image_channels` are the image,
    the others the masks of `structures`) or mask.
    """

    output: str
    structures: tuple[str, ...]
    image_channels: int
    image_shape: tuple[int, int, int]
    device: torch.device
    network: nn.Module
    encoder: ConditionEncoder

    def null_condition(self, n: int, prompt: str | None = None) -> Condition:
        """Return the condition of `n` samples of which nothing is known but the `prompt`, if any."""

    def encode_conditions(self, table: pd.DataFrame, masks: Tensor | None = None) -> Condition:
        """Return the condition of each row; masks: (N, K, H, W) in {-1, 1}, where the generator takes them."""


class Denoiser(Generator, Protocol):
    """A generator that takes noise away step by step, of images or of their latents (`sample_shape`)."""

    sigma_min: float
    sigma_max: float
    sigma_data: float

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(channels, H, W) of what is denoised."""

    def encode(self, images: Tensor) -> Tensor:
        """Return the samples (N, *sample_shape) of images (N, *image_shape) in [-1, 1]."""

    def decode(self, samples: Tensor) -> Tensor:
        """Return the images (N, *image_shape) of samples (N, *sample_shape)."""

    def readable(self, table: pd.DataFrame) -> np.ndarray:
        """Return which rows it can be told of, (N,) bool."""

    def denoise(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Return the expected clean sample (N, C, H, W) float32 of x = x0 + sigma · noise, sigma (N,)."""

    def record(self) -> None:
        """Replay the network from now on as a CUDA graph."""


class OneStep(Generator, Protocol):
    """A generator that makes an image of latent numbers at once."""

    latent_dim: int

    def generate(self, z: Tensor, condition: Condition) -> Tensor:
        """Return images (N, C, H, W) float32 in [-1, 1] of z (N, latent_dim), standard normal."""


def denoises(generator: Generator) -> TypeGuard[Denoiser]:
    """True for a generator that takes noise away step by step; the others are OneStep."""
    return hasattr(generator, "denoise")


def load_generator(
    folder: Path,
    snapshot: int | None = None,
    device: torch.device | str = "cpu",
    ema_decay: float | None = None,
) -> Generator:
    """Return the generator in `folder` (that of its manifest.json) with the weights of `snapshot` (None: the last).

    ema_decay: of the weight average, None: the first one. It is a Denoiser or OneStep. Raises SynthGainError if it is
    damaged or has no such snapshot.
    """
    manifest = read_manifest(folder / "manifest.json")
    try:
        family = load(FAMILIES, manifest.get("module", ""))
    except SynthGainError as error:
        raise SynthGainError(f"{folder}/manifest.json: the generator family {error}") from None
    chosen = {} if ema_decay is None else {"ema_decay": ema_decay}
    generator: Generator = family.load(folder, snapshot, device, **chosen)
    return generator


def check_parts(folder: Path, parts: tuple[str, ...]) -> None:
    """Compare every file of these subfolders with the manifest's checksum; SynthGainError if one is damaged."""
    for name, listed in read_manifest(folder / "manifest.json")["files"].items():
        if name.startswith(tuple(f"{part}/" for part in parts)):
            check_file(folder, name, listed)


class SavedGenerator(BaseModel):
    """What a generator's manifest says of it; image_channels is None where all that it draws is the image."""

    image_shape: tuple[int, int, int]
    image_channels: int | None = None
    output: str = "image"
    structures: tuple[str, ...] = ()
    mask_by: str | None = None
    formulation: dict[str, object] = {}
    text: bool = False
    autoencoder: str | None = None
    prompt: dict[str, object] | None = None
    prompt_columns: dict[str, dict[str, str | list[str]]] = {}

    @property
    def drawn_channels(self) -> int:
        """Channels of the image among what it draws."""
        return self.image_shape[0] if self.image_channels is None else self.image_channels


def saved_parts(
    folder: Path, snapshot: int | None, parts: tuple[str, ...], ema_decay: float | None = None
) -> tuple[SavedGenerator, Path]:
    """Return what a generator's manifest says and the folder that holds `parts` of `snapshot` (None: the last).

    ema_decay: of the weight average, None: the first one. parts: names of subfolders, every file of which is compared
    with the manifest's checksum. Raises SynthGainError if one is damaged or there is no such snapshot.
    """
    manifest = read_manifest(folder / "manifest.json")
    steps = manifest["snapshots"]
    if snapshot is not None and snapshot not in steps:
        raise SynthGainError(f"{folder}: no snapshot {snapshot}; kept are {', '.join(map(str, steps))}")
    place = "" if snapshot is None else f"snapshots/{snapshot}/"
    if ema_decay is not None:
        place = f"{place}{average_folder(ema_decay)}/"
        if not (folder / place).is_dir():
            raise SynthGainError(f"{folder}: no weights of ema_decay {ema_decay}; keep them (training.ema_decays)")
    check_parts(folder, tuple(f"{place}{part}" for part in parts))
    return checked(SavedGenerator, manifest, str(folder / "manifest.json")), folder / place
