"""Config of a data set of any adapter: what all have. No adapter is imported here."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from synthgain.datasets.values import Lookup
from synthgain.entry import Entry, OmittedWhen, Share


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
        Lookup(self.map)  # refuses two spellings of one value in two parts
        if self.column is None and (self.map or self.on_conflict != "refuse"):
            raise ValueError(f"{'map' if self.map else 'on_conflict'}: is for a split that is read from a `column`")
        if self.column is not None and (self.train is not None or self.test is not None):
            raise ValueError("column: the table divides the data; leave out train and test")
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
    """What every data set has, and what planning must know of it; a kind of its own says more."""

    adapter: str

    split: Split | None = Field(None, description="Without a split the data set is for testing only.")
    max_quarantined_share: Share = Field(0.05, description="The run stops when more rows than this are unusable.")
    description: str = Field("", description="Free text for the report; changes nothing.")
    shares_films: Annotated[str, OmittedWhen("")] = Field(
        "", description="Why a test on films that another set of the study may train on is wanted: printed."
    )
    licence: str = Field("", description="Licence or terms of use, printed in the report and in exports.")

    @property
    def known_columns(self) -> set[str] | None:
        """Columns that the data set will have, or None where only its files know."""
        return None

    @property
    def known_structures(self) -> set[str] | None:
        """Mask names that it will have, or None where only its files know."""
        return None

    @property
    def known_continuous(self) -> set[str]:
        """Columns of numbers, as far as they are known before its files are read."""
        return set()

    @property
    def has_patients(self) -> bool:
        """False where no patient is named, so that the split is by image."""
        return True

    @property
    def films(self) -> str:
        """The collection that the films come from, where several published sets share one; else nothing."""
        return ""

    @property
    def modules(self) -> tuple[str, ...]:
        """Dotted modules that the adapter loads by name."""
        return ()

    def counted(self, root: Path | None) -> dict[str, object]:
        """Return what tells the number of images before they are read, or {}; `root`: the data root, if known.

        {images: number}, {counts: {all, train, validation, test}}, or {table: {path, where}}.
        """
        return {}

    def job_options(self, name: str) -> dict[str, object]:
        """Return the adapter's options in the slice of the data set's job."""
        options = self.dump(exclude=COMMON | self.settings.keys())
        if self.split is not None and self.split.column is not None:
            options["keep"] = [self.split.column]  # the split reads it from the prepared table
        return options

    def needs(self) -> str | None:
        """Return what must be below the data root, None where nothing must."""
        return None

    def source(self, root: Path) -> str | None:
        """Return the checksum of what it `needs`, or None where that is not below `root`."""
        return None

    def get(self) -> str | None:
        """Return how the user gets what it needs, where that is known."""
        return None

    def rehearsed(self, patients: int) -> dict[str, object]:
        """Return the keys that differ in a rehearsal of so many patients."""
        return {}

    # Keys of the config that say where the same bytes come from, and from which `settings` are made.
    setting_keys: ClassVar[frozenset[str]] = frozenset()

    @property
    def settings(self) -> dict[str, object]:
        """Adapter options that say where the same bytes come from: in no job's slice (`synthgain.runtime.settings`)."""
        return {}


COMMON = set(DatasetBase.model_fields)  # keys that are no options of the adapter
