"""Config of a data set of the phantom."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from synthgain.datasets.entries.base import COMMON, DatasetBase
from synthgain.datasets.options import TRUTH, Column, Finding, PhantomOptions, StyleChoice, Truth, style_choice
from synthgain.entry import OmittedWhen, Share

STRUCTURES = ("lungs", "heart", "finding")


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
    missing: dict[Column | Truth, Share] = Field(
        default_factory=dict, description="Share of unknown values per column."
    )
    mislabelled: Annotated[dict[Finding, Share], OmittedWhen({})] = Field(
        default_factory=dict, description="Share of patients with a wrong label; the truth is in true_<finding>."
    )
    first_patient: int = Field(0, ge=0, description="Number of the first patient.")
    effusion_side: Annotated[bool, OmittedWhen(False)] = Field(
        False, description="Add the covariate effusion_side: none, left or right, the patient's own."
    )

    @field_validator("style", mode="wrap")
    @classmethod
    def _style(cls, value: Any, handler: Any) -> Any:
        return style_choice(value)

    @model_validator(mode="after")
    def _as_the_job_takes_it(self) -> "PhantomDataset":
        taken = {name: getattr(self, name) for name in PhantomOptions.model_fields}
        PhantomOptions.model_validate({name: value for name, value in taken.items() if value is not None})
        return self

    @property
    def known_columns(self) -> set[str]:
        side = set() if self.effusion_side else {"effusion_side"}
        return {*get_args(Column), *(TRUTH + name for name in self.mislabelled)} - side

    @property
    def known_structures(self) -> set[str]:
        return set(STRUCTURES)

    @property
    def known_continuous(self) -> set[str]:
        return {"age"}

    def counted(self, root: Path | None) -> dict[str, object]:
        return {"images": self.patients * sum(self.images_per_patient) / 2}

    def job_options(self, name: str) -> dict[str, object]:
        return self.dump(exclude=COMMON)

    def rehearsed(self, patients: int) -> dict[str, object]:
        return {"patients": min(self.patients, patients)}


ENTRY = PhantomDataset
