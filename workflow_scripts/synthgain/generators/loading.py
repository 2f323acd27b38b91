"""Opens a trained generator of any family."""

from pathlib import Path
from typing import Any

import torch

from synthgain.registry import FAMILIES
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest
from synthgain.runtime.loading import load


def load_generator(folder: Path, snapshot: int | None = None, device: torch.device | str = "cpu") -> Any:
    """Return the generator in `folder` (that of its manifest.json) with the weights of `snapshot` (None: the last).

    It offers `kind`, `output`, `structures`, `image_channels`, `image_shape`, `device`, `null_condition(n)` and
    `encode_conditions(table)`; of kind "diffusion" also `denoise(x, sigma, condition)`, `sigma_min`, `sigma_max`,
    `sigma_data`, `mask_by` and `encode_conditions(table, masks)`; of kind "gan" `generate(z, condition)` and
    `latent_dim`. Raises SynthGainError if it is damaged or has no such snapshot.
    """
    manifest = read_manifest(folder / "manifest.json")
    try:
        family = load(FAMILIES, manifest.get("module", ""))
    except SynthGainError as error:
        raise SynthGainError(f"{folder}/manifest.json: the generator family {error}") from None
    return family.load(folder, snapshot, device)
