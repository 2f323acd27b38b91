"""The phantom's law: who the patients are, what they have, and the options that set it.

Sex, build and age are independent; each finding is independent given them, with odds that grow with age.
The joint law of (sex, build, age) given any known labels is a finite table, so unknown values are drawn exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from synthgain.datasets.options import PhantomOptions
from synthgain.entry import checked
from synthgain.runtime.errors import SynthGainError

FINDINGS = ("opacity", "nodule", "effusion", "cardiomegaly")
SEXES = ("F", "M")
BUILDS = ("slim", "medium", "large")
COVARIATES = ("sex", "age", "build")
SIDES = ("none", "left", "right")  # of an effusion, the patient's own

# Set by hand so that each finding is common enough to learn from a few hundred patients.
DEFAULT_PREVALENCE = {"opacity": 0.35, "nodule": 0.15, "effusion": 0.2, "cardiomegaly": 0.2}
BUILD_SHARES = (0.3, 0.45, 0.25)
# Log odds per 20 years: findings are commoner in the old, nodules and large hearts most of all.
AGE_SLOPES = {"opacity": 0.3, "nodule": 0.6, "effusion": 0.4, "cardiomegaly": 0.6}
AGE_CENTRE, AGE_UNIT, AGE_SD = 55.0, 20.0, 18.0  # years; the age law is a normal cut to `age_range`


def read_options(options: Mapping[str, object]) -> PhantomOptions:
    """Return the checked options (null = default); SynthGainError with one line naming the key otherwise."""
    return checked(
        PhantomOptions, {name: value for name, value in options.items() if value is not None}, "phantom options"
    )


@dataclass(frozen=True)
class Patient:
    """True covariates and labels of one patient; only the side of an effusion may be left to `draw_findings`."""

    sex: str
    age: float  # whole years
    build: str
    findings: dict[str, bool]
    side: str | None = None  # of the effusion, where it was asked for


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
        told = dict(known)
        side = known.pop("effusion_side", None)
        if side is not None:
            _others(SIDES, side, "effusion_side")
            if bool(known.setdefault("effusion", side != "none")) != (side != "none"):
                raise _impossible(told)
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
            raise _impossible(told)
        cumulative = np.cumsum(weights.ravel() / total)
        cell = min(int(np.searchsorted(cumulative, rng.random(), side="right")), weights.size - 1)
        sex, build, age = np.unravel_index(cell, weights.shape)
        chances = rng.random(len(FINDINGS))
        findings = {
            name: bool(known[name]) if name in known else bool(chance < self.finding[name][age])
            for name, chance in zip(FINDINGS, chances, strict=True)
        }
        return Patient(SEXES[sex], float(known.get("age", self.ages[age])), BUILDS[build], findings, side)


def _impossible(told: Mapping[str, object]) -> SynthGainError:
    return SynthGainError(f"phantom: no patient of this law has {dict(told)}; change the prevalence or the row")


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
