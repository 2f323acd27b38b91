"""Options of data sets that a study sets and a job reads: those of the phantom. Declarations alone."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from synthgain.entry import Entry, OmittedWhen, Options, Share, nearest

Finding = Literal["opacity", "nodule", "effusion", "cardiomegaly"]
Column = Literal["opacity", "nodule", "effusion", "cardiomegaly", "sex", "age", "build", "effusion_side"]
Truth = Literal["true_opacity", "true_nodule", "true_effusion", "true_cardiomegaly"]  # of findings with wrong labels
TRUTH = "true_"


class Style(Entry):
    """How one hospital takes and processes its films.

    contrast: slope of the tone curve at its middle (1 = a straight line). brightness: grey level added.
    exposure_sd: spread of the window between films, in grey levels. quantum_noise: relative noise of a
    1 cm² patch behind a mean patient. scatter: scattered over mean primary intensity. equalisation: share of
    the large-scale contrast that processing takes away. collimation: largest unexposed border as a share of
    the side; border_grey its grey level (0-255). marker: burned-in letter and its corner ("" = none).
    margin: film side over the patient's inner chest width. pose: factor on the spread of position and rotation.
    """

    contrast: float = Field(1.25, gt=0.2, le=4.0)
    brightness: float = Field(0.0, ge=-0.3, le=0.3)
    exposure_sd: float = Field(0.025, ge=0.0, le=0.2)
    quantum_noise: float = Field(0.004, ge=0.0, le=0.3)
    scatter: float = Field(0.15, ge=0.0, le=3.0)
    equalisation: float = Field(0.25, ge=0.0, lt=1.0)
    collimation: float = Field(0.02, ge=0.0, le=0.2)
    border_grey: int = Field(0, ge=0, le=255)
    marker: Literal["L", "R", ""] = "L"
    margin: float = Field(1.16, ge=1.0, le=1.6)
    pose: float = Field(1.0, ge=0.0, le=3.0)


# "a": a digital department with strong processing. "b": older cassettes, more scatter and noise, flatter and
# brighter films, loose collimation with a grey border, patients less well placed.
STYLES: dict[str, Style] = {
    "a": Style(),
    "b": Style(
        contrast=0.85, brightness=0.05, exposure_sd=0.05, quantum_noise=0.007, scatter=0.45, equalisation=0.0,
        collimation=0.06, border_grey=24, marker="R", margin=1.24, pose=1.6,
    ),
}  # fmt: skip


class StyleChoice(Options, Style):
    """A style of its own: another one, and what differs from it."""

    base: str = Field("a", description="The style that it starts from: a or b.")

    @model_validator(mode="before")
    @classmethod
    def _known_base(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("base", "a") not in list(STYLES):  # a list, say, is no key
            raise ValueError(f"base: unknown style {data['base']!r}; {nearest(str(data['base']), STYLES)}")
        return data

    @property
    def film(self) -> Style:
        """The style with all its values."""
        own = {name: getattr(self, name) for name in self.given() if name != "base"}
        return STYLES[self.base].model_copy(update=own)


def style_choice(value: Any) -> str | StyleChoice | None:
    """Return the checked style of a config entry: a name, or a map. ValueError for an unknown name."""
    if value is None or isinstance(value, StyleChoice):
        return value
    if not isinstance(value, dict):
        if value not in list(STYLES):
            raise ValueError(f"unknown style {value!r}; {nearest(str(value), STYLES)}")
        return str(value)
    return StyleChoice.model_validate(value)


class PhantomOptions(Entry):
    """Options of the `phantom` adapter.

    style: a name in STYLES, or a mapping {base: name, field: value …}; by default the
    style named like the site, else "a". missing: share of values hidden from the table, per column,
    completely at random. first_patient: number of the first patient, to draw new ones of the same law.
    mislabelled: share of patients whose label of a finding is wrong; what they have then stands in true_<finding>.
    effusion_side: add this column; the films are those without it.
    """

    patients: int = Field(200, ge=1)
    images_per_patient: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 2)
    site: str = Field("a", min_length=1)
    style: str | StyleChoice | None = None
    seed: int = 0
    prevalence: dict[Finding, Share] = Field(default_factory=dict)
    sex_ratio: Share = 0.5  # share of women
    age_range: tuple[Annotated[int, Field(ge=18)], Annotated[int, Field(le=100)]] = (20, 90)
    missing: dict[Column | Truth, Share] = Field(default_factory=dict)
    mislabelled: Annotated[dict[Finding, Share], OmittedWhen({})] = Field(default_factory=dict)
    first_patient: int = Field(0, ge=0)
    effusion_side: Annotated[bool, OmittedWhen(False)] = False

    @field_validator("style", mode="wrap")
    @classmethod
    def _style(cls, value: Any, handler: Any) -> Any:
        return style_choice(value)

    @model_validator(mode="after")
    def _ordered(self) -> "PhantomOptions":
        for name in ("images_per_patient", "age_range"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: is [{low}, {high}]; give [smallest, largest]")
        for column in self.missing:
            if column.startswith(TRUTH) and column.removeprefix(TRUTH) not in self.mislabelled:
                raise ValueError(f"missing: there is no {column}, since mislabelled does not name its finding")
        if "effusion_side" in self.missing and not self.effusion_side:
            raise ValueError("missing: there is no column effusion_side; add it by effusion_side: true")
        return self

    @property
    def film(self) -> Style:
        """The style chosen, or the site's."""
        if isinstance(self.style, StyleChoice):
            return self.style.film
        return STYLES[self.style or (self.site if self.site in STYLES else "a")]
