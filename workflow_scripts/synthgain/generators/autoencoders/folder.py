"""An autoencoder from a local folder, as diffusers writes it: safetensors alone, nothing is fetched or executed."""

import os
from pathlib import Path

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors import SafetensorError

from synthgain.generators.autoencoders.options import AutoencoderSlice
from synthgain.generators.autoencoders.publishing import facts_of, scaled
from synthgain.generators.autoencoders.saved import WEIGHTS, check_saved
from synthgain.generators.training_data import job_training_data, training_slice
from synthgain.networks.weight_folder import check_checksum
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import files_below, sha256_file, write_manifest


def read_autoencoder(job: Job) -> None:
    """Check the folder, standardise its latents on the training images, measure it and publish it."""
    entry = training_slice(AutoencoderSlice, job)
    place, target = f"autoencoders.{entry.autoencoder}", job.outputs[0].parent
    source = Path(os.environ.get("SYNTHGAIN_DATA", "")) / str(entry.folder)
    data = job_training_data(job, place)
    check_saved(source, place, data.images.shape[1], entry.latent_channels, entry.downsampling)
    check_checksum(source / WEIGHTS, sha256_file(source / WEIGHTS), entry.sha256, f"{place}.sha256")
    network = opened(source, place)
    scaled(network, data.images).save_pretrained(target / "autoencoder", safe_serialization=True)
    facts = facts_of(job, target / "autoencoder", {})
    files = [f"autoencoder/{name}" for name in files_below(target / "autoencoder")]
    shape = list(data.images.shape[1:])
    about = {"autoencoder": entry.autoencoder, "image_shape": shape, "output": entry.output}
    write_manifest(job.outputs[0], job.identity, files, **about, folder=entry.folder, **facts)


def opened(folder: Path, place: str) -> AutoencoderKL:
    """Return the autoencoder in a folder that `check_saved` took; SynthGainError where its weights cannot be read."""
    try:
        network: AutoencoderKL = AutoencoderKL.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise SynthGainError(f"{place}.folder: {folder} cannot be read as an autoencoder ({said.strip()})") from None
    return network
