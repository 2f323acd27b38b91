"""Config of your own data, and of your own synthetic images."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from synthgain.datasets.entries.base import DatasetBase
from synthgain.datasets.entries.options import RowOptions, TableOptions
from synthgain.entry import Options
from synthgain.runtime.files import sha256_file


class RowsDataset(RowOptions, DatasetBase):
    """Data sets whose columns the study reads: what a row's columns mean."""

    @property
    def known_columns(self) -> set[str]:
        labels = set(self.multilabel.labels) if self.multilabel else set()
        return {*self.targets, *self.covariates, *self.constants, *labels}

    @property
    def known_structures(self) -> set[str]:
        return {mask.name for mask in self.mask}

    @property
    def known_continuous(self) -> set[str]:
        columns = {**self.targets, **self.covariates}
        return {name for name, column in columns.items() if column.kind == "continuous"}

    def job_options(self, name: str) -> dict[str, object]:
        site = {} if self.site is not None else {"site": {"column": "site", "otherwise": name}}
        return {**super().job_options(name), **site}


class TableDataset(TableOptions, RowsDataset):
    """Your own data: a CSV or Parquet table of image paths, relative to the data root."""

    adapter: Literal["table"]

    @property
    def has_patients(self) -> bool:
        return self.patient_id is not None

    def counted(self, root: Path | None) -> dict[str, object]:
        form = {} if self.format is None else {"format": self.format.dump(exclude_none=True)}
        return {"table": {"path": self.table, "where": self.where, **form}}

    def needs(self) -> str | None:
        return self.table

    def source(self, root: Path) -> str | None:
        return sha256_file(root / self.table) if (root / self.table).is_file() else None


class Imported(Options, TableDataset):
    """Your own synthetic images: the keys of a `table` data set, and which of its columns name the parents."""

    adapter: Literal["table"] = "table"
    patient_id: str | None = Field(None, description="Column with the patient; default: the parent's, or each its own.")
    replica: str | None = Field(None, description="Column with the replica (1, 2 …); default: by the table's order.")
    parent_image_id: str | None = Field(None, description="Column with the real image that an image was made from.")
    parent_patient_id: str | None = Field(None, description="Column with that image's patient.")

    @model_validator(mode="after")
    def _has_no_split(self) -> "Imported":
        if self.split is not None:
            raise ValueError("split: synthetic images are not split")
        return self


ENTRY = TableDataset
