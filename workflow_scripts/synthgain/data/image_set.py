"""ImageSet: how images, masks and their table are on disk, and the one way to open a data set with its split.

A folder with `images.npy` (N, H, W, C) uint8, `masks.npy` (N, H, W, K) uint8 in {0, 1} where there
are masks, `table.parquet` (one row per image, same order) and a small `manifest.json`, written last.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pandas as pd

from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import atomic_path, check_file, read_manifest, read_table, write_manifest, write_table

SPLIT_FILE = "split.parquet"
EXCLUDED = "excluded"  # part of an image that the split does not list
REQUIRED_COLUMNS = ("image_id", "patient_id", "site", "origin", "sha256")


Role = Literal["target", "covariate"]


class ColumnSpec(TypedDict, total=False):
    """What a target or covariate column holds; `levels`, of categories, in their order."""

    role: Role
    kind: Literal["binary", "category", "continuous"]
    levels: list[str]


Columns = Mapping[str, ColumnSpec]


@dataclass(frozen=True)
class Planes:
    """Masks (n, H, W, K') uint8 in {0, 1}, memory-mapped or not, as if they were (n, H, W, K) of the chosen planes.

    chosen: K indices into the last axis; -1 for a structure that the set does not have, which reads as zeros.
    """

    masks: np.ndarray
    chosen: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that this is read as."""
        return (*self.masks.shape[:3], len(self.chosen))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return a (B, H, W, K) uint8 copy of these rows."""
        whole = self.masks[rows]
        return np.stack([whole[..., k] if k >= 0 else np.zeros_like(whole[..., 0]) for k in self.chosen], axis=-1)


Stored = np.ndarray | Planes  # (n, H, W, C) uint8, memory-mapped or not


def planes_of(masks: np.ndarray, names: Sequence[str], structures: Sequence[str]) -> Planes:
    """Return the planes of `structures`, in that order, of masks (n, H, W, len(names))."""
    return Planes(masks, tuple(list(names).index(name) if name in names else -1 for name in structures))


@dataclass(frozen=True)
class ImageSet:
    """Images with their table.

    images: (N, H, W, C) uint8, memory-mapped read-only when read from disk.
    table: N rows; REQUIRED_COLUMNS, then targets (0/1 float32, NaN = unknown, or a string level),
        covariates (float32 or string, NaN/None = unknown) and `has_mask_<name>` (bool).
    masks: (N, H, W, K) uint8 in {0, 1}, or None; a row without a mask is all zero there.
    manifest: `columns` {name: {role: target|covariate, kind: binary|category|continuous, levels?}},
        `mask_names`, counts, checksums, identity.
    """

    images: np.ndarray
    table: pd.DataFrame
    masks: np.ndarray | None
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def columns(self) -> Columns:
        """Targets and covariates: {name: {role, kind, levels?}}."""
        columns: Columns = dict(self.manifest["columns"])
        return columns

    @property
    def mask_names(self) -> list[str]:
        """Names of the K mask planes, in their order."""
        return list(self.manifest["mask_names"])

    def planes(self, structures: Sequence[str]) -> Planes:
        """Return the masks of `structures`, in that order. Raises ValueError where there are no masks at all."""
        if self.masks is None:
            raise ValueError(f"planes of {', '.join(structures)} asked of images without masks")
        return planes_of(self.masks, self.mask_names, structures)

    def has_masks(self, structures: Sequence[str]) -> np.ndarray:
        """Return which rows have a mask of every one of `structures`, each a plane of this set: (N,) bool."""
        flags = self.table[[f"has_mask_{name}" for name in structures]].to_numpy(dtype=bool)
        return np.asarray(flags.all(axis=1))


def image_hashes(images: np.ndarray) -> list[str]:
    """Return the SHA-256 (64 hex digits) of each image's raw uint8 pixels."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]


def write_image_set(
    folder: Path,
    images: np.ndarray,
    table: pd.DataFrame,
    columns: Columns,
    identity: str,
    masks: np.ndarray | None = None,
    mask_names: Sequence[str] = (),
    **facts: object,
) -> ImageSet:
    """Write an ImageSet into `folder` and return it as read back (memory-mapped).

    `table` needs REQUIRED_COLUMNS but `sha256`, which is computed here, and one column per key of
    `columns`. `facts` (JSON values) join the manifest. Raises ValueError where shapes disagree.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be (N, H, W, C) uint8, got {images.shape} {images.dtype}")
    if len(table) != len(images):
        raise ValueError(f"{len(images)} images but {len(table)} table rows")
    table = table.reset_index(drop=True).assign(sha256=image_hashes(images))
    missing = [name for name in (*REQUIRED_COLUMNS, *columns) if name not in table.columns]
    if missing:
        raise ValueError(f"the table lacks {', '.join(missing)}")
    if table["image_id"].duplicated().any():
        raise ValueError(f"image_id {table.loc[table['image_id'].duplicated(), 'image_id'].iloc[0]!r} occurs twice")
    files = ["images.npy", "table.parquet"]
    (folder / "manifest.json").unlink(missing_ok=True)  # a partial write is never read as complete
    _write_array(folder / "images.npy", images)
    if masks is not None:
        if masks.dtype != np.uint8 or masks.shape != (*images.shape[:3], len(mask_names)):
            expected = (*images.shape[:3], len(mask_names))
            raise ValueError(f"masks must be {expected} uint8, got {masks.shape} {masks.dtype}")
        _write_array(folder / "masks.npy", masks)
        files.append("masks.npy")
    write_table(folder / "table.parquet", table, identity)
    write_manifest(
        folder / "manifest.json",
        identity,
        files,
        columns={name: dict(spec) for name, spec in columns.items()},
        column_order=list(columns),
        mask_names=list(mask_names),
        shape=list(images.shape),
        images=len(table),
        patients=int(table["patient_id"].nunique()),
        **facts,
    )
    return read_image_set(folder, identity)


def read_image_set(folder: Path, identity: str | None = None) -> ImageSet:
    """Open the ImageSet in `folder`; arrays are memory-mapped, checksums compared.

    Raises SynthGainError if a file is missing or damaged or the identity is not the expected one.
    """
    manifest = read_manifest(folder / "manifest.json", identity)
    paths = {name: check_file(folder, name, listed) for name, listed in manifest["files"].items()}
    table = read_table(paths["table.parquet"], manifest["identity"])
    images = _open_array(paths["images.npy"])
    masks = _open_array(paths["masks.npy"]) if "masks.npy" in paths else None
    if list(images.shape) != manifest["shape"] or len(table) != len(images):
        raise SynthGainError(f"{folder}: images {images.shape}, table {len(table)} rows, manifest {manifest['shape']}")
    order = manifest["column_order"]
    manifest["columns"] = {name: manifest["columns"][name] for name in order}
    return ImageSet(images, table, masks, manifest)


def _write_array(path: Path, array: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, array, allow_pickle=False)


def _open_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise SynthGainError(f"{path}: not a readable array ({error}); delete its folder and rerun") from error
    return np.asarray(array) if array.size == 0 else array


class ImageStore:
    """Rows of several uint8 arrays as one.

    positions: (N,) int64 rows of the arrays as if they were joined along the first axis, None for all of them.
    `where` opens the line of the SynthGainError for arrays of different shapes.
    """

    def __init__(self, arrays: Sequence[Stored], positions: np.ndarray | None = None, where: str = "images") -> None:
        self._arrays = [array if isinstance(array, Planes) else np.asarray(array) for array in arrays]
        shapes = {tuple(array.shape[1:]) for array in self._arrays if len(array)} or {self._arrays[0].shape[1:]}
        if len(shapes) != 1:
            raise SynthGainError(f"{where}: images of different shapes {sorted(shapes)}; rerun with one image size")
        height, width, channels = shapes.pop()
        self.shape = (height, width, channels)
        edges = np.cumsum([0, *(len(array) for array in self._arrays)])
        positions = np.arange(edges[-1]) if positions is None else positions
        self._owner = (np.searchsorted(edges, positions, side="right") - 1).astype(np.int32)
        self._offset = positions - edges[self._owner]

    def __len__(self) -> int:
        return len(self._offset)

    def gather(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return `rows` (int64, from 0; None: all) as a (B, H, W, C) uint8 copy. Raises IndexError beyond the last."""
        rows = np.arange(len(self)) if rows is None else rows
        images = np.empty((len(rows), *self.shape), dtype=np.uint8)
        owner, offset = self._owner[rows], self._offset[rows]
        for number in np.unique(owner):
            inside = owner == number
            images[inside] = self._arrays[number][offset[inside]]
        return images


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
    given = job.inputs.splits[name].folder() if with_split and name in job.inputs.splits else None
    return open_dataset(job.inputs.datasets[name].folder(), given)


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
