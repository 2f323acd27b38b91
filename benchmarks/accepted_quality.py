"""Sampling at accepted quality: our few steps against 1000 DDPM steps of the same network.

Few steps are accepted where their KID lies within one standard error of the KID of 50 steps from the same noise, and
the test is worth something only where it rejects 4 steps.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from measure import Options, Row, interleaved, speed_up
from study_jobs import StudyJobs, default_study, study_jobs

from synthgain.data.image_set import read_image_set
from synthgain.datasets.phantom import draw as draw_phantom
from synthgain.evaluation.distances import kernel_distance, kernel_matrix
from synthgain.evaluation.resampling import jackknife_se, patient_groups
from synthgain.generators.loading import load_generator
from synthgain.networks.downstream_features import build as build_extractor
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import FinishedBatches, draw_rows, karras_sigmas, noise_of

REACH = 40.0
FEW, MANY, TOO_FEW, DDPM = 12, 50, 4, 1000
IMAGES = {"full": 2000, "small": 128}
BATCH = 16
# Quickly trained: the network sees 2 × 2 pixels as channels, at half the size.
NETWORK = {"attention_resolutions": [], "patch_size": 2, "block_out_channels": [16, 32, 32]}
TRAINING = {"full": 1500, "small": 40}  # steps of the generator
CLASSIFIER = {"full": 400, "small": 50}  # steps of the network whose features are compared


def measure(options: Options) -> Row:
    """Time both samplers on the same network and, in full, judge 12 and 4 steps by KID at n = 2,000."""
    mode = "small" if options.small else "full"
    study = default_study(
        generators__ddpm__network=NETWORK,
        generators__ddpm__training={"steps": TRAINING[mode], "batch_size": 32},
        models__cnn__steps=CLASSIFIER[mode],
        replicates={"count": 1},
    )
    with study_jobs(study) as jobs:
        folder = options.generator or jobs.make("train_generator", generator="ddpm", index=0).parent
        generator = load_generator(folder, None, torch.device("cpu"))
        table = read_image_set(jobs.make("prepare_dataset", dataset="hospital_a").parent).table
        conditions = table.sample(IMAGES[mode], replace=True, random_state=0).reset_index(drop=True)
        # Small: a quarter of the images at a tenth of the steps, scaled up; every step costs the same.
        timed, speed = (BATCH // 4, 10) if options.small else (BATCH, 1)
        pieces: dict[str, Callable[[], Any]] = {
            "few": partial(drawn, generator, conditions.iloc[:BATCH], FEW),
            "ddpm": partial(
                ancestral_images, generator, conditions.iloc[:timed], DDPM // 10 if options.small else DDPM
            ),
        }
        times = interleaved(pieces, 2)
        scale = BATCH / timed * speed
        ratio = speed_up(times["few"], times["ddpm"], scale=scale)
        quality = judged(generator, conditions, jobs)
    accepted = quality["few_within_one_se"] and quality["too_few_rejected"]
    kid = ", ".join(f"{n} steps {quality['kid'][str(n)]:.4f}" for n in (TOO_FEW, FEW, MANY))
    note = f"KID at n = {quality['images']}: {kid}, standard error {quality['se']:.4f}"
    return Row(
        "accepted_quality", f"sampling at accepted quality, {FEW} steps of dpmpp_2m",
        f"{BATCH / times['few'].median():.1f} images/s",
        f"{BATCH / scale / times['ddpm'].median():.2f} images/s ({DDPM} steps)",
        f">= {REACH:.0f}x, KID within one SE of {MANY} steps, {TOO_FEW} rejected", ratio,
        None if options.small else ratio[0] >= REACH and accepted,
        note + (": too few images and too little training to judge" if options.small else ""), quality,
    )  # fmt: skip


def drawn(generator: Any, conditions: Any, steps: int) -> np.ndarray:
    """Draw one image per row as a pool's shard does; noise by row, so the same for every number of steps."""
    with TemporaryDirectory() as state:
        finished = FinishedBatches(Path(state), "bench")
        sampling = Sampling(steps=steps, batch_size=BATCH)
        return draw_rows(
            generator, conditions, np.arange(len(conditions)), (0, len(conditions)), sampling, finished, "bench"
        )


@torch.inference_mode()
def ancestral_images(generator: Any, conditions: Any, steps: int) -> torch.Tensor:
    """Draw by DDPM's posterior (Ho et al. 2020, eq. 7) written for x = x0 + sigma · noise: one evaluation a step."""
    condition = generator.encode_conditions(conditions)
    sigmas = karras_sigmas(steps, generator.sigma_min, generator.sigma_max)
    x = noise_of(np.arange(len(conditions)), tuple(generator.image_shape)) * sigmas[0]
    for now, after in pairwise(sigmas):
        clean = generator.denoise(x, torch.full((len(x),), now), condition)
        kept = (after / now) ** 2
        x = clean + kept * (x - clean) + after * math.sqrt(1 - kept) * torch.randn_like(x)
    return x


def judged(generator: Any, rows: Any, jobs: StudyJobs) -> dict[str, Any]:
    """Return KID to fresh phantom films at 4, 12 and 50 steps, and the standard error of the last.

    Features of the default study's classifier, trained on the real training images of hospital_a.
    """
    extractor = build_extractor(*_real_only_model(jobs))
    keys = [{"study": 0, "step": "benchmark", "row": number} for number in range(len(rows))]
    options = {"site": "a", "seed": 1, "patients": 1}
    films, _ = draw_phantom(rows, {"size": generator.image_shape[-1], "channels": 1}, keys, options)
    real = extractor.extract(films)
    kid, kernels = {}, {}
    for steps in (TOO_FEW, FEW, MANY):
        kernels[steps] = kernel_matrix(*[np.concatenate([extractor.extract(drawn(generator, rows, steps)), real])] * 2)
        kid[str(steps)] = kernel_distance(kernels[steps], len(rows))
    rng = np.random.default_rng(0)
    groups = [patient_groups(np.arange(len(rows)), rng) for _ in range(2)]

    def of_kept(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        kept = np.concatenate([first, len(rows) + second])
        return np.array([kernel_distance(kernels[MANY][np.ix_(kept, kept)], len(first))])

    se = float(jackknife_se(of_kept, *groups)[0])
    return {
        "images": len(rows),
        "kid": kid,
        "se": se,
        "few_within_one_se": bool(kid[str(FEW)] - kid[str(MANY)] <= se),
        "too_few_rejected": bool(kid[str(TOO_FEW)] - kid[str(MANY)] > se),
    }


def _real_only_model(jobs: StudyJobs) -> tuple[dict[str, Any], Path, torch.device]:
    """Train the study's classifier on real images; return what `build_extractor` takes."""
    trained = jobs.make("train_downstream", model="cnn", arm="real", ratio=0, chunk=0)
    network = jobs.planner.job("train_downstream", model="cnn", arm="real", ratio=0, chunk=0).slice["model"]["network"]
    options = {"network": network, "in_channels": 1, "outputs": 1, "image_size": jobs.planner.study.image.size}
    return options, trained.parent / "weights-0.safetensors", torch.device("cpu")
