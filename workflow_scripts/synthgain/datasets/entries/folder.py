"""Config of a folder of images without a table of your own: classes, parts and masks by the names of folders."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from synthgain.datasets.entries.table import RowsDataset
from synthgain.entry import Entry

Level = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9_]{0,63}|_)$")]


class PatientPattern(Entry):
    """The patient in an image's path."""

    pattern: str = Field(
        description="Regular expression, sought in the path below the folder (with /); its group, or all of it where "
        "it has none, is the patient. Images in whose path it is not found are quarantined."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression ({error})") from None
        if groups > 1:
            raise ValueError(f"{value!r} has {groups} groups, one names the patient; write the others as (?:…)")
        return value


class FolderDataset(RowsDataset):
    """A folder of images: class folders, parts (train, val, test), masks beside images, or with metadata.csv."""

    adapter: Literal["folder"]
    folder: str = Field(description="The folder, relative to the data root.")
    levels: list[Level] | None = Field(
        None,
        description="What its folders mean, from the top down: `split`, `class`, or names of your own (`patient`, "
        "`site`, `_`: nothing), which become columns; default: found by their names (docs/your_data.md).",
    )
    patient_id: str | PatientPattern | None = Field(
        description="{pattern: regular expression} for the path, a column (of `levels` or of the metadata), or null if "
        "there is none (then the split is by image)."
    )

    @model_validator(mode="after")
    def _levels_differ(self) -> "FolderDataset":
        named = [level for level in self.levels or [] if level != "_"]
        if len(set(named)) < len(named):
            raise ValueError(f"levels: each name once, got {', '.join(named)}")
        return self

    @property
    def has_patients(self) -> bool:
        return self.patient_id is not None

    def needs(self) -> str | None:
        return self.folder

    def source(self, root: Path) -> str | None:
        """Return the identity of what lies there, after refusing what the names of the files tell already."""
        from synthgain.datasets.folder_checks import check_layout
        from synthgain.datasets.folder_layout import folder_source, read_layout

        folder = root / self.folder
        if not folder.is_dir():
            return None
        check_layout(read_layout(folder, self.levels), self.job_options(""), self.folder, self.split is not None)
        return folder_source(folder)

    def counted(self, root: Path | None) -> dict[str, object]:
        from synthgain.datasets.folder_layout import SPLIT, read_layout

        if root is None or not (root / self.folder).is_dir():
            return {}
        layout = read_layout(root / self.folder, self.levels)
        if self.split is None or self.split.column != SPLIT or self.split.map:
            return {"images": len(layout.rows)}
        parts = [row.get(SPLIT) for row in layout.rows]
        found: dict[str, float] = {part: parts.count(part) for part in ("train", "validation", "test")}
        if self.split.validation and not found["validation"]:
            found["validation"] = self.split.validation * found["train"]
            found["train"] -= found["validation"]
        return {"counts": {"all": len(layout.rows), **found}}


ENTRY = FolderDataset
