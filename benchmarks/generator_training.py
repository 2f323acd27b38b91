"""Generator training: images per second of our loop against diffusers' unconditional training loop."""

from pathlib import Path
from tempfile import TemporaryDirectory

import stock
import torch
from measure import Options, Row, clock_for, flops_of, interleaved, matmul_rate, multiply_matrices, speed_up
from study_jobs import default_study, study_jobs

from synthgain.data.batch_order import PassOrder
from synthgain.device import chosen_device
from synthgain.generators.diffusion.training import DiffusionRun, prepare_run
from synthgain.networks.unet import condition_dimension, evaluate

REACH = 1.1
STEPS, SMALL_STEPS = {"cpu": 6, "cuda": 40}, 3  # a repeat
FORWARD_AND_BACKWARD = 3  # the backward pass costs two forward passes


def measure(options: Options) -> Row:
    """Time optimiser steps of the default study's network: data, noise, network, clipping, optimiser, average."""
    device = chosen_device()
    steps = SMALL_STEPS if options.small else STEPS[device.type]
    with study_jobs(default_study(options.size)) as jobs, TemporaryDirectory() as pngs:
        run = prepare_run(jobs.job("train_generator", generator="ddpm", index=0))
        run.start()
        images = run.data.images.permute(0, 2, 3, 1).numpy()
        stock.write_pngs(images, Path(pngs))
        batch, size = run.options.batch_size, images.shape[1]
        loop = stock.GeneratorLoop(
            stock.stock_network(run.module.network), Path(pngs), len(images), size, batch, run.options.steps
        )
        pieces = {
            "ours": lambda: _steps(run, steps),
            "stock": lambda: loop.train(steps),
            "matmul": multiply_matrices(device),
        }
        times = interleaved(pieces, 3 if options.small else 7)
        flops = FORWARD_AND_BACKWARD * _forward_flops(run) * batch * steps
    clock = clock_for(device)
    ratio = speed_up(times["ours"], times["stock"], clock)
    share = flops / times["ours"].median(clock) / matmul_rate(times["matmul"], device)
    rates = {name: batch * steps / times[name].median(clock) for name in ("ours", "stock")}
    return Row(
        "generator_training", f"generator training, images/s, default network for {size} px, batch {batch}",
        f"{rates['ours']:.1f} images/s", f"{rates['stock']:.1f} images/s", f">= {REACH}x", ratio, ratio[0] >= REACH,
        f"{share:.0%} of the matmul rate", {"images_per_second": rates, "share_of_matmul_rate": share},
    )  # fmt: skip


def _steps(run: DiffusionRun, steps: int) -> None:
    """Take steps as the loop of every family does, losses checked at the end; neither log nor saves are compared."""
    order = PassOrder(len(run.data), run.options.batch_size, run.seed_keys)
    own = torch.arange(run.options.batch_size)
    numbers = []
    for _ in range(steps):
        numbers.append(run.take_step(torch.from_numpy(order.batch(run.step)), own))
        run.step += 1
    assert torch.isfinite(torch.stack(numbers)).all()


def _forward_flops(run: DiffusionRun) -> float:
    """Return floating point operations of one forward pass of one image."""
    network = run.module.network
    device = run.accelerator.device
    images = torch.zeros(1, *run.data.images.shape[1:], device=device)
    with torch.no_grad():
        vector = torch.zeros(1, condition_dimension(network), device=device)
        return flops_of(lambda: evaluate(network, images, torch.ones(1, device=device), vector))
