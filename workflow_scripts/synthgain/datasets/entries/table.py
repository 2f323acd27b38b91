"""Config of your own data, and of your own synthetic images."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from synthgain.datasets.entries.base import DatasetBase
from synthgain.entry import Entry, Name, Options
from synthgain.runtime.files import sha256_file


class Uncertain(Entry):
    """What an uncertain label becomes."""

    value: str | int | float = Field(description="How the table writes it.")
    policy: Literal["drop", "zero", "one"] = Field("drop", description="drop: unknown, left out of the loss.")


class TargetColumn(Entry):
    """One label read from a table column."""

    column: str = Field(description="Column of the table.")
    kind: Literal["binary", "category"] = Field("binary", description="Two values, or one of several levels.")
    map: dict[str, str | int | float] = Field(default_factory=dict, description="Table value → 0/1, or → level.")
    levels: list[str] | None = Field(None, description="Allowed levels of a category, in order.")
    uncertain: Uncertain | None = Field(None, description="An uncertain value and its policy.")


class MultiLabel(Entry):
    """Several findings in one column, such as `Edema|Effusion`."""

    column: str = Field(description="Column of the table.")
    delimiter: str = Field("|", description="What stands between the findings.")
    labels: list[str] = Field(min_length=1, description="Findings that become binary targets.")


class CovariateColumn(Entry):
    """One covariate (sex, age, view …) read from a table column."""

    column: str = Field(description="Column of the table.")
    kind: Literal["category", "continuous", "binary"] = Field("category", description="Kind of value.")
    map: dict[str, str | int | float] = Field(default_factory=dict, description="Table value → value used here.")
    levels: list[str] | None = Field(None, description="Allowed levels, in order.")
    bins: list[float] | None = Field(None, description="Edges that turn numbers into levels.")
    range: tuple[float, float] | None = Field(None, description="Values outside become unknown and are counted.")


class MaskColumn(Entry):
    """A mask per image: a file, or run lengths in the cell. Empty cell: unknown; -1: known to be empty."""

    column: str = Field(description="Column with the mask's path or run lengths.")
    name: Name = Field(description="Name of the structure; columns of one name are joined (left and right lung).")
    encoding: Literal["file", "grey", "rle", "rle_relative"] = Field(
        "file",
        description="file: a label map; grey: a grey file, cut at half; rle: pairs start length, pixels counted from "
        "1 (Kaggle); rle_relative: pairs gap length (SIIM-ACR). Several run lengths in one cell are separated by ;",
    )
    order: Literal["column", "row"] = Field("column", description="Whether run lengths run down columns or along rows.")
    value: Annotated[int, Field(ge=0, le=65535)] | list[Annotated[int, Field(ge=0, le=65535)]] | None = Field(
        None, description="Values of a label map that mean this structure; default: the only one that is not 0."
    )
    allowed: list[Annotated[int, Field(ge=0, le=65535)]] | None = Field(
        None, description="Values that a label map may hold besides 0; images whose mask has another are left out."
    )

    @model_validator(mode="after")
    def _values_need_files(self) -> "MaskColumn":
        if self.encoding != "file" and (self.value is not None or self.allowed is not None):
            raise ValueError(f"value and allowed are for label maps (encoding: file), not for {self.encoding}")
        if self.value == []:
            raise ValueError("value: give at least one label value, or leave it out")
        return self


class RowsDataset(DatasetBase):
    """Data sets whose columns the study reads: what a row's columns mean."""

    mask: list[MaskColumn] = Field(default_factory=list, description="Masks; a mask file belongs to one image.")
    site: str | dict[Literal["constant"], str] | None = Field(
        None, description="Column, or {constant: name}; default: the column `site`, or without one the data set's name."
    )
    where: dict[str, Any] = Field(default_factory=dict, description="Keep rows whose column has this value (or list).")
    targets: dict[Name, TargetColumn] = Field(default_factory=dict, description="Labels, by the name used here.")
    multilabel: MultiLabel | None = Field(None, description="Several findings in one column.")
    covariates: dict[Name, CovariateColumn] = Field(default_factory=dict, description="Covariates.")
    constants: dict[Name, str] = Field(default_factory=dict, description="Covariates equal in every row.")

    @property
    def known_columns(self) -> set[str]:
        labels = set(self.multilabel.labels) if self.multilabel else set()
        return {*self.targets, *self.covariates, *self.constants, *labels}

    @property
    def known_structures(self) -> set[str]:
        return {mask.name for mask in self.mask}

    def job_options(self, name: str) -> dict[str, Any]:
        site = {} if self.site is not None else {"site": {"column": "site", "otherwise": name}}
        return {**super().job_options(name), **site}


class TableDataset(RowsDataset):
    """Your own data: a CSV or Parquet table of image paths, relative to the data root."""

    adapter: Literal["table"]
    table: str = Field(description="Table file, relative to the data root.")
    images: str | None = Field(None, description="Folder of the image paths; default: the table's folder.")
    image: str = Field("image", description="Column with the image path.")
    image_id: str | None = Field(None, description="Column with a unique name; default: the image path.")
    patient_id: str | None = Field(
        description="Column with the patient; null if there is none (then the split is by image)."
    )

    @property
    def has_patients(self) -> bool:
        return self.patient_id is not None

    def counted(self, root: Path | None) -> dict[str, Any]:
        return {"table": {"path": self.table, "where": self.where}}

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
