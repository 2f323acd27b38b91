"""Which masks of a data set a generator draws or is conditioned on, and the rows that have them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synthgain.data.image_set import ImageSet
from synthgain.runtime.errors import SynthGainError

OUTPUTS = ("image", "image+mask", "mask")
INSIDE = 255  # level of a mask's pixels as a training plane, so that images and masks are scaled alike to [-1, 1]


@dataclass(frozen=True)
class MaskPlanes:
    """What a generator draws (`output`), and the structures whose masks it draws, or takes where `conditioned`.

    place: where the config says so, for errors. Raises SynthGainError for an impossible combination.
    """

    output: str = "image"
    structures: tuple[str, ...] = ()
    conditioned: bool = False
    place: str = "train_on"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise SynthGainError(f"{self.place}.output {self.output!r}: known are {', '.join(OUTPUTS)}")
        if self.conditioned and self.output != "image":
            raise SynthGainError(f"{self.place}.condition_on: what draws masks cannot be conditioned on them as well")
        if self.used and not self.structures:
            raise SynthGainError(f"{self.place}.structures: missing; name the masks that are drawn or conditioned on")

    @property
    def used(self) -> bool:
        """True where masks are needed at all."""
        return self.conditioned or self.output != "image"


IMAGES_ONLY = MaskPlanes()


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
