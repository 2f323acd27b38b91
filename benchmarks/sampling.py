"""Sampling: images per second of a pool shard against diffusers' stock pipeline, and against the matmul rate."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import stock
import torch
from measure import Options, Row, clock_for, flops_of, interleaved, matmul_rate, multiply_matrices, speed_up
from study_jobs import default_study, study_jobs

from synthgain.data.image_set import read_image_set
from synthgain.device import chosen_device
from synthgain.generators.loading import load_generator
from synthgain.networks.unet import condition_dimension, evaluate
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import FinishedBatches, draw_rows

STEPS, BATCH = 12, 64  # as few steps as `accepted_quality` accepts; the batch that pools are drawn in
BATCHES = {"cpu": 2, "cuda": 8}  # a repeat
REACH, MATMUL_REACH = 1.2, 0.8


def measure(options: Options) -> Row:
    """Time whole shards: noise, network, solver, files; same network sizes, steps and number of images."""
    device = chosen_device()
    count = BATCH * (1 if options.small else BATCHES[device.type])
    study = default_study(options.size, generators__ddpm__training={"steps": 1, "batch_size": 8})
    with study_jobs(study) as jobs:
        size = jobs.planner.study.image.size
        folder = jobs.make("train_generator", generator="ddpm", index=0).parent
        table = read_image_set(jobs.run / "datasets/hospital_a").table.iloc[:count].reset_index(drop=True)
        eager = load_generator(folder, None, device)
        pieces: dict[str, Any] = {"eager": lambda: _draw(eager, table, "never")}
        if not options.small:
            compiled = load_generator(folder, None, device)
            pieces["compiled"] = lambda: _draw(compiled, table, "always")
        network = stock.stock_network(eager.network).eval().to(device)
        with TemporaryDirectory() as pngs:
            pieces["stock"] = lambda: stock.draw_pngs(network, count, STEPS, Path(pngs), size)
            pieces["matmul"] = multiply_matrices(device)
            times = interleaved(pieces, 2 if options.small else 5)
        flops = _flops_of_image(eager) * count * STEPS
    clock = clock_for(device)
    ours = [name for name in ("eager", "compiled") if name in times]
    seconds = {name: times[name].median(clock) for name in times}
    best = min(ours, key=lambda name: seconds[name])
    ratio = speed_up(times[best], times["stock"], clock)
    rate = matmul_rate(times["matmul"], device)
    share = flops / seconds[best] / rate
    details = {
        "images_per_second": {name: count / seconds[name] for name in (*ours, "stock")},
        "ratios": {name: speed_up(times[name], times["stock"], clock) for name in ours},
        "matmul_gflops": rate / 1e9,
        "share_of_matmul_rate": share,
        "megaflop_per_evaluation": _flops_of_image(eager) / 1e6,
    }
    note = f"{share:.0%} of the matmul rate: narrow convolutions and the group norms between them"
    return Row(
        "sampling", f"sampling, images/s, default network for {size} px, {STEPS} steps",
        f"{count / seconds[best]:.1f} images/s ({best})", f"{count / seconds['stock']:.1f} images/s",
        f">= {REACH}x, >= {MATMUL_REACH:.0%} of the matmul rate", ratio,
        ratio[0] >= REACH and share >= MATMUL_REACH, note, details,
    )  # fmt: skip


def _draw(generator: Any, table: Any, compile_network: str) -> None:
    """Draw one image per row as a shard's job does, batches kept on disk."""
    sampling = Sampling(steps=STEPS, batch_size=BATCH, compile=compile_network == "always")
    with TemporaryDirectory() as state:
        finished = FinishedBatches(Path(state), "bench")
        draw_rows(generator, table, np.arange(len(table)), (0, len(table)), sampling, finished, "bench")


def _flops_of_image(generator: Any) -> float:
    """Return floating point operations of one evaluation of the network for one image."""
    images = torch.zeros(1, *generator.image_shape, device=generator.device)
    vector = torch.zeros(1, condition_dimension(generator.network), device=generator.device)
    with torch.no_grad():
        return flops_of(lambda: evaluate(generator.network, images, torch.ones(1, device=generator.device), vector))
