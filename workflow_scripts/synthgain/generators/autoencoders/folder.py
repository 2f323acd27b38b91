"""An autoencoder from a local folder, as diffusers writes it: safetensors alone, nothing is fetched or executed."""

import json
import os
from pathlib import Path

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from synthgain.generators.autoencoders.options import AutoencoderSlice
from synthgain.generators.autoencoders.publishing import facts_of, scaled
from synthgain.generators.training_data import job_training_data, training_slice
from synthgain.networks.autoencoder import downsampling_of
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import files_below, sha256_file, write_manifest

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


def read_autoencoder(job: Job) -> None:
    """Check the folder, standardise its latents on the training images, measure it and publish it."""
    entry = training_slice(AutoencoderSlice, job)
    place, target = f"autoencoders.{entry.autoencoder}", job.outputs[0].parent
    source = Path(os.environ.get("SYNTHGAIN_DATA", "")) / str(entry.folder)
    check_folder(source, place, entry.sha256)
    network = AutoencoderKL.from_pretrained(source, use_safetensors=True, local_files_only=True)
    data = job_training_data(job, place)
    found = {
        "channels of the image": (int(network.config["in_channels"]), data.images.shape[1]),
        "latent_channels": (int(network.config["latent_channels"]), entry.latent_channels),
        "downsampling": (downsampling_of(network), entry.downsampling),
    }
    for what, (has, wanted) in found.items():
        if has != wanted:
            raise SynthGainError(f"{place}: {what} {wanted}, but {source} has {has}; make them one")
    scaled(network, data.images).save_pretrained(target / "autoencoder", safe_serialization=True)
    facts = facts_of(job, target / "autoencoder", {})
    files = [f"autoencoder/{name}" for name in files_below(target / "autoencoder")]
    shape = list(data.images.shape[1:])
    about = {"autoencoder": entry.autoencoder, "image_shape": shape, "output": entry.output}
    write_manifest(job.outputs[0], job.identity, files, **about, folder=entry.folder, **facts)


def check_folder(folder: Path, place: str, sha256: str | None) -> None:
    """Raise SynthGainError where `folder` is no autoencoder of diffusers with safetensors weights of this checksum."""
    if not (folder / CONFIG).is_file():
        raise SynthGainError(f"{place}.folder: {folder} has no {CONFIG}; give the folder that diffusers wrote")
    try:
        name = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise SynthGainError(f"{place}.folder: {folder / CONFIG} is not readable as JSON") from error
    if name != "AutoencoderKL":
        raise SynthGainError(f"{place}.folder: {folder / CONFIG} is of {name!r}, wanted 'AutoencoderKL'")
    if not (folder / WEIGHTS).is_file():
        others = sorted(path.name for path in folder.glob("*.bin"))
        hint = f"{others[0]} is a pickle, which is never opened; save it as safetensors" if others else "it is missing"
        raise SynthGainError(f"{place}.folder: no {WEIGHTS} in {folder}; {hint}")
    has = sha256_file(folder / WEIGHTS)
    if sha256 is not None and has != sha256:
        raise SynthGainError(f"{place}.sha256: {folder / WEIGHTS} has {has}, not the {sha256} of the config")
