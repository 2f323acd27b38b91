"""Config of images and data sets: one kind of data set for each registered adapter."""

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field

from synthgain.datasets.entries.base import DatasetBase
from synthgain.entry import Entry
from synthgain.registry import ADAPTER_ENTRIES
from synthgain.runtime.loading import load

if TYPE_CHECKING:
    Dataset = DatasetBase
else:
    Dataset = Annotated[
        Union[tuple(load(ADAPTER_ENTRIES, name).ENTRY for name in ADAPTER_ENTRIES)],  # noqa: UP007
        Field(discriminator="adapter"),
    ]


class Image(Entry):
    """One geometry for all data sets and pools."""

    size: int = Field(32, ge=16, le=1024, description="Height and width in pixels.")
    channels: Literal[1, 3] = Field(1, description="1 (grey) or 3 (RGB).")
    fit: Literal["pad", "crop", "stretch"] = Field("pad", description="How other aspect ratios become square.")
    intensity: Literal["none", "minmax", "percentile"] = Field(
        "none", description="How grey values become 8 bit: none takes 8-bit files only; the others rescale each image."
    )
