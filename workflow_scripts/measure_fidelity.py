"""Measures how near a pool is to real images, and how varied it is, in several feature spaces."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from synthgain.device import chosen_device
from synthgain.evaluation.features import cached_features, open_extractor
from synthgain.evaluation.fidelity import COLUMNS, HELD_OUT, TRAIN, Row, Side, measure_space
from synthgain.evaluation.inputs import PART, Images, groups_of, median_cuts, parents, read_pool, read_real
from synthgain.evaluation.pixel_diversity import measure_pixels
from synthgain.evaluation.radiomics import measure_radiomics
from synthgain.networks.extractors import Extractor
from synthgain.registry import MASK_CHECKS
from synthgain.runtime.command import Job, Progress, run_script
from synthgain.runtime.files import write_manifest, write_text
from synthgain.runtime.loading import load
from synthgain.seeds import random_generator

MOST_IMAGES = 2000  # a side, where the config sets no n: FD and KID cost n² and more


def measure_fidelity(job: Job) -> None:
    """Write fidelity/<pool>/<index>/fidelity.csv and its manifest."""
    torch.set_num_threads(job.threads)
    settings = job.slice
    pool, index, rows_of = settings["pool"], settings["index"], settings["rows_of"]
    limits = {
        "n": settings["n"] or MOST_IMAGES,
        "minimum": settings["minimum"],
        "floor_splits": settings["floor_splits"],
    }
    seeded = partial(random_generator, study=settings["seed"], pool=pool, index=index)
    real = read_real(job, [rows_of])
    sets = {
        "synthetic": _at_most(read_pool(job, pool, index, real.columns), limits["n"], seeded(step="rows", of="pool")),
        HELD_OUT: _at_most(
            real.subset(real.rows_of("validation", "test")), limits["n"], seeded(step="rows", of=HELD_OUT)
        ),
        TRAIN: _at_most(real.subset(real.rows_of("train")), limits["n"], seeded(step="rows", of=TRAIN)),
    }
    cuts = median_cuts(real.table, settings["by"], real.columns, "evaluation.fidelity")
    rows, spaces = measure_pixels(sets["synthetic"], sets[HELD_OUT], seeded), []
    progress = Progress(f"fidelity of {pool}", len(settings["spaces"]))
    for space in settings["spaces"]:
        extractor = open_extractor(space, job, chosen_device())
        sides = {name: _side(images, extractor, job, settings["by"], cuts) for name, images in sets.items()}
        references = {name: sides[name] for name in (HELD_OUT, TRAIN)}
        rows += measure_space(space["name"], extractor.fid, sides["synthetic"], references, seeded, limits)
        spaces.append(_space_facts(space, extractor, sides["synthetic"]))
        progress.advance(note=space["name"])
    if settings.get("radiomics"):
        rows += measure_radiomics(sets["synthetic"], sets[HELD_OUT], seeded, limits)
    if settings.get("masks"):  # {module, structures}: only studies that segment load the module
        owners = {name: (_owners(images), _groups(images, settings["by"], cuts)) for name, images in sets.items()}
        rows += load(MASK_CHECKS, settings["masks"]["module"]).measure_pool(job, sets, owners, seeded, limits)
    _write(job, rows, spaces, sets)


def _at_most(images: Images, n: int, rng: np.random.Generator) -> Images:
    return images.subset(np.sort(rng.permutation(len(images))[:n]))


def _side(images: Images, extractor: Extractor, job: Job, by: list[str], cuts: dict[str, float]) -> Side:
    features = cached_features(extractor, images.pixels(), job.run / "state" / "features")
    return Side(features, _owners(images), _groups(images, by, cuts))


def _owners(images: Images) -> np.ndarray:
    return images.patients if PART in images.table else parents(images.table)


def _groups(images: Images, by: list[str], cuts: dict[str, float]) -> dict[str, np.ndarray]:
    return groups_of(images.table, by, images.columns, cuts)


def _space_facts(space: dict[str, Any], extractor: Extractor, side: Side) -> dict[str, Any]:
    return {
        "name": space["name"],
        "label": extractor.label,
        "weights_sha256": extractor.weights_sha256,
        "dimensions": int(side.features.shape[1]),
        "fid": extractor.fid,
    }


def _write(job: Job, rows: list[Row], spaces: list[dict[str, Any]], sets: dict[str, Images]) -> None:
    folder = job.outputs[0].parent
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(folder / "fidelity.csv", table.to_csv(index=False))
    enough = len(sets[HELD_OUT]) >= job.slice["minimum"]
    write_manifest(
        job.outputs[0],
        job.identity,
        ["fidelity.csv"],
        pool=job.slice["pool"],
        index=job.slice["index"],
        spaces=spaces,
        reference=HELD_OUT if enough else TRAIN,
        images={name: len(images) for name, images in sets.items()},
        floor_splits=job.slice["floor_splits"],
    )


if __name__ == "__main__":
    run_script(measure_fidelity)
