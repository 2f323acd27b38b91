"""An autoencoder's local folder: whether it is one, and whether its sizes are those of the study. No torch here."""

from pathlib import Path

from pydantic import BaseModel, Field

from synthgain.entry import checked
from synthgain.networks.weight_folder import CONFIG, saved_config
from synthgain.runtime.errors import SynthGainError

WEIGHTS = "diffusion_pytorch_model.safetensors"
KIND = "AutoencoderKL"


class SavedAutoencoder(BaseModel):
    """What config.json of diffusers' autoencoder says of its sizes; None: nothing."""

    kind: str | None = Field(None, alias="_class_name")
    in_channels: int | None = None
    latent_channels: int | None = None
    block_out_channels: list[int] = []


def check_saved(folder: Path, place: str, channels: int, latent_channels: int, downsampling: int) -> None:
    """Raise SynthGainError where `folder` is no AutoencoderKL of diffusers, or its sizes are not these.

    place: of the autoencoder in the config; channels: of the image, and of the masks that go with it.
    """
    config = checked(SavedAutoencoder, saved_config(folder, WEIGHTS, f"{place}.folder"), str(folder / CONFIG))
    if config.kind != KIND:
        raise SynthGainError(f"{place}.folder: {folder / CONFIG} is of {config.kind!r}, wanted {KIND!r}")
    levels = config.block_out_channels
    has = {
        "channels": (config.in_channels, channels, "of image and masks"),
        "latent_channels": (config.latent_channels, latent_channels, "of the config"),
        "downsampling": (2 ** (len(levels) - 1) if levels else None, downsampling, "of the config"),
    }
    for what, (found, wanted, of) in has.items():
        if found != wanted:
            raise SynthGainError(f"{place}: {what} {wanted} {of}, but {folder} has {found}; make them one")
