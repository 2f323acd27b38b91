"""What every autoencoder is published with: the scale of its latents, and what was measured on held-out patients."""

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from synthgain.data.pixels import to_signed
from synthgain.generators.autoencoders.gates import measure
from synthgain.generators.autoencoders.options import AutoencoderSlice
from synthgain.generators.training_data import TrainingData, job_held_out_data, training_slice
from synthgain.networks.autoencoder import BATCH, load_latents, raw_posterior
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError

Seen = dict[str, str]  # {sha256 of an image: its patient}


@torch.no_grad()
def scaled(network: AutoencoderKL, images: Tensor) -> AutoencoderKL:
    """Note in the network's config mean and standard deviation of each latent channel over images (N,C,H,W) uint8.

    Of drawn latents: the posterior's own variance counts. The sums are in float64.
    """
    network.eval()
    device = next(network.parameters()).device
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for part in images.split(BATCH):
        mean, sd = (side.double().cpu() for side in raw_posterior(network, to_signed(part).to(device)))
        total = total + mean.sum(dim=(0, 2, 3))
        squares = squares + (mean.square() + sd.square()).sum(dim=(0, 2, 3))
        count += mean.shape[0] * mean.shape[2] * mean.shape[3]
    centre = total / count
    spread = (squares / count - centre.square()).clamp_min(1e-12).sqrt()
    network.register_to_config(latents_mean=centre.tolist(), latents_std=spread.tolist())
    return network


def seen_by(data: TrainingData) -> Seen:
    """Return the training images by their checksum."""
    return dict(zip(data.table["sha256"].astype(str), data.table["patient_id"].astype(str), strict=True))


def facts_of(job: Job, folder: Path, seen: Seen) -> dict[str, object]:
    """Return what the manifest says of the autoencoder in `folder`, measured on the job's held-out patients.

    Held-out images that it was trained on are named. Raises SynthGainError where a patient is on both sides.
    """
    entry = training_slice(AutoencoderSlice, job)
    held_out = job_held_out_data(job, f"autoencoders.{entry.autoencoder}")
    place = f"autoencoders.{entry.autoencoder}"
    if not len(held_out):
        raise SynthGainError(f"{place}: no held-out patient to measure it on; give a data set validation or test parts")
    both = sorted(set(seen.values()) & set(held_out.table["patient_id"].astype(str)))
    if both and len(entry.train_on.datasets) == 1:  # of several sets, two patients may have one name
        raise SynthGainError(f"{place}: patient {both[0]} is in the training part and held out; mend the split")
    shared = held_out.table["sha256"].astype(str).isin(seen)
    space = load_latents(folder)
    found = measure(space, held_out.images)
    names = held_out.table["image_id"].astype(str)[shared].tolist()
    return {
        "downsampling": space.downsampling,
        "latent_channels": entry.latent_channels,
        "latents_mean": [float(value) for value in space.mean.flatten()],
        "latents_std": [float(value) for value in space.sd.flatten()],
        "measured": found.model_copy(update={"also_trained_on": names}).model_dump(),
        "parameters": sum(parameter.numel() for parameter in space.network.parameters()),
    }
