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
        from synthgain.datasets.folder_layout import folder_source

        folder = root / self.folder
        if not folder.is_dir():
            return None
        self._check(folder)
        return folder_source(folder)

    def _check(self, folder: Path) -> None:
        """Refuse while planning what the names of the files tell already."""
        from synthgain.datasets.folder_checks import check_layout
        from synthgain.datasets.folder_layout import read_layout

        options = checked(JobFolder, self.job_options(""), self.folder, of_slice=True)
        check_layout(read_layout(folder, self.levels), options, self.split is not None)


ENTRY = FolderDataset
