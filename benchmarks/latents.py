"""Diffusion in latents against diffusion in pixels: images per second drawn and trained, and operations counted.

The pieces are timed in turn, in one process: an evaluation of each U-Net for a batch, decoding and encoding of a batch,
a training step. Images per second follow from them for STEPS solver steps; nothing else of a shard depends on the kind.
Two networks in latents: the program's default for the latent's size, and one as wide and deep as that of pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
from measure import Options, Row, clock_for, flops_of, interleaved, speed_up

from synthgain.device import chosen_device, memory_format
from synthgain.networks.autoencoder import LatentSpace
from synthgain.networks.autoencoder import build as build_autoencoder
from synthgain.networks.generator_options import UNET_SIZES
from synthgain.networks.unet import build, condition_dimension, evaluate, prepare_memory_format

STEPS, BATCH = 12, {"cpu": 2, "cuda": 32}
SIZE, DOWNSAMPLING = 128, {128: 4, 256: 8}  # px; factors as docs/text.md advises
REPEATS = 3
PLAIN: dict[str, Any] = {"attention_resolutions": []}
REACH = 4.0  # times the images per second of pixels


def measure(options: Options) -> Row:
    """Time the pieces at `options.size` px (128 unless given)."""
    device, size = chosen_device(), options.size or SIZE
    batch, factor = BATCH[device.type], DOWNSAMPLING.get(size, 4)
    space = _latent_space(size, factor, device)
    channels, side, _ = space.shape(size)
    widths, layers = UNET_SIZES[min(largest for largest in UNET_SIZES if size <= largest)]
    wide = {"block_out_channels": _fitting(widths, side), "layers_per_block": layers}
    networks = {
        "pixels": (build(PLAIN, size, 1), (1, size)),
        "latents": (build(PLAIN, side, channels), (channels, side)),
        "latents, as wide": (build(PLAIN | wide, side, channels), (channels, side)),
    }
    pieces: dict[str, Callable[[], object]] = {}
    flops: dict[str, float] = {}
    for name, (network, shape) in networks.items():
        prepared = prepare_memory_format(network.to(device))
        pieces[f"evaluate {name}"] = _evaluation(prepared, shape, batch, device)
        pieces[f"train {name}"] = _training_step(prepared, shape, batch, device)
        with torch.no_grad():
            flops[f"evaluate {name}"] = flops_of(_evaluation(prepared, shape, 1, device))
    images = torch.zeros(batch, 1, size, size, device=device)
    latents = torch.zeros(batch, *space.shape(size), device=device)
    pieces["encode"], pieces["decode"] = lambda: space.posterior(images), lambda: space.decode(latents)
    flops["encode"], flops["decode"] = (
        flops_of(lambda: space.posterior(images[:1])),
        flops_of(lambda: space.decode(latents[:1])),
    )
    times = interleaved(pieces, 1 if options.small else REPEATS)
    clock = clock_for(device)
    seconds = {name: times[name].median(clock) / batch for name in times}
    drawn = {
        name: STEPS * seconds[f"evaluate {name}"] + (0 if name == "pixels" else seconds["decode"]) for name in networks
    }
    counted = {
        name: STEPS * flops[f"evaluate {name}"] + (0 if name == "pixels" else flops["decode"]) for name in networks
    }
    trained = {name: speed_up(times[f"train {name}"], times["train pixels"], clock) for name in networks}
    gain = drawn["pixels"] / drawn["latents"]
    per_repeat = [
        STEPS * pixel / (STEPS * latent + decode)
        for pixel, latent, decode in zip(
            *(getattr(times[name], clock) for name in ("evaluate pixels", "evaluate latents", "decode")), strict=True
        )
    ]
    details = {
        "seconds_an_image": seconds,
        "images_per_second": {name: 1 / value for name, value in drawn.items()},
        "gigaflop_an_image": {name: value / 1e9 for name, value in counted.items()},
        "gigaflop_of_pieces": {name: value / 1e9 for name, value in flops.items()},
        "training_ratio": trained,
        "drawing_ratio": {name: drawn["pixels"] / value for name, value in drawn.items()},
    }
    note = (
        f"operations {counted['pixels'] / counted['latents']:.1f}x fewer; training {trained['latents'][0]:.0f}x; "
        f"as wide as in pixels {drawn['pixels'] / drawn['latents, as wide']:.1f}x; decoding is "
        f"{seconds['decode'] / drawn['latents']:.0%} of an image"
    )
    return Row(
        "latents", f"drawing in latents, images/s, {size} px, 1/{factor}, {STEPS} steps",
        f"{1 / drawn['latents']:.3g} images/s", f"{1 / drawn['pixels']:.3g} images/s in pixels",
        f">= {REACH:g}x", (gain, min([gain, *per_repeat]), max([gain, *per_repeat])), gain >= REACH, note, details,
    )  # fmt: skip


def _latent_space(size: int, factor: int, device: torch.device) -> LatentSpace:
    network = build_autoencoder(factor, 4, 1, size, None, None).to(device).eval().requires_grad_(False)
    return LatentSpace(network, torch.zeros(1, 4, 1, 1, device=device), torch.ones(1, 4, 1, 1, device=device))


def _fitting(widths: list[int], side: int) -> list[int]:
    """Return the widths that a latent of this side has levels for: the coarsest is 4 px at least."""
    levels = max(1, (side // 4).bit_length())
    return widths[:levels]


def _evaluation(network: Any, shape: tuple[int, int], batch: int, device: torch.device) -> Callable[[], object]:
    samples = torch.zeros(batch, shape[0], shape[1], shape[1], device=device).contiguous(
        memory_format=memory_format(device)
    )
    vector, level = torch.zeros(batch, condition_dimension(network), device=device), torch.ones(batch, device=device)

    def once() -> None:
        with torch.no_grad():
            evaluate(network, samples, level, vector)

    return once


def _training_step(network: Any, shape: tuple[int, int], batch: int, device: torch.device) -> Callable[[], object]:
    samples = torch.zeros(batch, shape[0], shape[1], shape[1], device=device).contiguous(
        memory_format=memory_format(device)
    )
    vector, level = torch.zeros(batch, condition_dimension(network), device=device), torch.ones(batch, device=device)

    def once() -> None:
        network.zero_grad()
        evaluate(network, samples, level, vector).square().mean().backward()

    return once
