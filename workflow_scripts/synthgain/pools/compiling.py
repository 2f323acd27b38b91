"""Whether a pool's network is compiled: decided by a forecast of the work, the same way in every shard.

Compiled and uncompiled code round differently, so the answer may depend on neither the shard nor a measured time:
it follows from the floating point operations of one whole replica.
"""

import os
import shutil
from pathlib import Path

import torch

from synthgain.generators.loading import Denoiser, Generator, denoises
from synthgain.pools.options import Inpainting, Sampling
from synthgain.pools.passes import evaluations
from synthgain.runtime.command import logger

# Operations of a replica from which compiling pays (docs/performance.md). CPU: compiling takes one to three minutes and
# saves an eighth or more, so 6,000 s of work at 32 gigaflop/s pay for it in up to about six shards. GPU (H100, 256 px):
# 41 s are repaid after some 5·10¹⁵ operations; again six shards.
WORTHWHILE_FLOPS = {"cpu": 2e14, "cuda": 3e16}
# Of one evaluation for one image: more than Stable Diffusion's U-Net. Pools too small even for that are not measured.
LARGEST_FLOPS = 1e12
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def with_compile_decided(
    options: Sampling,
    generator: Generator,
    rows: int,
    state: Path,
    inpainting: Inpainting | None = None,
) -> Sampling:
    """Return sampling options with `compile` true or false where it was auto.

    rows: of the whole replica. inpainting: the pool's, which takes more evaluations. state: the job's own folder,
    where compiled code is kept unless the environment names another place (torch's default, a folder in /tmp, may be
    another user's).
    """
    wanted = options.compile
    if wanted == "auto":
        wanted = pays(options, generator, rows, inpainting) and has_compiler(generator.device)
    if wanted:
        os.environ.setdefault(CACHE_VARIABLE, str(state / "compiled"))
    return options.model_copy(update={"compile": wanted})


def pays(options: Sampling, generator: Generator, rows: int, inpainting: Inpainting | None = None) -> bool:
    """True where drawing `rows` images takes so many operations that compiling the network is repaid."""
    if not denoises(generator) or generator.device.type not in WORTHWHILE_FLOPS:
        return False
    enough = WORTHWHILE_FLOPS[generator.device.type]
    passes = rows * evaluations(options, inpainting)
    return passes * LARGEST_FLOPS >= enough and passes * flops_of_pass(generator) >= enough


def flops_of_pass(generator: Denoiser) -> float:
    """Return the floating point operations (2 a multiplication with its addition) of one image through the network."""
    from torch.utils.flop_counter import FlopCounterMode  # loads much that the usual, small pool has no use for

    condition = generator.null_condition(1)
    noisy = torch.zeros(1, *generator.sample_shape, device=generator.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator.denoise(noisy, torch.ones(1, device=generator.device), condition)
    return float(counter.get_total_flops())


def has_compiler(device: torch.device) -> bool:
    """True where torch finds what it compiles with: a C++ compiler, for a GPU a C compiler (Triton's launcher)."""
    variable, usual = ("CXX", "g++") if device.type == "cpu" else ("CC", "gcc")
    name = [*os.environ.get(variable, "").split(), usual][0]  # "ccache g++" is a command with an argument
    if shutil.which(name) is not None:
        return True
    logger.warning("no %s here: the network runs uncompiled; install it, or set sampling.compile: false", name)
    return False
