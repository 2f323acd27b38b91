"""Sampling: images per second of a pool shard against diffusers' stock pipeline, and against the matmul rate."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import stock
import torch
from measure import Options, Row, flops_of, interleaved, matmul_rate, multiply_matrices, speed_up
from study_jobs import default_study, study_jobs

from synthgain.generators.loading import load_generator
from synthgain.images import read_image_set
from synthgain.networks.unet import condition_dimension, evaluate
from synthgain.pools.sampling import FinishedBatches, draw_rows

STEPS, BATCH = 12, 64  # those of the default study
REACH, MATMUL_REACH = 1.2, 0.8


def measure(options: Options) -> Row:
    """Time whole shards: noise, network, solver, files; same network sizes, steps and number of images."""
    count = BATCH if options.small else 2 * BATCH
    with study_jobs(default_study(generators__ddpm__training={"steps": 1, "batch_size": 8})) as jobs:
        folder = jobs.make("train_generator", generator="ddpm", index=0).parent
        table = read_image_set(jobs.run / "datasets/hospital_a").table.iloc[:count].reset_index(drop=True)
        eager = load_generator(folder, None, torch.device("cpu"))
        pieces: dict[str, Any] = {"eager": lambda: _draw(eager, table, "never")}
        if not options.small:
            compiled = load_generator(folder, None, torch.device("cpu"))
            pieces["compiled"] = lambda: _draw(compiled, table, "always")
        network = stock.stock_network(eager.network).eval()
        with TemporaryDirectory() as pngs:
            pieces["stock"] = lambda: stock.draw_pngs(network, count, STEPS, Path(pngs))
            pieces["matmul"] = multiply_matrices()
            times = interleaved(pieces, 2 if options.small else 5)
        flops = _flops_of_image(eager) * count * STEPS
    best = min((name for name in ("eager", "compiled") if name in times), key=lambda name: times[name].median())
    ratio = speed_up(times[best], times["stock"])
    share = flops / times[best].median() / matmul_rate(times["matmul"])
    details = {
        "images_per_second": {name: count / times[name].median() for name in times if name != "matmul"},
        "ratios": {name: speed_up(times[name], times["stock"]) for name in ("eager", "compiled") if name in times},
        "matmul_gflops": matmul_rate(times["matmul"]) / 1e9,
        "share_of_matmul_rate": share,
        "megaflop_per_evaluation": _flops_of_image(eager) / 1e6,
    }
    note = f"{share:.0%} of the matmul rate: convolutions of 16 and 32 channels and the group norms between them"
    return Row(
        "sampling", "sampling, images/s, default study's network, 12 steps",
        f"{count / times[best].median():.1f} images/s ({best})", f"{count / times['stock'].median():.1f} images/s",
        f">= {REACH}x, >= {MATMUL_REACH:.0%} of the matmul rate", ratio,
        ratio[0] >= REACH and share >= MATMUL_REACH, note, details,
    )  # fmt: skip


def _draw(generator: Any, table: Any, compile_network: str) -> None:
    """Draw one image per row as a shard's job does, batches kept on disk."""
    sampling = {"steps": STEPS, "batch_size": BATCH, "compile": compile_network == "always"}
    with TemporaryDirectory() as state:
        finished = FinishedBatches(Path(state), "bench")
        draw_rows(generator, table, np.arange(len(table)), (0, len(table)), sampling, finished, "bench")


def _flops_of_image(generator: Any) -> float:
    """Return floating point operations of one evaluation of the network for one image."""
    images = torch.zeros(1, *generator.image_shape)
    vector = torch.zeros(1, condition_dimension(generator.network))
    with torch.no_grad():
        return flops_of(lambda: evaluate(generator.network, images, torch.ones(1), vector))
