"""Config of a MedMNIST set."""

from typing import ClassVar, Literal

from pydantic import Field

from synthgain.datasets.entries.base import DatasetBase


class MedMNISTDataset(DatasetBase):
    """A MedMNIST set: downloaded once, MD5-checked, kept in a cache."""

    adapter: Literal["medmnist"]
    name: str = Field(description="Name of the set, such as pneumoniamnist.")
    size: Literal[28, 64, 128, 224] = Field(28, description="Size of the published images.")
    url: str | None = Field(None, description="Another address to download from.")
    md5: str | None = Field(None, description="MD5 of the file, where it is not one of the known ones.")
    cache: str | None = Field(
        None, description="Folder for the download below the data root (without one, below ~/.cache/synthgain)."
    )

    setting_keys: ClassVar[frozenset[str]] = frozenset({"cache", "url"})

    @property
    def settings(self) -> dict[str, object]:
        return {"cache": self.cache, "url": self.url}


ENTRY = MedMNISTDataset
