"""The training patients' images and conditions, in memory, and the order in which steps see them."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from synthgain.data.clusters import read_clusters
from synthgain.data.image_set import Columns, ColumnSpec, ImageSet, open_dataset
from synthgain.data.order import patient_fraction, training_order
from synthgain.data.pixels import fits, to_signed
from synthgain.entry import checked
from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.options import DataSlice
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError

SliceOf = TypeVar("SliceOf", bound=DataSlice)
TRAINING, HELD_OUT = ("train",), ("validation", "test")
OUTPUTS = ("image", "image+mask", "mask")
INSIDE = 255  # level of a mask's pixels as a training plane, so that images and masks are scaled alike to [-1, 1]


@dataclass(frozen=True)
class MaskPlanes:
    """What a generator draws (`output`), and the structures whose masks it draws, or takes where that is an image.

    place: where the config says so, for errors. Raises SynthGainError for an impossible combination.
    """

    output: str = "image"
    structures: tuple[str, ...] = ()
    place: str = "train_on"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise SynthGainError(f"{self.place}.output {self.output!r}: known are {', '.join(OUTPUTS)}")
        if self.output != "image" and not self.structures:
            raise SynthGainError(f"{self.place}.structures: missing; name the masks that are drawn")

    @property
    def used(self) -> bool:
        """True where masks are needed at all."""
        return bool(self.structures)

    @property
    def conditioned(self) -> bool:
        """True where masks are a condition."""
        return self.used and self.output == "image"


IMAGES_ONLY = MaskPlanes()


@dataclass(frozen=True)
class TrainingData:
    """What a generator draws, and what it is told, of each training image.

    images: (N, C, H, W) uint8, with output image+mask (N, C + K, H, W) and with mask (N, K, H, W), a mask plane 0
    outside and 255 inside; table of the same rows; labelled (N,) bool: rows whose conditions may be used; masks:
    (N, K, H, W) uint8 alike where they are a condition; left_out: training images without all K masks.
    """

    images: Tensor
    table: pd.DataFrame
    labelled: np.ndarray
    columns: Columns
    masks: Tensor | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.table)

    def saw(self) -> dict[str, object]:
        """What the manifest proves: counts and a hash of the sorted image ids."""
        ids = "\n".join(sorted(self.table["image_id"].astype(str)))
        return {
            "patients": int(self.table["patient_id"].nunique()),
            "images": len(self.table),
            "labelled_images": int(self.labelled.sum()),
            "left_out_without_mask": self.left_out,
            "ids_sha256": hashlib.sha256(ids.encode()).hexdigest(),
        }


def job_training_data(job: Job, place: str = "train_on") -> TrainingData:
    """Return the training data of a job, its inputs' identities checked. place: in the config, for errors."""
    entry = training_slice(DataSlice, job)
    seen, planes = entry.train_on, MaskPlanes(entry.output, tuple(entry.structures), place)
    only = None
    if seen.cluster is not None:
        name, number = seen.cluster
        only = read_clusters(job.inputs.clusters[name].folder(), name).trained_on(number)
    shares = seen.real_fraction, seen.label_fraction
    return read_training_data(_folders(job), *shares, entry.seed, planes, only=only)


def job_held_out_data(job: Job, place: str = "train_on") -> TrainingData:
    """Return the validation and test images of a training job's data sets."""
    entry = training_slice(DataSlice, job)
    planes = MaskPlanes(entry.output, tuple(entry.structures), place)
    return read_training_data(_folders(job), 1.0, 1.0, entry.seed, planes, HELD_OUT)


def _folders(job: Job) -> dict[str, tuple[Path, Path]]:
    names = training_slice(DataSlice, job).train_on.datasets
    return {name: (job.inputs.datasets[name].folder(), job.inputs.splits[name].folder()) for name in names}


def training_slice(kind: type[SliceOf], job: Job) -> SliceOf:
    """Return what the slice of a training job says, as the family has it."""
    return checked(kind, job.slice, "slice", of_slice=True)


def read_training_data(
    folders: Mapping[str, tuple[Path, Path]],
    real_fraction: float,
    label_fraction: float,
    study_seed: int,
    planes: MaskPlanes = IMAGES_ONLY,
    parts: tuple[str, ...] = TRAINING,
    only: Collection[str] | None = None,
) -> TrainingData:
    """Read the training part of each data set, or of it the images `only`.

    What is measured on other patients reads other `parts`.

    folders: {data set: (ImageSet folder, split folder)}, identities already checked. real_fraction and
    label_fraction: shares of the training patients of each set whose images, and whose conditions (columns and
    masks), are used. planes: which masks are drawn or conditioned on; rows that lack one of them are left out.
    Raises SynthGainError where no row is left, a structure is unknown or empty, or the sets do not fit together.
    """
    found = [
        _read_part(name, dataset, split, real_fraction, label_fraction, study_seed, planes, parts, only)
        for name, (dataset, split) in folders.items()
    ]
    if not found:
        raise SynthGainError("train_on.datasets: names no data set")
    shapes = {part.images.shape[1:] for part in found}
    if len(shapes) > 1:
        raise SynthGainError(
            f"train_on.datasets {', '.join(folders)}: image shapes differ ({sorted(map(tuple, shapes))})"
        )
    table = pd.concat([part.table for part in found], ignore_index=True)
    masks = torch.cat([part.masks for part in found if part.masks is not None]) if planes.used else None
    if masks is not None:
        check_masks(masks, planes, list(folders))
    images = torch.cat([part.images for part in found])
    if masks is not None and planes.output != "image":
        images = masks if planes.output == "mask" else torch.cat([images, masks], dim=1)
    return TrainingData(
        images,
        table,
        np.concatenate([part.labelled for part in found]),
        _joined_columns([part.columns for part in found]),
        masks if planes.conditioned else None,
        sum(part.left_out for part in found),
    )


def measure_sigma_data(images: Tensor) -> float:
    """Standard deviation of all pixels of (N,C,H,W) uint8 images scaled to [-1, 1]; exact, from the histogram."""
    counts = torch.bincount(images.reshape(-1), minlength=256).double()
    levels = to_signed(torch.arange(256, dtype=torch.float64))
    mean = (counts * levels).sum() / counts.sum()
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    if variance <= 0:
        raise SynthGainError("the training images are all one grey level: nothing to learn")
    return variance**0.5


def place(tensor: Tensor, device: torch.device) -> Tensor:
    """Move the whole training set to the GPU where it fits well, else leave it in host memory."""
    return tensor.to(device) if fits(device, tensor.nbytes) else tensor


def taken(tensor: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Return `rows` of a placed tensor on the device; no step waits there for the one before."""
    if tensor.device == device:
        return tensor[rows.to(tensor.device, non_blocking=True)]
    return tensor[rows].pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class PlacedData:
    """Images and conditions of all rows where a training step finds them fast.

    images (N, C, H, W) uint8, or the means (N, Z, h, w) float32 of latents, whose standard deviations are `spread`, and
    condition masks (N, K, H, W) uint8, if any, on the GPU where they fit; values (N, columns) float32, null
    (N, columns) bool; labelled (N,) bool; words (N, VARIANTS, …) of the text encoder.
    """

    images: Tensor
    values: Tensor
    null: Tensor
    labelled: Tensor
    masks: Tensor | None = None
    words: Tensor | None = None
    spread: Tensor | None = None

    @classmethod
    def of(
        cls,
        data: TrainingData,
        encoder: ConditionEncoder,
        device: torch.device,
        words: Tensor | None = None,
        latents: tuple[Tensor, Tensor] | None = None,
    ) -> "PlacedData":
        """Encode and place; an unlabelled row is null in every column. words: inputs of the text encoder, if any.

        latents: means and standard deviations (N, Z, h, w) float32 of the images' latents, which take their place.
        """
        values, null = (torch.from_numpy(array).to(device) for array in encoder.encode_table(data.table))
        labelled = torch.from_numpy(data.labelled).to(device)
        null |= ~labelled[:, None]
        masks = None if data.masks is None else place(data.masks, device)
        words = None if words is None else words.to(device)
        images, spread = (data.images, None) if latents is None else (latents[0], place(latents[1], device))
        return cls(place(images, device), values, null, labelled, masks, words, spread)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return images (B, C, H, W) float32 in [-1, 1], values and null of `rows` (B,) int64 on the device.

        In place of images the means of latents, where these were placed.
        """
        device = self.values.device
        placed = rows.to(device, non_blocking=True)
        images = taken(self.images, rows, device)
        return images if self.spread is not None else to_signed(images), self.values[placed], self.null[placed]

    def spreads(self, rows: Tensor) -> Tensor | None:
        """Return the standard deviations (B, Z, h, w) of the latents of `rows`; None where images are placed."""
        return None if self.spread is None else taken(self.spread, rows, self.values.device)

    def texts(self, rows: Tensor, variants: Tensor) -> Tensor | None:
        """Return the text encoder's inputs of `rows` (B,), each of its variant (B,) int64; None without a text."""
        if self.words is None:
            return None
        return self.words[rows.to(self.words.device, non_blocking=True), variants]

    def condition_masks(self, rows: Tensor) -> Tensor | None:
        """Return masks (B, K, H, W) float32 in {-1, 1} of `rows`, all 0 where unlabelled; None without a condition."""
        if self.masks is None:
            return None
        device = self.values.device
        known = self.labelled[rows.to(device, non_blocking=True)]
        return to_signed(taken(self.masks, rows, device)) * known[:, None, None, None]


def _read_part(
    name: str,
    dataset: Path,
    split: Path,
    real_fraction: float,
    label_fraction: float,
    study_seed: int,
    planes: MaskPlanes,
    parts: tuple[str, ...],
    only: Collection[str] | None,
) -> TrainingData:
    data = open_dataset(dataset, split)
    image_set, rows = data.images, data.training_rows() if parts == TRAINING else data.part(*parts)
    # Both are prefixes of one order, so that those of smaller fractions lie in those of larger ones, here and in arms.
    labelled_rows = _fraction(image_set, rows, real_fraction * label_fraction, study_seed, name)
    rows = _fraction(image_set, rows, real_fraction, study_seed, name)
    if only is not None:
        rows = rows[image_set.table["image_id"].astype(str).isin(only).to_numpy()[rows]]
    before, rows = len(rows), rows_with_masks(image_set, rows, planes, name)
    images = torch.from_numpy(np.ascontiguousarray(image_set.images[rows].transpose(0, 3, 1, 2)))
    table = image_set.table.iloc[rows].reset_index(drop=True)
    masks = read_masks(image_set, rows, planes) if planes.used else None
    labelled = np.isin(rows, labelled_rows)
    return TrainingData(images, table, labelled, image_set.columns, masks, before - len(rows))


def _fraction(image_set: ImageSet, rows: np.ndarray, fraction: float, study_seed: int, dataset: str) -> np.ndarray:
    """Rows of the first `fraction` of the patients: those of an arm with the same real_fraction, in table order."""
    if fraction >= 1:
        return rows
    if fraction <= 0:  # label_fraction: 0, an unconditional generator
        return rows[:0]
    table = image_set.table.iloc[rows].reset_index(drop=True)
    order = training_order(table, image_set.columns, study_seed, dataset)
    return rows[np.sort(patient_fraction(table, order, fraction))]


def _joined_columns(parts: Sequence[Columns]) -> Columns:
    """Columns of all sets; kinds must agree, levels are united in order of appearance."""
    joined: dict[str, ColumnSpec] = {}
    for name in dict.fromkeys(name for columns in parts for name in columns):
        specs = [columns[name] for columns in parts if name in columns]
        if len({spec["kind"] for spec in specs}) > 1:
            raise SynthGainError(f"column {name!r}: its kind differs between the data sets of train_on")
        levels = list(dict.fromkeys(level for spec in specs if "levels" in spec for level in map(str, spec["levels"])))
        joined[name] = {**specs[0], **({"levels": levels} if levels else {})}
    return joined


def rows_with_masks(image_set: ImageSet, rows: np.ndarray, planes: MaskPlanes, dataset: str) -> np.ndarray:
    """Return those of `rows` (int64) that have a mask of every structure; all rows where no masks are used.

    Raises SynthGainError for a structure that the data set does not know.
    """
    if not planes.used:
        return rows
    known = image_set.mask_names if image_set.masks is not None else []
    for name in planes.structures:
        if name not in known:
            raise SynthGainError(
                f"{planes.place}.structures: data set {dataset!r} has no structure {name!r}; "
                f"known: {', '.join(known) or 'none, it has no masks'}"
            )
    return rows[image_set.has_masks(planes.structures)[rows]]


def read_masks(image_set: ImageSet, rows: np.ndarray, planes: MaskPlanes) -> Tensor:
    """Return the masks (N, K, H, W) uint8 of `rows`, 0 outside and INSIDE inside, in the order of the structures."""
    masks = np.ascontiguousarray(image_set.planes(planes.structures)[rows].transpose(0, 3, 1, 2))
    return torch.from_numpy(masks * np.uint8(INSIDE))


def check_masks(masks: Tensor, planes: MaskPlanes, datasets: Sequence[str]) -> None:
    """Raise SynthGainError where no training image has all masks, or a structure is empty in every one."""
    where = f"the training images of {', '.join(datasets)}"
    if not len(masks):
        names = " and ".join(repr(name) for name in planes.structures)
        raise SynthGainError(
            f"{planes.place}.structures: none of {where} has a mask of {names}; "
            "name structures that they have, or add a data set with these masks to train_on.datasets"
        )
    for name, filled in zip(planes.structures, masks.flatten(2).any(dim=2).any(dim=0), strict=True):
        if not filled:
            raise SynthGainError(
                f"{planes.place}.structures: the masks of {name!r} are empty in all of {where}: nothing to learn; "
                "leave the structure out or mend the masks"
            )
