"""Opens a trained generator of any family, and finds its whole weights."""

from pathlib import Path
from typing import Any

import torch

from synthgain.registry import FAMILIES
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, read_manifest
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


def saved_parts(folder: Path, snapshot: int | None, parts: tuple[str, ...]) -> tuple[dict[str, Any], Path]:
    """Return a generator's manifest and the folder that holds `parts` of `snapshot` (None: the last).

    parts: names of subfolders, every file of which is compared with the manifest's checksum. Raises SynthGainError
    if one is damaged or there is no such snapshot.
    """
    manifest = read_manifest(folder / "manifest.json")
    steps = manifest["snapshots"]
    if snapshot is not None and snapshot not in steps:
        raise SynthGainError(f"{folder}: no snapshot {snapshot}; kept are {', '.join(map(str, steps))}")
    place = "" if snapshot is None else f"snapshots/{snapshot}/"
    for name, listed in manifest["files"].items():
        if name.startswith(tuple(f"{place}{part}/" for part in parts)):
            check_file(folder, name, listed)
    return manifest, folder / place
