"""A few training steps of an autoencoder, and images into its latents and back, by the code that trains and draws."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from synthgain.device import chosen_device
from synthgain.generators.autoencoders.publishing import scaled
from synthgain.generators.autoencoders.training import prepare_run
from synthgain.networks.autoencoder import BATCH, build, load_latents
from synthgain.runtime.files import digest, files_below, write_manifest
from synthgain.runtime.inputs import NamedInputs
from synthgain.speed.clock import Ticks, memory_gb, repeats, timed
from synthgain.speed.documents import AutoencoderKind, ImageKind, Measured
from synthgain.speed.random_data import IDENTITY, one_input, write_random_data
from synthgain.speed.training import FIRST_STEPS, ticked_training

HELD_OUT = 2  # images on which the training measures itself at its end
TRIED_IMAGES = 8  # of the first pass, which tells whether a whole batch can be afforded
PART = "autoencoder"  # its folder below that of its job


def measure_autoencoder(kind: Mapping[str, object], image: ImageKind, folder: Path, threads: int) -> Measured:
    """Return how fast an autoencoder (AutoencoderKind) takes a step, encodes an image, and decodes one (a pass)."""
    entry, device = AutoencoderKind.model_validate(kind), chosen_device()
    torch.set_num_threads(threads)
    step = None
    if entry.folder is None:
        ticks = _train(entry, image, folder, threads, FIRST_STEPS)
        if repeats(ticks.last()) > FIRST_STEPS:
            ticks = _train(entry, image, folder, threads, repeats(ticks.last()))
        step = ticks.rate()
    place = written_autoencoder(entry, image, folder)
    space = load_latents(place / PART, device)
    images = torch.zeros(TRIED_IMAGES, space.channels, image.size, image.size, device=device)
    first = timed(lambda: space.posterior(images), device, 1 / TRIED_IMAGES)
    count = BATCH if repeats(first.seconds * BATCH) > 1 else TRIED_IMAGES
    batch = images[:1].repeat(count, 1, 1, 1)
    encoding = timed(lambda: space.posterior(batch), device, 1 / count)
    latents = torch.zeros(count, *space.shape(image.size), device=device)
    decoding = timed(lambda: space.decode(latents), device, 1 / count)
    return Measured.model_validate({"step": step, "image": encoding, "pass": decoding, **memory_gb(device)})


def written_autoencoder(entry: AutoencoderKind, image: ImageKind, folder: Path) -> Path:
    """Return the folder of an autoencoder with its scale and a manifest; untrained, made where it is missing."""
    place = folder / "written" / _name(entry)
    if not (place / "manifest.json").exists():
        channels = image.channels + len(entry.structures)
        if entry.folder is None:
            widths, layers = entry.network.block_out_channels, entry.network.layers_per_block
            network = build(entry.downsampling, entry.latent_channels, channels, image.size, widths, layers)
        else:
            source = Path(os.environ.get("SYNTHGAIN_DATA", "")) / entry.folder
            network = AutoencoderKL.from_pretrained(source, use_safetensors=True, local_files_only=True)
        pixels = np.random.default_rng(0).integers(0, 256, (4, channels, image.size, image.size), dtype=np.uint8)
        scaled(network, torch.from_numpy(pixels)).save_pretrained(place / PART, safe_serialization=True)
        write_manifest(place / "manifest.json", IDENTITY, [f"{PART}/{name}" for name in files_below(place / PART)])
    return place


def autoencoder_input(entry: AutoencoderKind, image: ImageKind, folder: Path, run: Path, name: str) -> NamedInputs:
    """Return an autoencoder as the input of a generator's job in the run folder `run`, under the name `name`."""
    place = written_autoencoder(entry, image, folder)
    return one_input("autoencoders", name, os.path.relpath(place / "manifest.json", run), run, IDENTITY)


def _name(entry: AutoencoderKind) -> str:
    return f"a{digest(entry.json_values())}"  # a name starts with a letter


def _train(entry: AutoencoderKind, image: ImageKind, folder: Path, threads: int, steps: int) -> Ticks:
    """Train an autoencoder afresh for some steps; return when each step began."""
    name, run = _name(entry), folder / _name(entry)
    counts = {"train": max(entry.training.batch_size, TRIED_IMAGES), "validation": HELD_OUT}
    inputs = write_random_data(run, name, counts, image, (), (), entry.structures)
    facts = {
        **entry.slice(),
        "autoencoder": name,
        "train_on": {"datasets": [name]},
        "seed": 0,
        "training": {"steps": steps, **entry.training.model_dump()},
    }
    output = run / "autoencoders" / name / "manifest.json"
    return ticked_training(facts, inputs, output, run, threads, prepare_run)
