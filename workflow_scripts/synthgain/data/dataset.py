"""The one way to open a data set: its images, and which part of the split each of them is in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from synthgain.data.image_set import ImageSet, read_image_set
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import check_file, read_manifest, read_table

SPLIT_FILE = "split.parquet"
EXCLUDED = "excluded"  # part of an image that the split does not list


@dataclass(frozen=True)
class Dataset:
    """Images with the part of each: (N,) str, train, validation, test or EXCLUDED; without a split all are test."""

    name: str
    images: ImageSet
    parts: np.ndarray

    def part(self, *names: str) -> np.ndarray:
        """Return the rows (n,) int64 of these parts, in the order of the table."""
        return np.flatnonzero(np.isin(self.parts, names))

    def training_rows(self) -> np.ndarray:
        """Return the rows of the training part: nothing else is ever trained on. SynthGainError where it is empty."""
        rows = self.part("train")
        if not len(rows):
            raise SynthGainError(f"datasets.{self.name}: its split has no training images; give it a training part")
        return rows


def open_dataset(folder: Path, split: Path | None = None) -> Dataset:
    """Open the ImageSet in `folder` with the split in the folder `split`; either may be given as its manifest's path.

    Raises SynthGainError for a file that is missing or damaged. Identities are compared by whoever names the folders.
    """
    folder = _folder(folder)
    images = read_image_set(folder)
    if split is None:
        return Dataset(folder.name, images, np.full(len(images), "test", dtype=object))
    part = read_split(split).set_index("image_id")["part"]
    return Dataset(folder.name, images, images.table["image_id"].map(part).fillna(EXCLUDED).to_numpy(dtype=object))


def job_dataset(job: Job, name: str, with_split: bool = True) -> Dataset:
    """Open a data set among a job's inputs, identities compared, with its split where the job has it."""
    split = f"splits/{name}/manifest.json"
    given = job.input_folder(split) if with_split and split in job.inputs else None
    return open_dataset(job.input_folder(f"datasets/{name}/manifest.json"), given)


def read_split(folder: Path) -> pd.DataFrame:
    """Return a split: image_id, patient_id, part. Raises SynthGainError where it is missing or damaged."""
    folder = _folder(folder)
    manifest = read_manifest(folder / "manifest.json")
    table: pd.DataFrame = read_table(
        check_file(folder, SPLIT_FILE, manifest["files"][SPLIT_FILE]), manifest["identity"]
    )
    return table


def _folder(path: Path) -> Path:
    return path.parent if path.name == "manifest.json" else path
