"""Masks of real sets and pools, found by image_id: the evaluation reads images and masks apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthgain.images import read_image_set
from synthgain.replicas import read_replicas, take
from synthgain.runtime.command import Job

BLOCK = 256  # images whose masks are in memory at once


@dataclass(frozen=True)
class Masks:
    """Masks still on disk. arrays: (n, H, W, K) uint8 pieces, memory-mapped; names: the K structures; table: the rows.

    The table has image_id and, per structure, has_mask_<name>.
    """

    arrays: list[np.ndarray]
    names: list[str]
    table: pd.DataFrame

    def positions(self, image_ids: Sequence[str] | np.ndarray, structure: str) -> np.ndarray:
        """Row of each image here, (N,) int64; -1 where it is unknown or has no mask of the structure."""
        if structure not in self.names:
            return np.full(len(image_ids), -1)
        known = self.table[f"has_mask_{structure}"].to_numpy(dtype=bool)
        rows = pd.Series(np.flatnonzero(known), index=self.table["image_id"].astype(str).to_numpy()[known])
        return rows.reindex(np.asarray(image_ids, dtype=str), fill_value=-1).to_numpy(dtype=np.int64)

    def plane(self, rows: np.ndarray, structure: str) -> np.ndarray:
        """Masks of one structure, (n, H, W) bool, of these rows."""
        return take(self.arrays, rows)[..., self.names.index(structure)] == 1

    def blocks(self, rows: np.ndarray, structure: str) -> Iterator[np.ndarray]:
        """The same in blocks that fit in memory."""
        for start in range(0, len(rows), BLOCK):
            yield self.plane(rows[start : start + BLOCK], structure)


def real_masks(job: Job, name: str) -> Masks | None:
    """Masks of a data set, None where it has none."""
    dataset = job.inputs.datasets[name]
    images = read_image_set(dataset.folder(), dataset.identity)
    if images.masks is None or not images.mask_names:
        return None
    return Masks([images.masks], images.mask_names, images.table)


def planes_of(job: Job, table: pd.DataFrame, structures: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table of real images (with its column `dataset`) that have a mask of every structure, and the masks.

    Returns positions (n,) int64 and (n, H, W, K) uint8 in {0, 1}, planes in the order of `structures`.
    """
    rows, planes = [], []
    for name, part in table.reset_index(drop=True).groupby("dataset", sort=False):
        masks = real_masks(job, str(name))
        if masks is None:
            continue
        places = np.stack([masks.positions(part["image_id"].to_numpy(), entry) for entry in structures], axis=1)
        known = (places >= 0).all(axis=1)
        rows.append(part.index.to_numpy()[known])
        planes.append(np.stack([masks.plane(places[known, k], entry) for k, entry in enumerate(structures)], axis=-1))
    if not rows:
        return np.zeros(0, np.int64), np.zeros((0, 1, 1, len(structures)), np.uint8)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return np.concatenate(rows)[order], np.concatenate(planes)[order].astype(np.uint8)


def pool_masks(job: Job, pool: str, index: int) -> Masks | None:
    """Masks of every replica of pools/<pool>/<index> among the job's inputs, None where a replica has none."""
    replicas = list(job.inputs.replicas.below(pool, index).values())
    _, table, masks = read_replicas([(replica.path, replica.identity) for replica in replicas])
    structures = list(replicas[0].manifest().get("mask_names") or [])
    return Masks(masks, structures, table) if masks and structures else None
