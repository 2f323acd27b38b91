"""The built-in data set: a chest radiograph phantom whose law, anatomy and findings are known.

Each film is computed as line integrals through an analytic chest (Beer-Lambert). A patient depends on
(study seed, data set seed, site, number) only, so neither the number of patients nor their order matters.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from synthgain.data.image_set import ColumnSpec
from synthgain.datasets.options import TRUTH, Finding, PhantomOptions
from synthgain.datasets.phantom_anatomy import LEFT, RIGHT, Anatomy, chest_integrals, draw_anatomy
from synthgain.datasets.phantom_film import Style, block_mean, develop
from synthgain.datasets.phantom_findings import Findings, draw_findings, finding_integrals
from synthgain.datasets.phantom_law import (
    BUILDS,
    COVARIATES,
    DEFAULT_PREVALENCE,
    FINDINGS,
    SEXES,
    SIDES,
    Patient,
    make_law,
    read_options,
)
from synthgain.datasets.source import Prepared
from synthgain.runtime.errors import SynthGainError
from synthgain.seeds import random_generator

MASK_NAMES = ["lungs", "heart", "finding"]
SIZES = (32, 256)
_SHARP_SIZE = 128  # below it a pixel is wider than a rib's cortex, so four rays are averaged per pixel

COLUMNS: dict[str, ColumnSpec] = {
    **{name: {"role": "target", "kind": "binary"} for name in FINDINGS},
    "sex": {"role": "covariate", "kind": "category", "levels": list(SEXES)},
    "age": {"role": "covariate", "kind": "continuous"},
    "build": {"role": "covariate", "kind": "category", "levels": list(BUILDS)},
}
SIDE = "effusion_side"  # a column for who asks for it
SIDE_COLUMN: dict[str, ColumnSpec] = {SIDE: {"role": "covariate", "kind": "category", "levels": list(SIDES)}}
_NAMES = {LEFT: "left", RIGHT: "right"}
_PLACES: dict[str | None, float | None] = {"left": LEFT, "right": RIGHT, "none": None, None: None}

SeedKeys = Mapping[str, str | int]


def prepare(options: dict[str, Any], image: dict[str, Any], seed: int, root: Path | None) -> Prepared:
    """Draw the data set: `PhantomOptions` in, films, exact masks (lungs, heart, finding) and table out.

    image: {size: 32 to 256, channels: 1 or 3, …}; films are square and 8 bit, so `fit` and `intensity` change
    nothing. `root` is not used. Raises SynthGainError with one line for a wrong option.
    """
    settings = read_options(options)
    size, channels = _geometry(image)
    law, style = make_law(settings), settings.film
    low, high = settings.images_per_patient
    hidden_shares = {str(name): share for name, share in settings.missing.items()}
    rows: list[dict[str, Any]] = []
    films: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for number in range(settings.first_patient, settings.first_patient + settings.patients):
        keys: SeedKeys = {
            "study": seed, "step": "phantom", "dataset": settings.seed, "site": settings.site, "patient": number
        }  # fmt: skip
        patient = law.draw_patient(random_generator(**keys, part="law"))
        count = int(random_generator(**keys, part="count").integers(low, high + 1))
        subject = _subject(patient, keys)
        for k in range(count):
            film, mask = _draw_film(subject, size, style, k)
            films.append(film)
            masks.append(mask)
        name = f"phantom-{settings.site}-{number}"
        values = _values(patient, subject.findings, settings.effusion_side)
        shown = _hide(values | _wrong(patient, settings.mislabelled, keys), hidden_shares, keys)
        rows += [
            {"image_id": f"{name}-{k}", "patient_id": name, "site": settings.site, "origin": "real", **shown}
            for k in range(count)
        ]
    prevalence: dict[str, float] = dict(DEFAULT_PREVALENCE)
    prevalence.update({str(name): share for name, share in settings.prevalence.items()})
    facts = {
        "source": "SynthGain chest radiograph phantom",
        "split_unit": "patient",
        "law": {
            **settings.dump(mode="json"),
            "prevalence": prevalence,
            "style": style.model_dump(),
        },
    }
    columns = columns_of(settings)
    return Prepared(_channels(films, channels), _table(rows), columns, np.stack(masks), MASK_NAMES, facts=facts)


def columns_of(settings: PhantomOptions) -> dict[str, ColumnSpec]:
    """Return the columns of a data set with these options."""
    truths = {TRUTH + name: COLUMNS[name] for name in settings.mislabelled}
    return COLUMNS | (SIDE_COLUMN if settings.effusion_side else {}) | truths


def draw(
    conditions: pd.DataFrame, image: dict[str, Any], seed_keys: Sequence[SeedKeys], options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one film of a NEW patient per row from p(image | that row's labels and covariates), exactly.

    conditions: any of the data set's columns; null (or an absent column) is drawn from the law given the rest.
    seed_keys: one mapping of named seed keys per row (pool seed, replica, row id); a row's film depends on its own
    keys and values only. options: those of the data set (law and style). Returns images (N, S, S, C) uint8 and
    masks (N, S, S, 3) uint8. Raises SynthGainError for an unknown level or a row of probability zero.
    """
    if len(seed_keys) != len(conditions):
        raise ValueError(f"{len(conditions)} rows but {len(seed_keys)} seed keys")
    settings = read_options(options)
    size, channels = _geometry(image)
    law, style = make_law(settings), settings.film
    known = [name for name in columns_of(settings) if name in conditions.columns]
    films, masks = [], []
    for keys, row in zip(seed_keys, conditions[known].to_dict("records"), strict=True):
        values = {str(name): None if pd.isna(value) else value for name, value in row.items()}
        patient = law.draw_patient(random_generator(**keys, part="law"), values)
        film, mask = _draw_film(_subject(patient, keys), size, style, 0)
        films.append(film)
        masks.append(mask)
    return _channels(films, channels, size), _stack(masks, (size, size, len(MASK_NAMES)))


class _Subject(NamedTuple):
    """What all films of a patient share."""

    anatomy: Anatomy
    findings: Findings
    keys: SeedKeys


def _subject(patient: Patient, keys: SeedKeys) -> _Subject:
    rng = random_generator(**keys, part="anatomy")
    anatomy = draw_anatomy(rng, patient.sex, patient.age, patient.build, patient.findings["cardiomegaly"])
    rng = random_generator(**keys, part="findings")
    findings = draw_findings(rng, anatomy, patient.findings, _PLACES[patient.side])
    return _Subject(anatomy, findings, keys)


def _draw_film(subject: _Subject, size: int, style: Style, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw film `k` of a patient: (S, S) uint8 and masks (S, S, 3) uint8 in the order of MASK_NAMES.

    Anatomy and findings belong to the patient; pose, inspiration, exposure and noise to the film.
    """
    anatomy = subject.anatomy
    rng = random_generator(**subject.keys, part="film", film=k)
    factor = 2 if size < _SHARP_SIZE else 1
    side = 2.0 * anatomy.width * style.margin
    x, y = _film_plane(rng, size * factor, side, style.pose)
    lift = abs(float(rng.normal(0.4, 0.6))) * style.pose
    yaw = float(rng.normal(0.0, 0.025)) * style.pose
    chest = chest_integrals(anatomy, x, y, lift, yaw, side / (size * factor))
    view = finding_integrals(subject.findings, anatomy, chest.lungs, x, y, lift)
    film = develop(chest.attenuation + view.attenuation, factor, side / size, style, rng)
    planes = (chest.lung_field, chest.heart, view.mask)
    lungs, heart, finding = (_pixel_mask(plane, factor) for plane in planes)
    return film, np.stack([lungs & ~heart, heart, finding], axis=-1)  # a pixel half and half is heart


def _film_plane(rng: np.random.Generator, rays: int, side: float, pose: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where each ray meets the patient, x and y in cm (rays, rays) float32: shifted, turned, zoomed."""
    angle = float(rng.normal(0.0, 0.02)) * pose
    zoom = side * (1.0 + float(rng.normal(0.0, 0.015)) * pose)
    shift = rng.normal(0.0, 0.35, 2) * pose
    axis = ((np.arange(rays, dtype=np.float32) + 0.5) / rays - 0.5) * np.float32(zoom)
    row, column = np.meshgrid(axis, axis, indexing="ij")
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * column - sin * row + np.float32(shift[0]), sin * column + cos * row + np.float32(shift[1] - 0.4)


def _pixel_mask(plane: np.ndarray, factor: int) -> np.ndarray:
    """Return (S, S) uint8: pixels at least half covered; the most covered one where none is."""
    cover = block_mean(plane.astype(np.float32), factor)
    mask = cover >= 0.5
    if not mask.any() and plane.any():
        mask = cover == cover.max()
    return mask.astype(np.uint8)


def _geometry(image: Mapping[str, Any]) -> tuple[int, int]:
    size, channels = image["size"], image.get("channels", 1)
    if not SIZES[0] <= size <= SIZES[1]:
        raise SynthGainError(f"image.size: the phantom draws {SIZES[0]} to {SIZES[1]} pixels, got {size}; change it")
    if channels not in (1, 3):
        raise SynthGainError(f"image.channels: 1 (grey) or 3 (RGB), got {channels}; change it")
    return int(size), int(channels)


def _channels(films: list[np.ndarray], channels: int, size: int = 0) -> np.ndarray:
    stacked = _stack(films, (size, size))
    return np.repeat(stacked[..., None], channels, axis=-1)


def _stack(arrays: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack(arrays) if arrays else np.zeros((0, *shape), dtype=np.uint8)


def _values(patient: Patient, findings: Findings, with_side: bool) -> dict[str, object]:
    values = {**patient.findings, "sex": patient.sex, "age": patient.age, "build": patient.build}
    side = "none" if findings.effusion is None else _NAMES[findings.effusion[0]]
    return {**values, SIDE: side} if with_side else values


def _wrong(patient: Patient, shares: Mapping[Finding, float], keys: SeedKeys) -> dict[str, object]:
    """Return the labels of findings that may be labelled wrongly, at random, and the truth of each."""
    found: dict[str, object] = {}
    for name, share in shares.items():
        truth = patient.findings[name]
        flipped = random_generator(**keys, part="mislabelled", column=name).random() < share
        found |= {name: truth != flipped, TRUTH + name: truth}
    return found


def _hide(values: dict[str, object], missing: Mapping[str, float], keys: SeedKeys) -> dict[str, object]:
    """Hide values completely at random, each column by a stream of its own."""
    hidden = {
        name
        for name, share in missing.items()
        if random_generator(**keys, part="missing", column=name).random() < share
    }
    return {name: None if name in hidden else value for name, value in values.items()}


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    truths = [name for name in table if str(name).startswith(TRUTH)]
    numbers = dict.fromkeys((*FINDINGS, "age", *truths), "float32")
    words = [name for name in (*COVARIATES, SIDE) if name != "age" and name in table]
    table = table.astype({**numbers, **dict.fromkeys(words, "str")})
    return table.assign(**{f"has_mask_{name}": True for name in MASK_NAMES})
