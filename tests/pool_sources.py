"""Small data sets, an exact generator and job lines for the tests of pools."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from job_inputs import inputs_at, named
from pixel_samples import PixelSamples

from synthgain.data.image_set import ImageSet, write_image_set
from synthgain.pools.conditions import PoolKeys
from synthgain.pools.options import Inpainting, PlannedMasks, Sampling
from synthgain.pools.shards import ShardRequest
from synthgain.runtime.command import Job, run_script
from synthgain.runtime.files import write_manifest, write_table

COLUMNS = {
    "opacity": {"role": "target", "kind": "binary"},
    "sex": {"role": "covariate", "kind": "category", "levels": ["F", "M"]},
    "age": {"role": "covariate", "kind": "continuous"},
}
SIZE = 8
KEYS = PoolKeys(study=0, pool="drawn", index=0, replica=1)


def make_table(patients: int = 30, seed: int = 0, most_images: int = 2) -> pd.DataFrame:
    """Rows of patients with one or more images; a few labels, sexes and ages are unknown."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        opacity, sex = float(random.random() < 0.3), "F" if random.random() < 0.4 else "M"
        for image in range(random.integers(1, most_images + 1)):
            rows.append((f"p{patient}-{image}", f"p{patient}", opacity, sex, float(random.integers(20, 80))))
    table = pd.DataFrame(rows, columns=["image_id", "patient_id", "opacity", "sex", "age"])
    table["site"], table["origin"] = "a", "real"
    table["opacity"], table["age"] = table["opacity"].astype("float32"), table["age"].astype("float32")
    table.loc[random.random(len(table)) < 0.05, "age"] = np.nan
    table["has_mask_lung"] = random.random(len(table)) < 0.8
    return table


def make_source(run: Path, patients: int = 30, seed: int = 0, law: dict | None = None) -> ImageSet:
    """Write datasets/a and splits/a below `run`: identities "dataset" and "split"; half of the patients train."""
    table = make_table(patients, seed)
    random = np.random.default_rng(seed)
    images = random.integers(40, 200, (len(table), SIZE, SIZE, 1), dtype=np.uint8)
    masks = (images > 120).astype(np.uint8) * table["has_mask_lung"].to_numpy()[:, None, None, None].astype(np.uint8)
    facts = {} if law is None else {"law": law}
    source = write_image_set(run / "datasets/a", images, table, COLUMNS, "dataset", masks, ["lung"], **facts)
    write_split(run, table)
    return source


def write_split(run: Path, table: pd.DataFrame) -> None:
    """Write splits/a: patients of even number train."""
    folder = run / "splits/a"
    even = table["patient_id"].str.extract(r"(\d+)$")[0].astype(int) % 2 == 0
    split = table[["image_id", "patient_id"]].assign(part=np.where(even, "train", "test"))
    write_table(folder / "split.parquet", split, "split")
    write_manifest(folder / "manifest.json", "split", ["split.parquet"])


def training_of(source: ImageSet) -> pd.DataFrame:
    """The training rows of `make_source`."""
    even = source.table["patient_id"].str.extract(r"(\d+)$")[0].astype(int) % 2 == 0
    return source.table[even].reset_index(drop=True)


def make_request(source: ImageSet | None, folder: Path, **changes) -> ShardRequest:
    """A request for the whole of replica 1."""
    fields = {
        "keys": KEYS, "shard": 0, "shards": 1, "options": {}, "conditions": {}, "sampling": {},
        "image": {"size": SIZE, "channels": 1}, "dataset": "a", "source": source,
        "training": None if source is None else training_of(source),
        "pool_identity": "0123456789abcdef", "identity": "job", "state": folder / "state",
        "inputs": inputs_at(folder, {}),
    }  # fmt: skip
    fields |= changes
    inpainting = fields.get("inpainting")
    masks = fields.get("masks")
    typed = {"sampling": Sampling(**fields["sampling"]), "inpainting": inpainting and Inpainting(**inpainting)}
    typed["masks"] = masks and PlannedMasks(**masks)
    return ShardRequest(**{**fields, **typed})


class GaussianGenerator(PixelSamples):
    """Exact denoiser of images with pixels N(mean(condition), 0.3²), mixed a little by a convolution."""

    sigma_min, sigma_max, sigma_data = 0.002, 80.0, 0.3
    image_shape, image_channels = (1, SIZE, SIZE), 1
    kind, output, structures = "diffusion", "image", ()
    device = torch.device("cpu")

    def __init__(self, seconds: float = 0.0, broken_row: str | None = None) -> None:
        self.seconds, self.broken_row, self.calls = seconds, broken_row, 0
        self.mix = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(torch.linspace(-1, 1, 9).view(1, 1, 3, 3))

    def denoise(self, x, sigma, condition):
        self.calls += 1
        time.sleep(self.seconds)
        level = sigma.view(-1, 1, 1, 1) ** 2
        mean = condition["mean"].view(-1, 1, 1, 1)
        denoised = (0.09 * x + level * mean) / (0.09 + level)
        return denoised + 0.01 * torch.tanh(self.mix(denoised))

    def encode_conditions(self, rows):
        mean = torch.tensor(rows["opacity"].fillna(0.5).to_numpy() - 0.5, dtype=torch.float32)
        if self.broken_row is not None:
            mean[torch.tensor((rows["image_id"] == self.broken_row).to_numpy())] = torch.nan
        return {"mean": mean}

    def null_condition(self, n):
        return {"mean": torch.zeros(n)}


def job_line(run: Path, output: str, part: dict, inputs: dict[str, str], identity: str) -> list[str]:
    """The arguments with which a rule calls its script."""
    job = {"slice": part, "inputs": inputs, "named": named(inputs), "code": "c", "identity": identity}
    return ["--job", json.dumps(job), "--run", str(run), "--threads", "1", "--output", str(run / output)]


def call(work: Callable[[Job], None], line: list[str]) -> None:
    """Run a script's work in this process, with fresh log handlers (run_script adds some per process)."""
    logging.getLogger("synthgain").handlers.clear()
    run_script(work, line)


def shard_slice(shard: int = 0, shards: int = 1, replica: int = 1, **changes) -> dict:
    """Slice of draw_pool_shard for a pool named `drawn`."""
    part = {
        "pool": "drawn", "index": 0, "replica": replica, "shard": shard, "shards": shards,
        "pool_identity": "0123456789abcdef", "module": "generated",
        "options": {"generator": ["g", 0], "snapshot": None},
        "rows_of": "a", "conditions": {"mode": "rows", "shuffled": False},
        "sampling": {"solver": "dpmpp_2m", "steps": 4, "batch_size": 4},
        "image": {"size": SIZE, "channels": 1}, "seed": 0,
    }  # fmt: skip
    return {**part, **changes}


DATA_INPUTS = {"datasets/a/manifest.json": "dataset", "splits/a/manifest.json": "split"}
