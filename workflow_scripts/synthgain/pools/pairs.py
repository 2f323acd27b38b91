"""Pools of image and mask pairs: drawn jointly, drawn for given masks, or inpainted in real images."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pandas as pd
import torch

from synthgain.data.pixels import mask_batch, to_batch
from synthgain.generators.loading import Denoiser, Generator, denoises
from synthgain.pools import inpainting, styling
from synthgain.pools.compiling import with_compile_decided
from synthgain.pools.conditions import sample_seeds
from synthgain.pools.counts import Counts
from synthgain.pools.generated import guided_by_earlier, open_generator, sampling_facts, shard_name
from synthgain.pools.mask_conditions import check_structures, condition_masks, lenders
from synthgain.pools.options import Inpainting, Sampling
from synthgain.pools.pair_decoding import THRESHOLD, decode_planes, empty_counts
from synthgain.pools.sampling import FinishedBatches, Sampler, draw_batches, draw_rows, guided_denoiser, karras_sigmas
from synthgain.pools.shards import Drawn, ShardRequest, positions_of, shard_bounds
from synthgain.runtime.environment import environment
from synthgain.runtime.errors import SynthGainError

IN_LATENTS = "the generator draws latents, of which no region is kept; take one of pixels"
STYLING = 0x5719  # the noise of styling is another stream than that of drawing


@dataclass(frozen=True)
class Work:
    """A shard to draw: its generator, the whole replica's rows and seeds, and which rows of it are wanted."""

    request: ShardRequest
    generator: Generator
    rows: pd.DataFrame
    seeds: np.ndarray
    bounds: tuple[int, int]
    sampling: Sampling

    def finished(self) -> FinishedBatches:
        """Return the batches already drawn."""
        return FinishedBatches(self.request.state, self.request.identity, environment(self.generator.device))


@dataclass(frozen=True)
class Pairs:
    """Images (n, H, W, C) uint8, masks (n, H, W, K) uint8 in {0, 1}, table columns, counts for the manifest.

    styled: of how many images, and the sums of their distances to their parents as drawn and after styling.
    """

    images: np.ndarray
    masks: np.ndarray
    columns: Mapping[str, np.ndarray]
    counts: Counts
    styled: Mapping[str, float] = field(default_factory=dict)


def draw(request: ShardRequest) -> Drawn:
    """Draw one shard: options {generator, snapshot} as for `generated`, masks and inpainting as the slice has them.

    A generator with output image+mask draws both, or with `inpainting` a region of each row's own image and mask;
    one that is conditioned on masks draws an image for each condition mask, which is the pair's mask.
    Raises SynthGainError where generator, masks and inpainting do not fit each other.
    """
    torch.set_num_threads(request.threads)
    source, _ = request.rows_of()
    rows = request.rows()
    bounds = shard_bounds(len(rows), request.shard, request.shards, unit=request.sampling.batch_size)
    generator = open_generator(request)
    sampling = with_compile_decided(request.sampling, generator, len(rows), request.state, request.inpainting)
    generator = guided_by_earlier(request, generator, sampling)
    work = Work(request, generator, rows, sample_seeds(rows, request.keys), bounds, sampling)
    drawn = _way(work)(work)
    if request.styling is not None:
        drawn = styled(work, drawn)
    table = request.table_of(rows).iloc[slice(*bounds)].reset_index(drop=True)
    names = list(generator.structures)
    parents = pd.Series(drawn.columns["mask_parent_id"], dtype="str")
    known = dict.fromkeys((f"has_mask_{name}" for name in names), True)
    facts = {
        **sampling_facts(generator, sampling, work.finished()),
        "mask_counts": {**drawn.counts, "empty": empty_counts(drawn.masks, names)},
    }
    if generator.output == "image":
        facts["condition_masks"] = request.masks.dump() if request.masks else {"source": "training"}
    if request.styling:
        facts["styling"] = request.styling.model_dump()
        facts["styled"] = {"features": dict(drawn.styled)}
    if request.inpainting:
        facts["inpainting"] = request.inpainting.model_dump()
        facts["sampling"] = {**sampling.model_dump(), "solver": "repaint"}  # the region is not drawn by an ODE solver
    return Drawn(
        drawn.images,
        table.assign(**drawn.columns).assign(mask_parent_id=parents, **known),
        source.columns,
        drawn.masks,
        names,
        facts,
    )


def _way(work: Work) -> Callable[[Work], Pairs]:
    """Return how this pool is drawn; SynthGainError where the generator cannot."""
    generator, request = work.generator, work.request
    joint, pool = generator.output == "image+mask", request.keys.pool
    if request.inpainting and not (joint and denoises(generator)):
        raise SynthGainError(f"pools.{pool}.inpainting: needs a generator that denoises, with output: image+mask")
    if request.inpainting and denoises(generator) and generator.sample_shape != generator.image_shape:
        raise SynthGainError(f"pools.{pool}.inpainting: {IN_LATENTS}")
    if request.masks and (joint or not generator.structures):
        raise SynthGainError(f"pools.{pool}.masks: its generator takes no masks; leave the key out")
    if not generator.structures:
        raise SynthGainError(f"pools.{pool}: its generator has no masks; draw it with synthgain.pools.generated")
    if request.inpainting:
        return draw_inpainted
    return draw_joint if joint else draw_conditioned


def draw_joint(work: Work) -> Pairs:
    """Draw image and mask together; masks are decoded to clean labels."""
    name = shard_name(work.request)
    both = draw_rows(work.generator, work.rows, work.seeds, work.bounds, work.sampling, work.finished(), name)
    channels = work.request.image["channels"]
    columns = {"mask_parent_id": np.full(len(both), None, dtype=object)}
    return Pairs(both[..., :channels].copy(), decode_planes(both[..., channels:]), columns, {})


def draw_conditioned(work: Work) -> Pairs:
    """Draw an image for each condition mask. The masks travel with the images, as planes 0 or 255 behind them."""
    generator, structures = work.generator, list(work.generator.structures)
    given = condition_masks(work.request, structures, work.rows, work.seeds, work.bounds, work.sampling)
    sampler = Sampler(generator, work.sampling)

    def batch(positions: np.ndarray) -> torch.Tensor:
        planes = mask_batch(given.planes(positions))
        images = sampler.draw(
            work.seeds[positions], lambda: generator.encode_conditions(work.rows.iloc[positions], masks=planes)
        )
        return torch.cat([images.cpu().float(), planes], dim=1)

    channels, height, width = generator.image_shape
    shape = (channels + len(structures), height, width)
    name, size = shard_name(work.request), work.sampling.batch_size
    both = draw_batches(batch, work.bounds, size, shape, work.finished(), name)
    masks = (both[..., channels:] >= THRESHOLD).astype(np.uint8)
    return Pairs(both[..., :channels].copy(), masks, given.columns, given.counts)


def draw_inpainted(work: Work) -> Pairs:
    """Redraw the region around a structure in each row's own image; outside of it the image stays.

    The row's masks stay as they are, or with `redraw_mask` outside of the region alone.
    """
    options, sampling = work.request.inpainting, work.sampling
    assert options is not None  # as `_way` chose
    generator = cast(Denoiser, work.generator)
    first = work.bounds[0]
    parents, owners, borrowed = _parents(work, options)
    sampler = Sampler(generator, sampling)
    sigmas = karras_sigmas(sampling.steps, generator.sigma_min, generator.sigma_max)
    path = inpainting.levels(sampling.steps, options.resamples, options.jump_length)
    told = sampling.negative_prompt, sampling.guidance_rescale
    guidance = sampling.guidance_scale, sampling.guidance_interval, *told

    def batch(positions: np.ndarray) -> torch.Tensor:
        part = parents.take(positions - first)
        real, kept = part.values().to(generator.device), torch.from_numpy(part.kept()).to(generator.device)
        noise = inpainting.NoiseStreams(work.seeds[positions], tuple(generator.image_shape), generator.device)
        with torch.inference_mode(), sampler.precision():
            condition = generator.encode_conditions(work.rows.iloc[positions])
            denoise = guided_denoiser(generator, condition, len(positions), *guidance)
            return inpainting.repaint(denoise, real, kept, sigmas, path, noise)

    shape, name = generator.image_shape, shard_name(work.request)
    both = draw_batches(batch, work.bounds, sampling.batch_size, shape, work.finished(), name)
    channels = work.request.image["channels"]
    images = inpainting.blend(both[..., :channels], parents.images, parents.region)
    stays = parents.kept()[:, channels:].transpose(0, 2, 3, 1)
    masks = np.where(stays, parents.masks, decode_planes(both[..., channels:]))
    counts: Counts = {"borrowed": {"rows": int(borrowed.sum())}}
    return Pairs(images, masks, {"mask_parent_id": owners.to_numpy(dtype=object)}, counts)


def styled(work: Work, drawn: Pairs) -> Pairs:
    """Return drawn pairs with their images styled after their parents; of inpainted ones inside the region alone."""
    options, request, sampling = work.request.styling, work.request, work.sampling
    assert options is not None
    if work.generator.output != "image+mask" or not denoises(work.generator):
        raise SynthGainError(
            f"pools.{request.keys.pool}.styling: needs a generator that denoises, with output: image+mask"
        )
    generator, first = work.generator, work.bounds[0]
    styler, sampler = styling.Styler(options, generator.device), Sampler(generator, sampling)
    sigmas = karras_sigmas(sampling.steps, generator.sigma_min, generator.sigma_max)
    source, _ = request.rows_of()
    parents = np.asarray(source.images[positions_of(source, work.rows["image_id"].iloc[slice(*work.bounds)])])
    guidance = sampling.guidance_scale, sampling.guidance_interval, sampling.negative_prompt

    def batch(positions: np.ndarray) -> torch.Tensor:
        inside = positions - first
        both = styling.joined(drawn.images[inside], drawn.masks[inside]).to(generator.device)
        own = to_batch(torch.from_numpy(parents[inside])).to(generator.device)
        noise = inpainting.NoiseStreams(work.seeds[positions] ^ STYLING, tuple(generator.image_shape), generator.device)
        with torch.no_grad(), sampler.precision():
            condition = generator.encode_conditions(work.rows.iloc[positions])
            denoise = guided_denoiser(generator, condition, len(positions), *guidance)
            return styling.style(styler, denoise, both, own, sigmas, noise)

    finished = FinishedBatches(request.state / "styled", request.identity, environment(generator.device))
    name, shape = f"styling {shard_name(request)}", generator.image_shape
    images = draw_batches(batch, work.bounds, sampling.batch_size, shape, finished, name)[..., : parents.shape[-1]]
    if options.colour:
        images = styling.colour_matched(images, parents)
    if request.inpainting is not None:
        images = inpainting.blend(images, parents, _parents(work, request.inpainting)[0].region)
    apart = [styler.distances(side, parents, sampling.batch_size) for side in (drawn.images, images)]
    sums = {"images": len(images), "drawn": float(apart[0].sum()), "styled": float(apart[1].sum())}
    return dataclasses.replace(drawn, images=images, styled=sums)


def _parents(work: Work, options: Inpainting) -> tuple[inpainting.Parents, pd.Series, np.ndarray]:
    """Return the real images of the shard's rows with their regions, whose mask each region is, and which are lent.

    A row without the structure gets the region of another: what it is asked for (say, no lesion) is drawn there.
    """
    request, structures = work.request, list(work.generator.structures)
    structure = options.structure
    if structure not in structures:
        raise SynthGainError(
            f"pools.{request.keys.pool}.inpainting.structure: the generator draws {', '.join(structures)}, "
            f"not {structure!r}"
        )
    check_structures(request, structures)
    inside = slice(*work.bounds)
    rows, (source, _) = work.rows.iloc[inside], request.rows_of()
    owners, borrowed = lenders(request, rows, work.seeds[inside], [structure], filled=True)
    own, lent = positions_of(source, rows["image_id"]), positions_of(source, owners)
    regions = source.planes([structure])[lent][..., 0]
    region = np.array([inpainting.region_of(mask, options.dilate) for mask in regions], dtype=bool)
    known = rows[[f"has_mask_{name}" for name in structures]].to_numpy(dtype=bool)
    parents = inpainting.Parents(
        np.asarray(source.images[own]),
        source.planes(structures)[own],
        known,
        region.reshape(regions.shape),
        options.redraw_mask,
    )
    return parents, owners, borrowed
