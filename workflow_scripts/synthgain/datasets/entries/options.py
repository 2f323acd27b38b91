"""Options of a table of images: what the config offers, and what a job reads of it. Declarations alone."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from synthgain.datasets.values import Lookup, declared_text, number, spelling
from synthgain.entry import Entry, Name, OmittedWhen

Cell = str | int | float  # a value as the config writes it; numbers and truths are one value however they are spelled
Encoding = Literal[
    "utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252", "cp1250", "cp1251", "cp932", "gb18030"
]
Level = Annotated[int, Field(ge=0, le=65535)]

# Columns of every image table, and of a pool's: a target or covariate of that name would be lost beside them.
RESERVED = (
    *("image_id", "patient_id", "site", "origin", "sha256", "prompt", "copy", "replica", "seed"),
    *("parent_image_id", "parent_patient_id", "mask_parent_id", "mask_transform"),
)


class TableFormat(Entry):
    """How the file of a table is written, where it does not say so itself."""

    delimiter: Literal[",", ";", "tab", "|", "space"] | None = Field(
        None, description="What divides the cells of a line; default: the one of `,` `;` tab `|` that the header has."
    )
    encoding: Encoding | None = Field(
        None, description="Encoding of the text; default: UTF-8, or what the file's byte order mark says."
    )
    decimal: Literal[".", ","] = Field(".", description="What stands before the decimals of a number.")


class Uncertain(Entry):
    """What an uncertain label becomes."""

    value: Cell = Field(description="How the table writes it.")
    policy: Literal["drop", "zero", "one"] = Field("drop", description="drop: unknown, left out of the loss.")


class ValueColumn(Entry):
    """One value per row, read from a table column."""

    column: str = Field(description="Column of the table.")
    kind: Literal["binary", "category", "continuous"] = Field("category", description="Kind of value.")
    map: dict[str, Cell] = Field(default_factory=dict, description="Table value → value used here.")
    levels: list[str] | None = Field(None, description="Allowed levels, in order.")
    missing: Annotated[list[str], OmittedWhen([])] = Field(
        default_factory=list, description="Table values that mean unknown, such as NA; an empty cell does anyway."
    )

    @model_validator(mode="after")
    def _values_act(self) -> "ValueColumn":
        known = Lookup(self.map)
        levels = Lookup({level: level for level in self.levels or []})
        both = [value for value in self.missing if declared_text(value) in known]
        if both:
            raise ValueError(f"missing: {both[0]!r} stands in the map too")
        if self.levels is not None and self.kind != "category":
            raise ValueError(f"levels: are for kind: category, not for {self.kind}")
        for value, meaning in self.map.items():
            text = declared_text(meaning)
            if self.kind == "binary" and text and spelling(text) not in ("0", "1", "true", "false"):
                raise ValueError(f"map: {value!r} becomes {text!r}; a binary value is 0 or 1")
            if self.kind == "continuous" and text and number(text) is None:
                raise ValueError(f"map: {value!r} becomes {text!r}; a continuous value is a number")
            if self.levels is not None and text and text not in levels:
                listed = ", ".join(self.levels)
                raise ValueError(f"map: {value!r} becomes {text!r}, which is not among the levels ({listed})")
        return self


class TargetColumn(ValueColumn):
    """One label read from a table column."""

    kind: Literal["binary", "category"] = Field("binary", description="Two values, or one of several levels.")
    map: dict[str, Cell] = Field(default_factory=dict, description="Table value → 0/1, or → level.")
    levels: list[str] | None = Field(None, description="Allowed levels of a category, in order.")
    uncertain: Uncertain | None = Field(None, description="An uncertain value and its policy.")

    @model_validator(mode="after")
    def _acts(self) -> "TargetColumn":
        elsewhere = Lookup(dict.fromkeys([*self.map, *self.missing], ""))
        if self.uncertain is not None and declared_text(self.uncertain.value) in elsewhere:
            raise ValueError(f"uncertain.value: {declared_text(self.uncertain.value)!r} stands in map or missing too")
        if self.kind == "category" and self.uncertain is not None and self.uncertain.policy != "drop":
            raise ValueError(f"uncertain.policy: {self.uncertain.policy} is for binary; give a category a `map`")
        return self


class MultiLabel(Entry):
    """Several findings in one column, such as `Edema|Effusion`."""

    column: str = Field(description="Column of the table.")
    delimiter: str = Field("|", min_length=1, description="What stands between the findings.")
    labels: list[str] = Field(min_length=1, description="Findings that become binary targets.")
    negative: Annotated[list[str], OmittedWhen([])] = Field(
        default_factory=list, description="Words that mean none of the findings, such as No Finding."
    )
    other: Annotated[Literal["ignore", "quarantine"], OmittedWhen("ignore")] = Field(
        "ignore", description="What happens to a row that names a finding that is not listed."
    )
    missing: Annotated[list[str], OmittedWhen([])] = Field(
        default_factory=list, description="Table values that mean unknown, such as NA; an empty cell does anyway."
    )

    @model_validator(mode="after")
    def _each_means_one_thing(self) -> "MultiLabel":
        everything = [declared_text(word) for word in (*self.labels, *self.negative, *self.missing)]
        twice = next((word for word in everything if everything.count(word) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} stands twice in labels, negative and missing; each word means one thing")
        return self


class CovariateColumn(ValueColumn):
    """One covariate (sex, age, view …) read from a table column."""

    kind: Literal["category", "continuous", "binary"] = Field("category", description="Kind of value.")
    bins: list[float] | None = Field(None, description="Edges that turn numbers into levels.")
    range: tuple[float, float] | None = Field(None, description="Values outside become unknown and are counted.")

    @model_validator(mode="after")
    def _acts(self) -> "CovariateColumn":
        if self.kind != "continuous" and (self.bins or self.range):
            raise ValueError(f"{'bins' if self.bins else 'range'}: is for kind: continuous, not for {self.kind}")
        if self.bins is not None and (len(self.bins) < 2 or self.bins != sorted(set(self.bins))):
            raise ValueError(f"bins: must be at least two rising numbers, got {self.bins}")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range: is {list(self.range)}; give [smallest, largest]")
        return self


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
    value: Level | list[Level] | None = Field(
        None, description="Values of a label map that mean this structure; default: the only one that is not 0."
    )
    allowed: list[Level] | None = Field(
        None, description="Values that a label map may hold besides 0; images whose mask has another are left out."
    )

    @model_validator(mode="after")
    def _values_need_files(self) -> "MaskColumn":
        if self.encoding != "file" and (self.value is not None or self.allowed is not None):
            raise ValueError(f"value and allowed are for label maps (encoding: file), not for {self.encoding}")
        if self.value == []:
            raise ValueError("value: give at least one label value, or leave it out")
        if self.order != "column" and self.encoding in ("file", "grey"):
            raise ValueError(f"order is for run lengths (rle, rle_relative), not for {self.encoding}")
        return self


class RowOptions(Entry):
    """How the rows of a table are read."""

    mask: list[MaskColumn] = Field(default_factory=list, description="Masks; a mask file belongs to one image.")
    site: str | dict[Literal["constant"], str] | None = Field(
        None, description="Column, or {constant: name}; default: the column `site`, or without one the data set's name."
    )
    where: dict[str, Cell | list[Cell]] = Field(
        default_factory=dict, description="Keep rows whose column has this value (or list)."
    )
    targets: dict[Name, TargetColumn] = Field(default_factory=dict, description="Labels, by the name used here.")
    multilabel: MultiLabel | None = Field(None, description="Several findings in one column.")
    covariates: dict[Name, CovariateColumn] = Field(default_factory=dict, description="Covariates.")
    constants: dict[Name, str] = Field(default_factory=dict, description="Covariates equal in every row.")
    several_rows: Annotated[Literal["refuse", "agree", "any", "majority"], OmittedWhen("refuse")] = Field(
        "refuse",
        description="Several rows of one image (a box each, a reader each) are one row where they agree in all that is "
        "read. Where they disagree on a target: refuse leaves the image out; agree makes the target unknown; any takes "
        "1 if any row says so, and joins mask files; majority takes what most rows say, unknown in a tie.",
    )

    @model_validator(mode="after")
    def _names_are_free(self) -> "RowOptions":
        labels = self.multilabel.labels if self.multilabel is not None else ()
        for key, names in (
            ("targets", self.targets),
            ("covariates", self.covariates),
            ("constants", self.constants),
            ("multilabel.labels", labels),
        ):
            taken = [name for name in names if name in RESERVED or name.startswith("has_mask_")]
            if taken:
                raise ValueError(f"{key}: a target or covariate cannot be named {taken[0]!r}; choose another name here")
        return self

    @model_validator(mode="after")
    def _any_is_of_binary(self) -> "RowOptions":
        levels = [name for name, target in self.targets.items() if target.kind == "category"]
        if self.several_rows == "any" and levels:
            raise ValueError(f"several_rows: any is for binary targets, and {levels[0]} is a category; take majority")
        return self


class TableOptions(RowOptions):
    """A table file, and how its rows are read."""

    table: str = Field(description="Table file, relative to the data root.")
    images: str | None = Field(None, description="Folder of the image paths; default: the table's folder.")
    image: str = Field("image", description="Column with the image path, or with the picture itself (Parquet).")
    image_id: str | None = Field(None, description="Column with a unique name; default: the image path.")
    patient_id: str | None = Field(
        description="Column with the patient; null if there is none (then the split is by image)."
    )
    format: Annotated[TableFormat | None, OmittedWhen(None)] = Field(
        None, description="How the file is written, where it does not say so itself."
    )

    @model_validator(mode="after")
    def _format_acts(self) -> "TableOptions":
        form, name = self.format or TableFormat(), self.table.lower()
        own = {"delimiter": form.delimiter, "encoding": form.encoding}
        idle = [key for key in (("delimiter",) if name.endswith(".jsonl") else own) if own[key] is not None]
        if idle and name.endswith((".jsonl", ".parquet", ".pq")):
            raise ValueError(f"format.{idle[0]}: is for CSV, and {self.table} says itself how it is written")
        return self


class Site(Entry):
    """Where the site of a row stands, as a job has it: a column, or where that is not there, a name; or a name."""

    column: str | None = None
    otherwise: str | None = None
    constant: str | None = None


class JobRows(RowOptions):
    """What a job reads of rows besides what the config says.

    keep: columns copied as text, for example a published split. split_unit: what a patient id stands for (patient; a
    layout may say sequence). required: {column: why a row is left out whose cell is empty}.
    """

    image: str = "image"
    image_id: str | None = None
    patient_id: str | None
    site: str | Site | None = None  # type: ignore[assignment]
    keep: list[str] = Field(default_factory=list)
    split_unit: str = "patient"
    required: dict[str, str] = Field(default_factory=dict)


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


class JobFolder(RowOptions):
    """What a job reads of a folder of images. keep: as of `JobRows`."""

    folder: str
    levels: list[str] | None = None
    patient_id: str | PatientPattern | None
    site: str | Site | None = None  # type: ignore[assignment]
    keep: list[str] = Field(default_factory=list)


class JobTable(TableOptions, JobRows):
    """What a job reads of a table file."""

    site: str | Site | None = None  # type: ignore[assignment]
