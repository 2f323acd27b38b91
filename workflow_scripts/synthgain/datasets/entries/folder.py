"""Config of a folder of images without a table of your own: classes, parts and masks by the names of folders."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from synthgain.datasets.entries.options import JobFolder, PatientPattern
from synthgain.datasets.entries.table import RowsDataset
from synthgain.entry import checked

Level = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9_]{0,63}|_)$")]


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
        options = checked(JobFolder, self.job_options(""), self.folder, of_slice=True)
        check_layout(read_layout(folder, self.levels), options, self.split is not None)
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
