"""Measures every snapshot of a generator (KID and copies on a small sample) and recommends one."""

from dataclasses import replace
from functools import reduce

import numpy as np
import pandas as pd
import torch

from synthgain.data.pixels import to_uint8
from synthgain.device import chosen_device
from synthgain.evaluation.features import cached_features, open_extractor
from synthgain.evaluation.inputs import Images, kinds, read_real
from synthgain.evaluation.memorisation import (
    PIXELS,
    RECONSTRUCTIONS,
    Compared,
    Pair,
    Rates,
    RuleRow,
    count_copies,
    either,
    near_exact_sides,
    pixel_rules,
)
from synthgain.evaluation.nearest import PixelSpace
from synthgain.evaluation.snapshots import COLUMNS, SnapshotRow, has_copies, kid_with_se, recommend
from synthgain.generators.loading import load_generator
from synthgain.pools.sampling import noise_of, sample
from synthgain.runtime.command import Job, Progress, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest, write_text
from synthgain.seeds import integer_seed, random_generator

BATCH = 64


def evaluate_snapshots(job: Job) -> None:
    """Write snapshots/<generator>/<index>/: snapshots.csv and manifest.json (`recommended`: step or null)."""
    torch.set_num_threads(job.threads)
    settings, device = job.slice, chosen_device()
    real = read_real(job, settings["train_on"])
    parts = {part: real.subset(real.rows_of(part)) for part in ("train", "validation", "test")}
    if not all(len(images) for images in parts.values()):
        raise SynthGainError(f"snapshots of {settings['generator']}: the data need train, validation and test parts")
    keys = {"study": settings["seed"], "step": "snapshots", "generator": settings["generator"]}
    n = min(settings["n"], len(parts["validation"]))
    rng = random_generator(**keys, of="rows")
    rows = parts["train"].table.iloc[rng.permutation(len(parts["train"]))[: settings["n"]]].reset_index(drop=True)
    extractor, cache = open_extractor(settings["space"], job, device), job.run / "state" / "features"
    reference = parts["validation"].subset(rng.permutation(len(parts["validation"]))[:n])
    theirs = cached_features(extractor, reference.pixels(), cache)
    if "autoencoder" in settings:
        through = _reconstructed(job, parts, device)
        searches = {PIXELS: Search(through | {"train": parts["train"]}, rows), RECONSTRUCTIONS: Search(through, rows)}
    else:
        searches = {PIXELS: Search(parts, rows)}
    progress, results = Progress(f"snapshots of {settings['generator']}", len(settings["snapshots"])), []
    for snapshot in settings["snapshots"]:
        images = _draw(job, snapshot, rows, device, keys)
        ours = extractor.extract(images[:n])
        patients = rows["patient_id"].astype(str).to_numpy()
        kid, se = kid_with_se(
            ours, theirs, patients[:n], reference.patients, random_generator(**keys, snapshot=snapshot)
        )
        searched = [search.rates_and_copies(images, patients, name) for name, search in searches.items()]
        rates = [rate for found, _ in searched for rate in found]
        chance = random_generator(**keys, of="permutations", snapshot=snapshot)
        worst = min(
            (rule.row(len(rates), chance) for rule in rates), key=lambda row: (row["p_adjusted"], -row["excess"])
        )
        nearby = reduce(either, (pair for _, pair in searched))
        copies = count_copies(PIXELS, *nearby, len(rates) + 1, chance)
        near = copies.found if copies.certain else 0
        results.append(_row(snapshot, settings["space"]["name"], n, kid, se, worst, near))
        progress.advance(note=f"snapshot {snapshot}")
    _write(job, results, parts)


class Search:
    """The search for copies among the training images of `parts`, held-out images searched once.

    rows: those for which images are drawn.
    """

    def __init__(self, parts: dict[str, Images], rows: pd.DataFrame) -> None:
        train, real = parts["train"], (parts["test"], parts["validation"])
        self.pixels = train.pixels()
        self.space = PixelSpace(self.pixels)
        self.kinds, *held_kinds = kinds(Images([], rows, train.columns), *real)
        self.held_out = [
            Compared(self.space.search(part.pixels(), self.pixels, part.patients, train.patients), part.patients, kind)
            for part, kind in zip(real, held_kinds, strict=True)
        ]

    def rates_and_copies(self, images: np.ndarray, patients: np.ndarray, name: str) -> tuple[list[Rates], Pair]:
        """Return the rules of drawn images (N, H, W, C) uint8 and their near-exact copies."""
        sides = [Compared(self.space.search(images, self.pixels), patients, self.kinds), *self.held_out]
        return pixel_rules(*sides, space=name), near_exact_sides(sides)


def _reconstructed(job: Job, parts: dict[str, Images], device: torch.device) -> dict[str, Images]:
    """Real images as they come out of the generator's autoencoder, which lies beside its weights."""
    from synthgain.networks.autoencoder import load_latents  # loads diffusers' autoencoders: only where used

    space = load_latents(job.inputs.generators.only.folder() / "autoencoder", device)
    return {part: replace(images, arrays=[space.reconstruct(images.pixels())]) for part, images in parts.items()}


def _draw(job: Job, snapshot: int, rows: pd.DataFrame, device: torch.device, keys: dict[str, str | int]) -> np.ndarray:
    """Draw one image per row with the same noise for every snapshot: only the weights change. Mask planes are cut."""
    generator = load_generator(job.inputs.generators.only.folder(), snapshot, device)
    drawn = []
    for start in range(0, len(rows), BATCH):
        part = rows.iloc[start : start + BATCH]
        seeds = np.array([integer_seed(**keys, image=str(name)) for name in part["image_id"]])
        noise = noise_of(seeds, tuple(generator.sample_shape)).to(device)
        with torch.inference_mode():
            drawn_samples = sample(generator, generator.encode_conditions(part), noise, **job.slice["sampling"])
            images = generator.decode(drawn_samples)
        drawn.append(to_uint8(images[:, : generator.image_channels]))
    return np.concatenate(drawn)


def _row(snapshot: int, space: str, n: int, kid: float, se: float, worst: RuleRow, copies: int) -> SnapshotRow:
    return {
        "snapshot": snapshot, "space": space, "n": n, "kid": kid, "kid_se": se, "copy_n": worst["n"],
        "copies": copies, "copy_rate": worst["rate"], "null_rate": worst["null_rate"],
        "excess": worst["excess"], "low": worst["low"], "high": worst["high"], "p_adjusted": worst["p_adjusted"],
        "recommended": False, "note": "",
    }  # fmt: skip


def _write(job: Job, rows: list[SnapshotRow], parts: dict[str, Images]) -> None:
    chosen = recommend(rows)
    for row in rows:
        row["recommended"] = row["snapshot"] == chosen
        if has_copies(row):
            row["note"] = "near-exact copies" if row["copies"] else "copies above their null"
    folder = job.outputs[0].parent
    write_text(folder / "snapshots.csv", pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False))
    facts = {name: job.slice[name] for name in ("generator", "index")}
    images = {name: len(part) for name, part in parts.items()}
    write_manifest(job.outputs[0], job.identity, ["snapshots.csv"], **facts, recommended=chosen, images=images)


if __name__ == "__main__":
    run_script(evaluate_snapshots)
