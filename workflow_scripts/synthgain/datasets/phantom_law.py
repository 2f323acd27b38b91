"""The phantom's law: who the patients are, what they have, and the options that set it.

Sex, build and age are independent; each finding is independent given them, with odds that grow with age.
The joint law of (sex, build, age) given any known labels is a finite table, so unknown values are drawn exactly.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.optimize import brentq
from scipy.special import expit

from synthgain.datasets.phantom_film import STYLES, Style
from synthgain.runtime.errors import SynthGainError

FINDINGS = ("opacity", "nodule", "effusion", "cardiomegaly")
SEXES = ("F", "M")
BUILDS = ("slim", "medium", "large")
COVARIATES = ("sex", "age", "build")

# Set by hand so that each finding is common enough to learn from a few hundred patients.
DEFAULT_PREVALENCE = {"opacity": 0.35, "nodule": 0.15, "effusion": 0.2, "cardiomegaly": 0.2}
BUILD_SHARES = (0.3, 0.45, 0.25)
# Log odds per 20 years: findings are commoner in the old, nodules and large hearts most of all.
AGE_SLOPES = {"opacity": 0.3, "nodule": 0.6, "effusion": 0.4, "cardiomegaly": 0.6}
AGE_CENTRE, AGE_UNIT, AGE_SD = 55.0, 20.0, 18.0  # years; the age law is a normal cut to `age_range`

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class PhantomOptions(BaseModel):
    """Options of the `phantom` adapter.

    style: a name in `phantom_film.STYLES`, or a mapping {base: name, field: value …}; by default the
    style named like the site, else "a". missing: share of values hidden from the table, per column,
    completely at random. first_patient: number of the first patient, to draw new ones of the same law.
    """

    model_config = ConfigDict(extra="forbid")

    patients: int = Field(200, ge=1)
    images_per_patient: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 2)
    site: str = Field("a", min_length=1)
    style: str | dict[str, object] | None = None
    seed: int = 0
    prevalence: dict[Literal["opacity", "nodule", "effusion", "cardiomegaly"], Share] = Field(default_factory=dict)
    sex_ratio: Share = 0.5  # share of women
    age_range: tuple[Annotated[int, Field(ge=18)], Annotated[int, Field(le=100)]] = (20, 90)
    missing: dict[Literal["opacity", "nodule", "effusion", "cardiomegaly", "sex", "age", "build"], Share] = Field(
        default_factory=dict
    )
    first_patient: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "PhantomOptions":
        for name in ("images_per_patient", "age_range"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [{low}, {high}]; give [smallest, largest]")
        return self


def read_options(options: Mapping[str, object]) -> PhantomOptions:
    """Return the checked options (null = default); SynthGainError with one line naming the key otherwise."""
    try:
        return PhantomOptions.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise SynthGainError(_one_line(error)) from error


def read_style(options: PhantomOptions) -> Style:
    """Return the site's film style; SynthGainError for an unknown name or field."""
    chosen = options.style if options.style is not None else options.site if options.site in STYLES else "a"
    fields = dict(chosen) if isinstance(chosen, dict) else {"base": chosen}
    base = fields.pop("base", "a")
    if base not in STYLES:
        raise SynthGainError(f"phantom option style: {base!r} is not a style; known: {', '.join(STYLES)}")
    try:
        return Style.model_validate({**STYLES[base].model_dump(), **fields})
    except ValidationError as error:
        raise SynthGainError(_one_line(error, "style.", list(Style.model_fields))) from error


def _one_line(error: ValidationError, prefix: str = "", known: list[str] | None = None) -> str:
    first = error.errors()[0]
    place = prefix + ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        names = known or list(PhantomOptions.model_fields)
        near = difflib.get_close_matches(str(first["loc"][-1]), names, 1) or names
        return f"phantom option {place}: unknown key; did you mean {', '.join(near)}?"
    reason = first["msg"].replace("\n", " ")
    return f"phantom option {place}: {reason}, got {first['input']!r}" if place else f"phantom options: {reason}"


@dataclass(frozen=True)
class Patient:
    """True covariates and labels of one patient; nothing is unknown here."""

    sex: str
    age: float  # whole years
    build: str
    findings: dict[str, bool]


@dataclass(frozen=True)
class Law:
    """p(sex) p(build) p(age) prod over findings of p(finding | age), as finite tables.

    ages: (A,) years. weights: (2, 3, A) joint probabilities. finding: {name: (A,) probability given age}.
    """

    ages: np.ndarray
    weights: np.ndarray
    finding: dict[str, np.ndarray]

    def draw_patient(self, rng: np.random.Generator, known: Mapping[str, Any] | None = None) -> Patient:
        """Draw a patient from the law given the `known` covariates and labels (None or absent = unknown).

        Covariates follow their exact posterior given the known labels; unknown labels follow the law
        given the covariates. Raises SynthGainError where the known values have probability zero.
        """
        known = {name: value for name, value in (known or {}).items() if value is not None}
        weights = self.weights.copy()
        if "sex" in known:
            weights[_others(SEXES, known["sex"], "sex")] = 0.0
        if "build" in known:
            weights[:, _others(BUILDS, known["build"], "build")] = 0.0
        if "age" in known:
            weights[:, :, np.arange(len(self.ages)) != np.abs(self.ages - known["age"]).argmin()] = 0.0
        for name in FINDINGS:
            if name in known:
                weights = weights * (self.finding[name] if known[name] else 1.0 - self.finding[name])
        total = weights.sum()
        if total <= 0.0:
            raise SynthGainError(f"phantom: no patient of this law has {dict(known)}; change the prevalence or the row")
        cumulative = np.cumsum(weights.ravel() / total)
        cell = min(int(np.searchsorted(cumulative, rng.random(), side="right")), weights.size - 1)
        sex, build, age = np.unravel_index(cell, weights.shape)
        chances = rng.random(len(FINDINGS))
        findings = {
            name: bool(known[name]) if name in known else bool(chance < self.finding[name][age])
            for name, chance in zip(FINDINGS, chances, strict=True)
        }
        return Patient(SEXES[sex], float(known.get("age", self.ages[age])), BUILDS[build], findings)


def _others(levels: tuple[str, ...], value: object, column: str) -> list[int]:
    if value not in levels:
        raise SynthGainError(f"phantom column {column}: {value!r} is not one of {', '.join(levels)}")
    return [index for index, level in enumerate(levels) if level != value]


def make_law(options: PhantomOptions) -> Law:
    """Return the law of these options; each finding's marginal share is its prevalence exactly."""
    given: dict[str, float] = {str(name): share for name, share in options.prevalence.items()}
    shares = tuple(given.get(name, DEFAULT_PREVALENCE[name]) for name in FINDINGS)
    return _make_law(options.sex_ratio, options.age_range, shares)


@lru_cache(maxsize=32)
def _make_law(sex_ratio: float, age_range: tuple[int, int], prevalence: tuple[float, ...]) -> Law:
    ages = np.arange(age_range[0], age_range[1] + 1, dtype=float)
    age_shares = np.exp(-0.5 * ((ages - AGE_CENTRE) / AGE_SD) ** 2)
    age_shares /= age_shares.sum()
    sexes = np.array([sex_ratio, 1.0 - sex_ratio])
    weights = sexes[:, None, None] * np.array(BUILD_SHARES)[None, :, None] * age_shares
    units = (ages - AGE_CENTRE) / AGE_UNIT
    finding = {
        name: _chances(AGE_SLOPES[name] * units, age_shares, share)
        for name, share in zip(FINDINGS, prevalence, strict=True)
    }
    return Law(ages, weights, finding)


def _chances(offsets: np.ndarray, age_shares: np.ndarray, share: float) -> np.ndarray:
    """Return expit(intercept + offsets) with the intercept that makes the marginal equal `share`."""
    if share in (0.0, 1.0):
        return np.full_like(offsets, share)
    intercept = brentq(lambda value: float(age_shares @ expit(value + offsets)) - share, -40.0, 40.0, xtol=1e-10)
    return np.asarray(expit(intercept + offsets))
