"""Config of a published data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from synthgain.data.votes import votes_of
from synthgain.datasets.entries.base import DatasetBase
from synthgain.datasets.entries.options import Cell
from synthgain.datasets.known_layouts import CHEXMASK, KNOWN_LAYOUTS, Layout
from synthgain.datasets.layout_options import LabelPolicy, LayoutOptions
from synthgain.entry import Name, OmittedWhen, nearest
from synthgain.registry import LAYOUTS
from synthgain.runtime.listing import source_identity
from synthgain.runtime.loading import load

if TYPE_CHECKING:
    LayoutName = str
else:  # the layouts that are known; a type checker cannot follow it
    LayoutName = Literal[tuple(KNOWN_LAYOUTS)]

TAKEN = ("labels", "findings", "confirmed", "mapping")  # keys that only some layouts heed


class PublishedDataset(DatasetBase):
    """A published data set whose folders are known; downloaded and checked where the publisher allows it."""

    adapter: Literal["published"]
    layout: LayoutName = Field(description="Which one.")
    folder: str | None = Field(None, description="Its folder below the data root; default: as the archive names it.")
    where: dict[str, Cell | list[Cell]] = Field(
        default_factory=dict,
        description="Keep rows whose column has this value (or list); polypgen: {centre: C6}, {part: single}.",
    )
    url: str | None = Field(None, description="Another address of the same archive.")
    checksum: str | None = Field(None, description="Hex digits of another archive's MD5, SHA-256, SHA-384 or SHA-512.")
    labels: LabelPolicy | None = Field(None, description="What uncertain and blank labels become; by whom they are.")
    findings: list[Name] | None = Field(
        None, description="Labels read, in snake_case; default: all (vindr_cxr, padchest: name them)."
    )
    confirmed: bool | None = Field(
        None, description="candid_ptx: the outlines were seen to fit in the audit, so that masks are read."
    )
    mapping: bool | None = Field(None, description="rsna_pneumonia: false reads it without patients, split by image.")
    chexmask: Annotated[str | None, OmittedWhen(None)] = Field(
        None, description="CheXmask's CSV file of this set, below the data root: masks of lungs and heart."
    )

    @model_validator(mode="after")
    def _heeded_keys_only(self) -> "PublishedDataset":
        for key in TAKEN:
            if getattr(self, key) is not None and key not in self.known.takes:
                raise ValueError(f"{key}: layout {self.layout!r} does not heed it; leave it out")
        for finding in self.findings or ():
            if self.known.findings is not None and finding not in self.known.findings:
                raise ValueError(
                    f"findings: {finding!r} is none of {self.layout}'s; {nearest(finding, self.known.findings)}"
                )
        if self.known.findings is None and not self.findings:
            raise ValueError(f"findings: {self.layout} has very many; name those that are read, in snake_case")
        return self

    @property
    def chosen_findings(self) -> list[str]:
        """Labels that are read."""
        return list(self.findings if self.findings is not None else self.known.findings or ())

    @property
    def known(self) -> Layout:
        """What is known of the layout before its files are read."""
        return KNOWN_LAYOUTS[self.layout]

    def get(self) -> str:
        """Return what to get from where, as the layout's module says it (imported only where it is missing)."""
        return str(load(LAYOUTS, self.known.module).GET)

    @property
    def known_columns(self) -> set[str]:
        soft = self.labels is not None and self.labels.votes == "soft"
        return {*self.known.columns, *self.chosen_findings, *(votes_of(name) for name in self.chosen_findings if soft)}

    @property
    def known_structures(self) -> set[str]:
        return {*self.known.structures, *(CHEXMASK if self.chexmask else ())}

    @property
    def has_patients(self) -> bool:
        return self.known.patients and self.mapping is not False

    @property
    def films(self) -> str:
        return self.known.films

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

    def job_options(self, name: str) -> dict[str, object]:
        keep = {"keep": [self.split.column]} if self.split is not None and self.split.column is not None else {}
        return {
            "layout": {"module": self.known.module, "options": self._layout_options()},
            "folder": self.source_folder,
            "archive": {"checksum": self.archive["checksum"]} if self.archive else None,
            "where": self.where,
            **({"chexmask": self.chexmask} if self.chexmask else {}),
            **keep,
        }

    def _layout_options(self) -> dict[str, object]:
        """Return what the layout's module is given: nothing for one that takes nothing."""
        if not self.known.takes:
            return {}
        options = LayoutOptions(
            labels=self.labels or LabelPolicy(),
            findings=self.chosen_findings,
            confirmed=bool(self.confirmed),
            mapping=self.mapping is not False,
        )
        return options.dump()

    setting_keys: ClassVar[frozenset[str]] = frozenset({"url"})

    @property
    def settings(self) -> dict[str, object]:
        return {"archive": self.archive} if self.archive else {}


ENTRY = PublishedDataset
