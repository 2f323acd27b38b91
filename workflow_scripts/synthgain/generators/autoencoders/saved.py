"""An autoencoder's local folder: whether it is one, and whether its sizes are those of the study. No torch here."""

from pathlib import Path

from synthgain.networks.weight_folder import CONFIG, saved_config
from synthgain.runtime.errors import SynthGainError

WEIGHTS = "diffusion_pytorch_model.safetensors"
KIND = "AutoencoderKL"


def check_saved(folder: Path, place: str, channels: int, latent_channels: int, downsampling: int) -> None:
    """Raise SynthGainError where `folder` is no AutoencoderKL of diffusers, or its sizes are not these.

    place: of the autoencoder in the config; channels: of the image, and of the masks that go with it.
    """
    config = saved_config(folder, WEIGHTS, f"{place}.folder")
    if config.get("_class_name") != KIND:
        found = config.get("_class_name")
        raise SynthGainError(f"{place}.folder: {folder / CONFIG} is of {found!r}, wanted {KIND!r}")
    levels = config.get("block_out_channels")
    has = {
        "channels": (config.get("in_channels"), channels, "of image and masks"),
        "latent_channels": (config.get("latent_channels"), latent_channels, "of the config"),
        "downsampling": (2 ** (len(levels) - 1) if isinstance(levels, list) else None, downsampling, "of the config"),
    }
    for what, (found, wanted, of) in has.items():
        if found != wanted:
            raise SynthGainError(f"{place}: {what} {wanted} {of}, but {folder} has {found}; make them one")
