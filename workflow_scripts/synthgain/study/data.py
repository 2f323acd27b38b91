"""Config of images and data sets."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from synthgain.datasets.options import Column, Finding, PhantomOptions, StyleChoice, style_choice
from synthgain.entry import Entry, Name, Options, Share
from synthgain.registry import LAYOUTS
from synthgain.runtime.loading import load
from synthgain.study.layouts import KNOWN_LAYOUTS, Layout


class Image(Entry):
    """One geometry for all data sets and pools."""

    size: int = Field(32, ge=16, le=1024, description="Height and width in pixels.")
    channels: Literal[1, 3] = Field(1, description="1 (grey) or 3 (RGB).")
    fit: Literal["pad", "crop", "stretch"] = Field("pad", description="How other aspect ratios become square.")
    intensity: Literal["none", "minmax", "percentile"] = Field(
        "none", description="How grey values become 8 bit: none takes 8-bit files only; the others rescale each image."
    )


class Split(Entry):
    """How patients are divided. Whole patients and duplicate groups stay on one side."""

    train: Share | None = Field(None, description="Share of patients for training.")
    validation: Share | None = Field(
        None,
        description="Share for choosing checkpoints and thresholds; with `column`, cut from training if it has none.",
    )
    test: Share | None = Field(None, description="Share for testing.")
    column: str | None = Field(None, description="Read the part from this table column instead.")
    map: dict[str, Literal["train", "validation", "test"]] = Field(
        default_factory=dict, description="Values of `column` and the part that each stands for."
    )
    on_conflict: Literal["refuse", "regroup"] = Field(
        "refuse", description="A patient with rows in two parts: stop, or move the whole patient to training."
    )
    stratify: list[str] | None = Field(None, description="Columns kept in proportion; default: all targets.")
    seed: int = Field(0, description="Draws another split of the same data.")

    @model_validator(mode="after")
    def _shares_or_column(self) -> "Split":
        shares = [self.train, self.validation, self.test]
        if self.column is None:
            if any(share is None for share in shares):
                raise ValueError("give train, validation and test, or column")
            total = sum(share or 0 for share in shares)
            if abs(total - 1) > 1e-6:
                raise ValueError(f"train + validation + test must be 1, got {total:g}")
            if not all(shares):
                raise ValueError("train, validation and test must each be above 0")
        return self


class DatasetBase(Entry):
    """What every data set has."""

    split: Split | None = Field(None, description="Without a split the data set is for testing only.")
    max_quarantined_share: Share = Field(0.05, description="The run stops when more rows than this are unusable.")
    description: str = Field("", description="Free text for the report; changes nothing.")
    licence: str = Field("", description="Licence or terms of use, printed in the report and in exports.")

    @property
    def settings(self) -> dict[str, Any]:
        """Adapter options that say where the same bytes come from: in no job's slice (`synthgain.runtime.settings`)."""
        return {}


class PhantomDataset(DatasetBase):
    """The built-in chest radiograph phantom: no download, law known."""

    adapter: Literal["phantom"]
    patients: int = Field(ge=1, description="Number of patients.")
    images_per_patient: tuple[int, int] = Field((1, 2), description="Smallest and largest number of images a patient.")
    site: str = Field("a", description="Site label; sites a and b have styles of their own.")
    style: str | StyleChoice | None = Field(None, description="Name (a or b) or its values; default: the site's.")
    seed: int = Field(0, description="Draws other patients of the same law.")
    prevalence: dict[Finding, Share] = Field(default_factory=dict, description="Share of patients with each finding.")
    sex_ratio: Share | None = Field(None, description="Share of women.")
    age_range: tuple[float, float] | None = Field(None, description="Youngest and oldest age in years.")
    missing: dict[Column, Share] = Field(default_factory=dict, description="Share of unknown values per column.")
    first_patient: int = Field(0, ge=0, description="Number of the first patient.")

    @field_validator("style", mode="wrap")
    @classmethod
    def _style(cls, value: Any, handler: Any) -> Any:
        return style_choice(value)

    @model_validator(mode="after")
    def _as_the_job_takes_it(self) -> "PhantomDataset":
        taken = {name: getattr(self, name) for name in PhantomOptions.model_fields}
        PhantomOptions.model_validate({name: value for name, value in taken.items() if value is not None})
        return self


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


class TableDataset(DatasetBase):
    """Your own data: a CSV or Parquet table of image paths, relative to the data root."""

    adapter: Literal["table"]
    table: str = Field(description="Table file, relative to the data root.")
    images: str | None = Field(None, description="Folder of the image paths; default: the table's folder.")
    image: str = Field("image", description="Column with the image path.")
    mask: list[MaskColumn] = Field(default_factory=list, description="Masks; a mask file belongs to one image.")
    image_id: str | None = Field(None, description="Column with a unique name; default: the image path.")
    patient_id: str | None = Field(
        description="Column with the patient; null if there is none (then the split is by image)."
    )
    site: str | dict[Literal["constant"], str] | None = Field(
        None, description="Column, or {constant: name}; default: the column `site`, or without one the data set's name."
    )
    where: dict[str, Any] = Field(default_factory=dict, description="Keep rows whose column has this value (or list).")
    targets: dict[Name, TargetColumn] = Field(default_factory=dict, description="Labels, by the name used here.")
    multilabel: MultiLabel | None = Field(None, description="Several findings in one column.")
    covariates: dict[Name, CovariateColumn] = Field(default_factory=dict, description="Covariates.")
    constants: dict[Name, str] = Field(default_factory=dict, description="Covariates equal in every row.")


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

    @property
    def settings(self) -> dict[str, Any]:
        return {"cache": self.cache, "url": self.url}


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

    @property
    def get(self) -> str:
        """Return what to get from where, as the layout's module says it (imported only where it is missing)."""
        return str(load(LAYOUTS, self.known.module).GET)

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

    @property
    def options(self) -> dict[str, Any]:
        """Return the adapter's options as they stand in a job's slice."""
        return {
            "layout": {"module": self.known.module, "options": {}},
            "folder": self.source_folder,
            "archive": {"checksum": self.archive["checksum"]} if self.archive else None,
            "where": self.where,
        }

    @property
    def settings(self) -> dict[str, Any]:
        return {"archive": self.archive} if self.archive else {}


Dataset = Annotated[PhantomDataset | TableDataset | MedMNISTDataset | PublishedDataset, Field(discriminator="adapter")]

COMMON = set(DatasetBase.model_fields) | {"adapter"}
