"""Config of a published data set."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from synthgain.datasets.entries.base import DatasetBase
from synthgain.datasets.known_layouts import KNOWN_LAYOUTS, Layout
from synthgain.registry import LAYOUTS
from synthgain.runtime.listing import source_identity
from synthgain.runtime.loading import load


class PublishedDataset(DatasetBase):
    """A published data set whose folders are known; downloaded and checked where the publisher allows it."""

    adapter: Literal["published"]
    layout: Literal["kvasir_seg", "hyperkvasir", "cvc_clinicdb", "polypgen", "montgomery", "shenzhen", "siim_acr"] = (
        Field(description="Which one.")
    )
    folder: str | None = Field(None, description="Its folder below the data root; default: as the archive names it.")
    where: dict[str, Any] = Field(
        default_factory=dict,
        description="Keep rows whose column has this value (or list); polypgen: {centre: C6}, {part: single}.",
    )
    url: str | None = Field(None, description="Another address of the same archive.")
    checksum: str | None = Field(None, description="Hex digits of another archive's MD5, SHA-256, SHA-384 or SHA-512.")

    @property
    def known(self) -> Layout:
        """What is known of the layout before its files are read."""
        return KNOWN_LAYOUTS[self.layout]

    def get(self) -> str:
        """Return what to get from where, as the layout's module says it (imported only where it is missing)."""
        return str(load(LAYOUTS, self.known.module).GET)

    @property
    def known_columns(self) -> set[str]:
        return set(self.known.columns)

    @property
    def known_structures(self) -> set[str]:
        return set(self.known.structures)

    @property
    def modules(self) -> tuple[str, ...]:
        return (LAYOUTS[self.known.module],)

    def needs(self) -> str | None:
        return self.source_folder

    def source(self, root: Path) -> str | None:
        return source_identity(root / self.source_folder, self.archive["checksum"] if self.archive else None)

    @property
    def source_folder(self) -> str:
        """The folder below the data root."""
        return self.folder or self.known.folder

    @property
    def archive(self) -> dict[str, str] | None:
        """Return {url, checksum} of what may be downloaded, or None."""
        url, checksum = self.known.archive or (None, None)
        url, checksum = self.url or url, self.checksum or checksum
        return {"url": url, "checksum": checksum.lower()} if url and checksum else None

    def job_options(self, name: str) -> dict[str, Any]:
        keep = {"keep": [self.split.column]} if self.split is not None and self.split.column is not None else {}
        return {
            "layout": {"module": self.known.module, "options": {}},
            "folder": self.source_folder,
            "archive": {"checksum": self.archive["checksum"]} if self.archive else None,
            "where": self.where,
            **keep,
        }

    @property
    def settings(self) -> dict[str, Any]:
        return {"archive": self.archive} if self.archive else {}


ENTRY = PublishedDataset
