"""Config of a toy data set: striped images of two kinds."""

from typing import Literal

from pydantic import Field

from synthgain.datasets.entries.base import DatasetBase


class StripesDataset(DatasetBase):
    """Stripes, upright or level."""

    adapter: Literal["stripes"]
    patients: int = Field(20, ge=1, description="Number of patients, an image each.")

    @property
    def known_columns(self) -> set[str]:
        return {"upright"}

    @property
    def known_structures(self) -> set[str]:
        return set()


ENTRY = StripesDataset
