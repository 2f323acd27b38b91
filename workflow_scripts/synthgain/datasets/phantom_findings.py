"""Findings of known place and size, drawn in a patient's own lungs, and the tissue that they add to each ray."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from synthgain.datasets.phantom_anatomy import LEFT, MU_LUNG, MU_SOFT, RIGHT, Anatomy, chest_width
from synthgain.datasets.phantom_bodies import superellipsoid

OPACITY_CM = (3.5, 0.5, 7.0)  # consolidated thickness at the centre: median, log sd, largest
OPACITY_EXTENT_CM = (1.2, 2.6)  # spread of the patches about their centre
NODULE_CM = (1.0, 2.2)  # radius
_MASK_SHARE = 0.35  # an opacity's mask ends where it falls below this share of its own peak
_FULLEST = 0.85  # a consolidated lung keeps some air
EFFUSION_CM = 0.1  # smallest height of fluid in the recess
_RECESS = 0.45  # the costophrenic recess lies this share of a dome's height below its top
_SURFACE_CM = 0.35  # blur of the fluid's surface along the beam


@dataclass(frozen=True)
class Blob:
    """A patch of consolidation: centre, spreads (sigma) and peak thickness in cm, angle in radians."""

    x: float
    y: float
    spread: tuple[float, float]
    peak: float
    angle: float


@dataclass(frozen=True)
class Findings:
    """What one patient has; empty or None where absent. nodule: (x, y, radius); effusion: (side, height) in cm."""

    opacity: tuple[float, list[Blob]] | None  # side, patches
    nodule: tuple[float, float, float, float] | None  # side, x, y, radius
    effusion: tuple[float, float] | None


def draw_findings(
    rng: np.random.Generator, anatomy: Anatomy, present: dict[str, bool], effusion_side: float | None = None
) -> Findings:
    """Draw place and size of the findings that are `present` (cardiomegaly is part of the anatomy).

    effusion_side: LEFT or RIGHT where it is given; drawn otherwise.
    """
    return Findings(
        opacity=_draw_opacity(rng, anatomy) if present["opacity"] else None,
        nodule=_draw_nodule(rng, anatomy) if present["nodule"] else None,
        effusion=_draw_effusion(rng, anatomy, effusion_side) if present["effusion"] else None,
    )


def _draw_opacity(rng: np.random.Generator, anatomy: Anatomy) -> tuple[float, list[Blob]]:
    """Pneumonia: 3 to 7 overlapping patches, commoner on the right and in the lower zones."""
    side = RIGHT if rng.random() < 0.58 else LEFT
    x, y = _place(rng, anatomy, side, depth=(0.25, 0.95))
    median, spread, largest = OPACITY_CM
    peak = min(median * float(np.exp(rng.normal(0.0, spread))), largest)
    extent = float(rng.uniform(*OPACITY_EXTENT_CM)) * anatomy.scale
    blobs = []
    for _ in range(int(rng.integers(3, 8))):
        dx, dy = rng.normal(0.0, 0.9 * extent, 2)
        spreads = extent * rng.uniform(0.5, 1.1, 2)
        size, angle = float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.0, np.pi))
        blobs.append(Blob(x + float(dx), y + float(dy), (float(spreads[0]), float(spreads[1])), peak * size, angle))
    return side, blobs


def _draw_nodule(rng: np.random.Generator, anatomy: Anatomy) -> tuple[float, float, float, float]:
    side = RIGHT if rng.random() < 0.5 else LEFT
    x, y = _place(rng, anatomy, side, depth=(0.15, 0.8))
    return side, x, y, float(rng.uniform(*NODULE_CM))


def _draw_effusion(rng: np.random.Generator, anatomy: Anatomy, wanted: float | None) -> tuple[float, float]:
    drawn = RIGHT if rng.random() < 0.55 else LEFT  # drawn anyway, so that what follows is the same
    side = drawn if wanted is None else wanted
    return side, float(EFFUSION_CM + rng.gamma(1.5, 0.7)) * anatomy.scale


def _place(rng: np.random.Generator, anatomy: Anatomy, side: float, depth: tuple[float, float]) -> tuple[float, float]:
    """Return a point over the lung beside the heart; `depth` as a share from apex to dome."""
    dome = anatomy.domes[0 if side == RIGHT else 1]
    y = anatomy.top + 2.0 * anatomy.scale + float(rng.uniform(*depth)) * (dome - anatomy.top - 4.0 * anatomy.scale)
    lateral = float(chest_width(anatomy, y))
    return side * lateral * float(rng.uniform(0.45, 0.85)), y


@dataclass(frozen=True)
class FindingView:
    """attenuation: added ∫ mu dz. mask: extent (S, S) bool of opacity, nodule and effusion together."""

    attenuation: np.ndarray
    mask: np.ndarray


def finding_integrals(
    findings: Findings, anatomy: Anatomy, lungs: dict[float, np.ndarray], x: np.ndarray, y: np.ndarray, lift: float
) -> FindingView:
    """Return what the findings add at film positions x, y (S, S) cm, over `lungs`: aerated cm per side."""
    length = np.zeros_like(x)
    mask = np.zeros(x.shape, dtype=bool)
    parts = []
    if findings.opacity is not None:
        side, blobs = findings.opacity
        parts.append(_clip_to_mask(np.sum([_blob(blob, x, y) for blob in blobs], axis=0), lungs[side], anatomy))
    if findings.nodule is not None:
        side, centre_x, centre_y, radius = findings.nodule
        chord = 2.0 * superellipsoid((x - centre_x) / radius, (y - centre_y) / radius, radius)
        parts.append((chord, chord > 0.0))
    if findings.effusion is not None:
        parts.append(_fluid(findings.effusion, anatomy, lungs, x, y, lift))
    for added, extent in parts:
        length = length + added
        mask |= extent
    return FindingView((MU_SOFT - MU_LUNG) * length, mask)


def _blob(blob: Blob, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Line integral (cm) of a Gaussian patch: Gaussian on the film."""
    cos, sin = float(np.cos(blob.angle)), float(np.sin(blob.angle))
    dx, dy = x - blob.x, y - blob.y
    along, across = (cos * dx + sin * dy) / blob.spread[0], (cos * dy - sin * dx) / blob.spread[1]
    return np.asarray(blob.peak * np.exp(-0.5 * (along * along + across * across)))


def _clip_to_mask(length: np.ndarray, lung: np.ndarray, anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Keep consolidation within aerated lung; return (length, mask)."""
    aerated = np.minimum(lung / (0.5 * anatomy.depth), 1.0)
    length = np.minimum(length * aerated, _FULLEST * lung)
    return length, length > _MASK_SHARE * max(float(length.max()), 1e-6)


def _fluid(
    effusion: tuple[float, float],
    anatomy: Anatomy,
    lungs: dict[float, np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    lift: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Free pleural fluid: fills the lung's recess up to a meniscus that climbs the lateral wall."""
    side, height = effusion
    base = anatomy.domes[0 if side == RIGHT else 1] - lift + _RECESS * anatomy.dome_height
    lateral = np.clip(side * x / anatomy.width, 0.0, 1.0)
    surface = base - height - (0.6 + 0.5 * height) * lateral**3 + 0.4 * height * (1.0 - lateral)
    share = expit((y - surface) / (_SURFACE_CM * anatomy.scale))
    lung = lungs[side]
    return lung * share, (share > 0.5) & (lung > 0.5)
