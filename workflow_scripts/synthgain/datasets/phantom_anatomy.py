"""A patient's chest: dimensions drawn from covariates, and its line integrals.

Linear attenuation coefficients are those of about 70 keV (mean energy of a 120 kVp chest beam), NIST XCOM, 1/cm.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from synthgain.datasets.phantom_bodies import Interval, ellipsoid, remaining_length, superellipsoid, tube
from synthgain.datasets.phantom_vessels import Tree, draw_tree, vessel_length

MU_SOFT = 0.19
MU_FAT = 0.175
MU_LUNG = 0.055  # inflated lung, 0.27 g/cm³
MU_AIR = 0.0
MU_CORTEX = 0.5  # ribs and clavicles; their marrow is close to soft tissue
MU_SPINE = 0.26  # mean of a vertebra, mostly spongy

WALL_CM = {"slim": 1.2, "medium": 2.2, "large": 3.6}  # chest wall beside the ribs
DEPTH_FACTOR = {"slim": 0.92, "medium": 1.0, "large": 1.14}
SEX_SCALE = {"F": 0.92, "M": 1.0}
LEFT, RIGHT = 1.0, -1.0  # the patient's left is at positive x, the viewer's right


@dataclass(frozen=True)
class Anatomy:
    """One patient's dimensions in cm (factors without unit where said); heart axis angle in radians."""

    scale: float  # body size, factor
    width: float  # inner half-width of the chest at its base
    top: float  # y of the lung apices
    height: float  # apex to lowest recess
    depth: float  # half the antero-posterior depth of a lung
    wall: float
    taper: float  # how fast the chest narrows upwards, exponent
    domes: tuple[float, float]  # y of the right and left diaphragm dome in full inspiration
    dome_height: float
    heart_ratio: float  # cardiothoracic ratio, factor
    heart_angle: float
    heart_y: float
    mediastinum: float  # half-width above the heart
    knob: float  # radius of the aortic knob
    rib_spacing: float
    rib_drop: float  # fall of a rib from the spine to its front end
    rib_radius: float
    rib_offset: float
    bone: float  # mineral content, factor
    breast: float  # half-depth of the breasts, 0 without
    breast_y: float
    gas: float  # radius of the gastric bubble
    curve: float  # sideways bow of the spine
    trees: dict[float, Tree]


def draw_anatomy(rng: np.random.Generator, sex: str, age: float, build: str, cardiomegaly: bool) -> Anatomy:
    """Draw a patient's anatomy. Spreads are rounded from radiological textbooks' normal ranges.

    Cardiothoracic ratio: 0.455 ± 0.025, cut at 0.495; with cardiomegaly above 0.505 (limit of normal: 0.50).
    """
    scale = SEX_SCALE[sex] * float(np.clip(rng.normal(1.0, 0.04), 0.88, 1.12))
    years = (age - 50.0) / 30.0

    def normal(mean: float, sd: float) -> float:
        return float(rng.normal(mean, sd))

    ratio = 0.505 + abs(normal(0.0, 0.04)) if cardiomegaly else min(normal(0.455, 0.025), 0.495)
    lift = {"slim": 0.6, "medium": 0.0, "large": -1.0}[build]  # a large abdomen lifts the diaphragm
    right_dome = normal(7.2, 0.7) + lift
    breasts = sex == "F"
    return Anatomy(
        scale=scale,
        width=normal(13.7, 0.5) * scale,
        top=-13.2 * scale,
        height=normal(26.5, 0.8) * scale,
        depth=normal(8.8, 0.5) * scale * DEPTH_FACTOR[build] * (1.0 + 0.04 * years),
        wall=max(WALL_CM[build] + normal(0.0, 0.25), 0.7),
        taper=normal(2.5, 0.2),
        domes=(right_dome * scale, (right_dome + normal(1.1, 0.35)) * scale),
        dome_height=normal(5.6, 0.5) * scale,
        heart_ratio=max(ratio, 0.36),
        heart_angle=normal(0.55, 0.08),
        heart_y=normal(4.0, 0.4) * scale,
        mediastinum=max(normal(2.5 + 0.3 * years, 0.25), 1.8) * scale,
        knob=max(normal(1.5 + 0.35 * years, 0.15), 0.8) * scale,
        rib_spacing=normal(2.55, 0.12) * scale,
        rib_drop=normal(7.5, 0.8) * scale,
        rib_radius=normal(0.62, 0.05) * scale,
        rib_offset=float(rng.uniform(0.0, 1.0)),
        bone=float(np.clip(normal(1.0 - 0.15 * years, 0.1), 0.6, 1.3)),
        breast={"slim": 1.6, "medium": 2.8, "large": 4.2}[build] * max(normal(1.0, 0.25), 0.3) if breasts else 0.0,
        breast_y=normal(4.5 + 1.2 * years, 0.9) * scale,
        gas=float(np.clip(normal(1.2, 0.5), 0.0, 1.9)) * scale,
        curve=normal(0.0, 0.35 + 0.15 * max(years, 0.0)),
        trees={side: draw_tree(rng, side, scale) for side in (RIGHT, LEFT)},
    )


@dataclass(frozen=True)
class Chest:
    """Line integrals of one view. Lengths in cm, all (S, S) float32.

    attenuation: ∫ mu dz, dimensionless, without findings. lungs: aerated length per side.
    lung_field and heart are the masks.
    """

    attenuation: np.ndarray
    lungs: dict[float, np.ndarray]
    lung_field: np.ndarray  # bool: lung projected beside heart, mediastinum and diaphragm
    heart: np.ndarray  # bool


def chest_width(anatomy: Anatomy, y: np.ndarray | float) -> np.ndarray:
    """Return the inner half-width (cm) of the chest at height y: narrow at the apex, widest at the base."""
    t = np.clip((anatomy.top + anatomy.height - np.asarray(y)) / anatomy.height, 0.0, 1.0)
    apex = 0.4 * anatomy.width
    return np.asarray(apex + (anatomy.width - apex) * np.sqrt(1.0 - t**anatomy.taper))


def lung_hull(anatomy: Anatomy, side: float, x: np.ndarray, y: np.ndarray, lateral: np.ndarray) -> Interval:
    """Return one lung with its pleura, before heart, mediastinum and diaphragm take their part.

    u runs across the lung from -1 (medial) to 1 (`lateral`, the chest's half-width), t from base (0) to apex (1).
    """
    t = np.clip((anatomy.top + anatomy.height - y) / anatomy.height, 0.0, 1.2)
    cube = np.minimum(t, 1.0) ** 3
    medial = (0.4 + 2.4 * cube * cube) * anatomy.scale
    u = (2.0 * side * x - medial - lateral) / (lateral - medial)
    return Interval(0.0, superellipsoid(u, t, anatomy.depth, (3, 8, 2)))


def heart_bodies(anatomy: Anatomy, x: np.ndarray, y: np.ndarray) -> list[Interval]:
    """Return left ventricle with apex to the viewer's right, right atrium, and outflow tract."""
    width = 2.0 * anatomy.heart_ratio * float(chest_width(anatomy, anatomy.domes[0]))
    tall = (0.5 * width + 0.5 * 12.0 * anatomy.scale) * 0.5  # a wide heart grows less in height
    level = anatomy.heart_y
    # The turned ellipse's half-extent along x is sqrt((a cos)² + (b sin)²); a is solved for 0.40 of the width.
    cos, sin = np.cos(anatomy.heart_angle), np.sin(anatomy.heart_angle)
    short = 0.72 * tall
    long = float(np.sqrt(max((0.40 * width) ** 2 - (short * sin) ** 2, 1.0)) / cos)
    ventricle = ellipsoid(x, y, (0.28 * width, level + 0.6, 1.5), (long, short, 6.4), anatomy.heart_angle)
    atrium = ellipsoid(x, y, (-0.06 * width, level, 1.0), (0.26 * width, 0.88 * tall, 5.4))
    outflow = ellipsoid(x, y, (0.12 * width, level - 0.75 * tall, 1.0), (0.19 * width, 0.62 * tall, 4.6), 0.3)
    return [ventricle, atrium, outflow]


def mediastinum_bodies(anatomy: Anatomy, x: np.ndarray, y: np.ndarray) -> list[Interval]:
    """Return great vessels and the tissue before the spine (full depth), and the aortic knob."""
    s = anatomy.scale
    # Narrow at the vascular pedicle, wider at the neck and, hidden by the heart, below.
    flare = anatomy.mediastinum * (1.0 + 0.012 * ((y + 5.0 * s) / s) ** 2 / (1.0 + 0.012 * ((y + 5.0 * s) / s) ** 2))
    column = Interval(-1.0, superellipsoid((x - 0.2) / flare, np.zeros_like(x), 0.62 * anatomy.depth, (3, 2, 2)))
    knob = ellipsoid(x, y, (1.9 * s, -5.6 * s, -1.0), (anatomy.knob + 0.6, anatomy.knob, 3.5))
    descending = Interval(
        -4.0, superellipsoid((x - 1.7 * s) / (0.85 * anatomy.knob + 0.3), np.minimum(y + 5.6 * s, 0.0), 1.6)
    )
    return [column, knob, descending]


def diaphragm(anatomy: Anatomy, side: float, x: np.ndarray, y: np.ndarray, lift: float) -> Interval:
    """Return the dome: an ellipse on the film, flat-topped along the beam so that its edge is sharp; filled below."""
    top = anatomy.domes[0 if side == RIGHT else 1] - lift
    centre = side * 0.50 * anatomy.width
    below = np.minimum((y - top - anatomy.dome_height) / anatomy.dome_height, 0.0)
    across = (x - centre) / (0.60 * anatomy.width)
    return Interval(0.0, superellipsoid(across, below, anatomy.depth * 1.1, (2, 2, 4)))


def body_length(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the chord of trunk, shoulders and neck (a union of bodies centred on z = 0: the longest chord)."""
    s = anatomy.scale
    # Above the armpits the trunk does not narrow with the rib cage.
    half = np.maximum(width, float(chest_width(anatomy, anatomy.top + 0.35 * anatomy.height))) + anatomy.wall
    depth = anatomy.depth + 0.5 + 0.8 * anatomy.wall
    trunk = superellipsoid(x / half, np.minimum((y + 4.0 * s) / (12.0 * s), 0.0), depth, (4, 2, 2))
    slope = anatomy.top - 2.5 * s + 0.30 * np.maximum(np.abs(x) - 5.0 * s, 0.0)
    inside = np.clip((y - slope) / (7.0 * s), 0.0, 1.0)
    axilla = np.clip((-4.0 * s + 1.6 * (np.abs(x) - 13.5 * s) - y) / (4.0 * s) + 1.0, 0.0, 1.0)
    shoulder = (5.5 + 0.5 * anatomy.wall) * s * np.sqrt(inside * axilla)
    neck = superellipsoid(x / (6.2 * s), np.maximum(y - anatomy.top, 0.0) / (6.0 * s), 6.0 * s)
    return np.asarray(2.0 * np.maximum(np.maximum(trunk, shoulder), neck))


def breast_length(anatomy: Anatomy, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the chord of both breasts, fuller below (a half-ellipsoid twice as tall above its widest level)."""
    if anatomy.breast == 0.0:
        return np.zeros_like(x)
    across = (np.abs(x) - 7.4 * anatomy.scale) / (5.4 * anatomy.scale)
    below = 3.2 * anatomy.scale + 0.4 * anatomy.breast
    down = y - anatomy.breast_y
    return superellipsoid(across, np.where(down > 0.0, down / below, down / (2.2 * below)), anatomy.breast)


def chest_integrals(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, lift: float, yaw: float, pixel: float) -> Chest:
    """Return the line integrals at film positions x, y (S, S) cm.

    lift: cm by which the diaphragm stands above full inspiration. yaw: patient's rotation in radians, to first
    order: bodies at depth z move sideways by z · yaw. pixel: grid spacing in cm (thin vessels keep their mass).
    """
    front, back = x - 6.0 * yaw, x + 6.0 * yaw
    heart = heart_bodies(anatomy, x - 2.0 * yaw, y)
    middle = mediastinum_bodies(anatomy, x, y)
    heart_field = np.any([body.half > 0.0 for body in heart], axis=0)
    width = chest_width(anatomy, y)
    lungs: dict[float, np.ndarray] = {}
    field = np.zeros(x.shape, dtype=bool)
    attenuation = MU_SOFT * body_length(anatomy, x, y, width) + MU_FAT * breast_length(anatomy, front, y)
    for side in (RIGHT, LEFT):
        hull = lung_hull(anatomy, side, x, y, width)
        dome = diaphragm(anatomy, side, x, y, lift)
        lungs[side] = remaining_length(hull, [*heart, *middle, dome])
        field |= (hull.half > 0.0) & (dome.half == 0.0)
        attenuation -= (MU_SOFT - MU_LUNG) * lungs[side]
        vessels = vessel_length(anatomy.trees[side], x, y, pixel)
        attenuation += (MU_SOFT - MU_LUNG) * vessels * np.minimum(lungs[side] / (0.5 * anatomy.depth), 1.0)
        # The heart's outline ends at the diaphragm, where a reader's does.
        heart_field &= ~((dome.half > 0.0) & (y > anatomy.heart_y + 4.0 * anatomy.scale))
    field &= ~heart_field & ~np.any([body.half > 0.0 for body in middle], axis=0)
    attenuation += _bones(anatomy, y, front, back, width)
    attenuation -= _gas(anatomy, x, y, lift)
    return Chest(np.maximum(attenuation, 0.0), lungs, field, heart_field)


def _bones(anatomy: Anatomy, y: np.ndarray, front: np.ndarray, back: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the extra attenuation of ribs, clavicles, scapulae and spine over soft tissue.

    front, back: sideways position (cm) at the depth of the breastbone and of the spine.
    """
    s = anatomy.scale
    cortex = (MU_CORTEX - MU_SOFT) * anatomy.bone
    extra = cortex * (_ribs(anatomy, back, y, width, True) + 0.75 * _ribs(anatomy, front, y, width, False))
    far = np.abs(front)
    along = np.clip((far - 1.6 * s) / (12.5 * s), 0.0, 1.0)
    axis = anatomy.top + (3.6 - 3.2 * along + 0.9 * np.sin(2.0 * np.pi * along)) * s
    radius = 0.62 * s
    clavicle = tube((y - axis) * 0.95, radius) - 0.75 * tube((y - axis) * 0.95, 0.6 * radius)
    extra += cortex * clavicle * ((far > 1.6 * s) & (far < 14.5 * s))
    for side in (RIGHT, LEFT):
        blade = ellipsoid(side * back, y, (14.2 * s, -5.5 * s, -7.0), (2.8 * s, 7.0 * s, 0.6), -0.18)
        head = ellipsoid(side * back, y, (17.0 * s, -10.0 * s, 0.0), (2.6 * s, 2.8 * s, 2.2))
        extra += 0.5 * cortex * 2.0 * blade.half + 0.4 * cortex * 2.0 * head.half
    bow = back - anatomy.curve * np.sin(y / (7.0 * s))
    phase = np.mod(y / (2.3 * s) + anatomy.rib_offset, 1.0) * 2.0 - 1.0
    waist = 1.75 * s * (1.0 - 0.12 * (1.0 - phase * phase))
    vertebra = superellipsoid(bow / waist, 0.93 * phase, 1.6 * s, (4, 8, 2))
    process = superellipsoid(bow / (0.35 * s), (phase + 0.35) / 0.45, 0.7 * s)
    extra += (MU_SPINE - MU_SOFT) * anatomy.bone * 2.0 * vertebra + cortex * 2.0 * process
    return np.asarray(extra)


def _ribs(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, width: np.ndarray, posterior: bool) -> np.ndarray:
    """Return the cortical length (cm) of all ribs' back or front arcs.

    A rib runs round the chest at angle theta from the spine (0) to its front end (pi), falling by `rib_drop`;
    on the film x = width · sin(theta). Ribs are alike, so each ray meets only the nearest one of the stack.
    """
    s = anatomy.scale
    half = width + 0.25
    share = np.clip(np.abs(x) / half, 0.0, 0.998)
    theta = np.arcsin(share)
    turn = theta if posterior else np.pi - theta
    fall = anatomy.rib_drop * (1.0 - np.cos(turn)) * 0.5 - 1.1 * s * np.sin(turn) * (1.0 if posterior else -0.6)
    first = anatomy.top + 1.2 * s
    place = (y - first - fall) / anatomy.rib_spacing
    index = np.rint(place)
    side = np.cos(theta)
    slope = anatomy.rib_drop * 0.5 * share / (half * np.maximum(side, 0.15))
    distance = (place - index) * anatomy.rib_spacing / np.sqrt(1.0 + slope * slope)
    slant = np.minimum(1.0 / np.maximum(side, 0.3), 2.2)
    cortical = tube(distance, anatomy.rib_radius, slant) - 0.85 * tube(distance, 0.68 * anatomy.rib_radius, slant)
    present = (index >= 0.0) & (index <= (10.0 if posterior else 6.0)) & (np.abs(x) < half)
    # Front ends pass into cartilage, which is close to soft tissue, over about a sixth of the chest's width.
    end = np.abs(x) - 1.3 * s if posterior else (share - 0.4 - 0.03 * index) * 6.0
    return np.asarray(cortical * present * np.minimum(np.maximum(end, 0.0), 1.0))


def _gas(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, lift: float) -> np.ndarray:
    """Return the attenuation missing in the trachea, main bronchi and the gastric bubble."""
    s = anatomy.scale
    carina = -5.0 * s
    trachea = tube(x - 0.25 * s, 0.85 * s) * expit(4.0 * (carina - y))
    down = y - carina
    right = tube((x + 0.5 * down) * 0.9, 0.6 * s) * ((down > -0.5) & (x < 0.3) & (x > -3.2 * s))
    left = tube((x - 1.0 * down) * 0.7, 0.55 * s) * ((down > -0.5) & (x >= 0.0) & (x < 3.6 * s))
    gas = trachea + 0.6 * (right + left)
    if anatomy.gas > 0.5:
        bubble = (5.5 * s, anatomy.domes[1] - lift + 1.2 * s + anatomy.gas, 0.0)
        gas = gas + 2.0 * ellipsoid(x, y, bubble, (1.6 * anatomy.gas, anatomy.gas, 1.5 * anatomy.gas)).half
    return (MU_SOFT - MU_AIR) * gas
