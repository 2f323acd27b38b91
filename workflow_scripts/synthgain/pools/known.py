"""Pools whose truth is known: they show whether the instrument gives the known verdict.

| kind | images | expected |
| --- | --- | --- |
| oracle | new patients of the phantom's law under the rows' conditions | helps |
| copier | the training images again | as `repeated`; memorised |
| jittered_copier | the same, slightly moved, brightened and noisy | memorised |
| reconstructed | the training images through an autoencoder and back | the ceiling of a generator in its latents |
| noise | white noise with the training images' mean and standard deviation | no help |
| label_shuffled | those of `base`, target columns permuted | no help |
| wrong_prevalence | those of `base` under a changed prevalence (`balance`) | calibration moves |
| mode_dropper | those of `base`, one level of a column missing | recall falls |
| part_copier | those of `base`, a share of them the training images again | memorised |
"""

import dataclasses
from collections.abc import Callable
from typing import get_args

import numpy as np
import pandas as pd
import torch

from synthgain.device import chosen_device
from synthgain.entry import checked
from synthgain.pools.conditions import sample_seeds, without_level
from synthgain.pools.known_checks import known_problem
from synthgain.pools.options import Kind, KnownOptions
from synthgain.pools.shards import Drawn, ShardRequest, positions_of, shard_bounds
from synthgain.runtime.command import Progress
from synthgain.runtime.errors import SynthGainError

# The jitter of `jittered_copier`: too small to change a label, large enough that no pixel stays equal.
JITTER_SHIFT = 0.03  # largest shift, as a share of the image side
JITTER_GAIN = 0.05  # largest relative change of contrast
JITTER_OFFSET = 6.0  # largest change of brightness, grey levels
JITTER_NOISE = 3.0  # standard deviation of the added noise, grey levels
FILMS_A_CALL = 32  # oracle films between two progress lines

Pixels = tuple[np.ndarray, np.ndarray | None]  # images (N, H, W, C) uint8, masks (N, H, W, K) uint8 or None


def draw(request: ShardRequest) -> Drawn:
    """Draw one shard of a known-answer pool.

    options: {kind, base (kinds that build on another: oracle by default), drop: {column: level}
    (mode_dropper), copies: share (part_copier)}. Raises SynthGainError for an unknown kind, an oracle of
    data without a law, a missing `drop`, `copies` or `balance`.
    """
    kind, base = _kinds(request)
    source, _ = request.rows_of()
    if kind == "label_shuffled":
        request = dataclasses.replace(request, conditions={**request.conditions, "shuffled": True})
    rows = request.rows()
    if kind == "mode_dropper":
        rows = without_level(rows, source.columns, request.options["drop"], request.keys)
    start, stop = shard_bounds(len(rows), request.shard, request.shards)
    seeds = sample_seeds(rows, request.keys)
    images, masks = BASES[base](request, rows.iloc[start:stop], seeds[start:stop])
    if kind == "part_copier":
        own = copied(request.keys.replica, len(rows), float(request.options["copies"]))[start:stop]
        again, its_masks = copier(request, rows.iloc[start:stop][own], seeds[start:stop][own])
        images[own] = again
        if masks is not None and its_masks is not None:
            masks[own] = its_masks
    table = request.table_of(rows).iloc[start:stop].reset_index(drop=True)
    if masks is not None:
        table = table.assign(**_mask_columns(request, rows.iloc[start:stop], base))
    names = source.mask_names if masks is not None else []
    return Drawn(images, table, source.columns, masks, names, {"known": {"kind": kind, "base": base}})


def copied(replica: int, rows: int, share: float) -> np.ndarray:
    """Which of a replica's rows are exact copies: (rows,) bool, evenly spread over a pool's order.

    The first n images of a pool hold floor(n · share) copies, whatever the cut into replicas and shards.
    """
    before = replica * rows + np.arange(rows)
    exact = np.floor(np.round((before + 1) * share, 9)) > np.floor(np.round(before * share, 9))
    return np.asarray(exact)


def copier(request: ShardRequest, rows: pd.DataFrame, seeds: np.ndarray) -> Pixels:
    """Return the rows' own images and masks."""
    source, _ = request.rows_of()
    positions = positions_of(source, rows["image_id"])
    return source.images[positions], None if source.masks is None else source.masks[positions]


def jittered_copier(request: ShardRequest, rows: pd.DataFrame, seeds: np.ndarray) -> Pixels:
    """Return the rows' images and masks, each shifted together, the image's grey levels changed a little."""
    images, masks = copier(request, rows, seeds)
    moved = [jitter(image, np.random.default_rng(int(seed))) for image, seed in zip(images, seeds, strict=True)]
    jittered = np.stack([image for image, _ in moved]) if moved else images
    if masks is not None:
        masks = np.stack([shifted(mask, *by) for mask, (_, by) in zip(masks, moved, strict=True)]) if moved else masks
    return jittered, masks


def reconstructed(request: ShardRequest, rows: pd.DataFrame, seeds: np.ndarray) -> Pixels:
    """Return the rows' images after the autoencoder that `options` names; their masks stay."""
    from synthgain.networks.autoencoder import load_latents  # loads diffusers: only where used

    images, masks = copier(request, rows, seeds)
    torch.set_num_threads(request.threads)
    name = str(request.options["autoencoder"])
    space = load_latents(request.inputs.autoencoders[name].folder() / "autoencoder", chosen_device())
    found = np.empty(images.shape, dtype=np.uint8)
    progress = Progress(f"pool {request.keys.pool} replica {request.keys.replica}", len(images))
    for start in range(0, len(images), FILMS_A_CALL):
        part = slice(start, start + FILMS_A_CALL)
        found[part] = space.reconstruct(images[part])
        progress.advance(len(found[part]))
    return found, masks


def noise(request: ShardRequest, rows: pd.DataFrame, seeds: np.ndarray) -> Pixels:
    """Return white noise with the training images' mean and standard deviation per channel; the rows' masks stay."""
    source, training = request.rows_of()
    pixels = source.images[positions_of(source, training["image_id"])]
    # uint8 sums are exact in float64, so the moments do not depend on the order of the rows.
    mean = pixels.mean(axis=(0, 1, 2), dtype=np.float64)
    deviation = pixels.std(axis=(0, 1, 2), dtype=np.float64)
    shape = source.images.shape[1:]
    drawn = np.empty((len(rows), *shape), dtype=np.uint8)
    for position, seed in enumerate(seeds):
        values = mean + deviation * np.random.default_rng(int(seed)).standard_normal(shape)
        drawn[position] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return drawn, copier(request, rows, seeds)[1]


def oracle(request: ShardRequest, rows: pd.DataFrame, seeds: np.ndarray) -> Pixels:
    """Return images and masks of new patients of the phantom's law under the rows' conditions."""
    from synthgain.datasets.phantom import draw as draw_films

    source, _ = request.rows_of()
    law = source.manifest.get("law")
    if law is None:
        raise SynthGainError(
            f"pools.{request.keys.pool}: an oracle needs a data set of known law; let rows_of name a phantom"
        )
    name = f"pool {request.keys.pool} replica {request.keys.replica} shard {request.shard + 1}/{request.shards}"
    progress = Progress(name, len(rows))
    keys: list[dict[str, str | int]] = [{"step": "oracle", "seed": int(seed)} for seed in seeds]
    parts = []
    for start in range(0, max(len(rows), 1), FILMS_A_CALL):
        stop = start + FILMS_A_CALL
        conditions = rows[list(source.columns)].iloc[start:stop]
        parts.append(draw_films(conditions, dict(request.image), keys[start:stop], law))
        progress.advance(len(conditions))
    return np.concatenate([images for images, _ in parts]), np.concatenate([masks for _, masks in parts])


BASES: dict[str, Callable[[ShardRequest, pd.DataFrame, np.ndarray], Pixels]] = {
    "oracle": oracle,
    "copier": copier,
    "jittered_copier": jittered_copier,
    "reconstructed": reconstructed,
    "noise": noise,
}
KINDS = get_args(Kind)


def jitter(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a slightly changed copy of an image (H, W, C) uint8 and the shift (rows, columns) that it got.

    The shift is never zero in both directions.
    """
    reach = max(1, round(JITTER_SHIFT * image.shape[0]))
    choices = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1) if (y, x) != (0, 0)]
    shift = choices[random.integers(len(choices))]
    gain = 1 + random.uniform(-JITTER_GAIN, JITTER_GAIN)
    offset = random.uniform(-JITTER_OFFSET, JITTER_OFFSET)
    values = shifted(image, *shift) * gain + offset + random.normal(0, JITTER_NOISE, image.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8), shift


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return an image (H, W, C) moved by whole pixels, its edge repeated into the gap."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return image[rows][:, columns]


def _kinds(request: ShardRequest) -> tuple[str, str]:
    where = f"pools.{request.keys.pool}"
    kind = str(request.options["kind"])
    if kind not in KINDS:
        raise SynthGainError(f"{where}.known: got {kind!r}; known are {', '.join(KINDS)}")
    given = {name: value for name, value in request.options.items() if name not in ("kind", "autoencoder")}
    options = checked(KnownOptions, given, f"{where}.known_options")
    problem = known_problem(kind, options, request.conditions.get("mode") == "balanced")
    if problem is not None:
        raise SynthGainError(f"{where}.{problem}")
    return kind, kind if kind in BASES else options.base


def _mask_columns(request: ShardRequest, rows: pd.DataFrame, base: str) -> dict[str, np.ndarray]:
    names = [f"has_mask_{name}" for name in request.rows_of()[0].mask_names]
    if base == "oracle":  # the phantom knows all its structures
        return {name: np.ones(len(rows), dtype=bool) for name in names}
    return {name: rows[name].to_numpy(dtype=bool) for name in names}
