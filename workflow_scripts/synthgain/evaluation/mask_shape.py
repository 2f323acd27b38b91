"""Do synthetic masks have the sizes, places and outlines of real ones? Wasserstein-1 distances and their floor.

The same protocol as for images (`fidelity`): equal n, held-out reference, floor between patient-disjoint real halves.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage
from scipy.stats import wasserstein_distance

from synthgain.evaluation.fidelity import EVERYONE, Row, Side, common_size, empty_row, sample
from synthgain.evaluation.inputs import Images, Masks, pool_masks, real_masks
from synthgain.evaluation.resampling import Z_95, disjoint_halves, jackknife_se, patient_groups
from synthgain.runtime.command import Job

SPACE, SYNTHETIC = "mask", "synthetic"
# Names of the measures, as they come before `:<structure>` in fidelity.csv.
MEASURES = ("area_share", "centroid_x", "centroid_y", "components", "compactness")
NEIGHBOURS = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner belong together


def shape_features(masks: np.ndarray) -> np.ndarray:
    """MEASURES of each mask (N, H, W) bool: (N, 5) float64.

    Area as a share of the image; centroid as a share of width and height; number of connected components; compactness
    4πA/P² (1 for a disc, less for ragged outlines; above 1 only for masks of a few pixels). An empty mask has area 0,
    no component, and NaN elsewhere.
    """
    height, width = masks.shape[1:]
    area = masks.sum(axis=(1, 2), dtype=np.float64)
    outline = perimeter(masks)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = masks.sum(axis=1, dtype=np.float64) @ (np.arange(width) + 0.5) / area / width
        y = masks.sum(axis=2, dtype=np.float64) @ (np.arange(height) + 0.5) / area / height
        compactness = 4 * np.pi * area / outline**2
    components = [float(ndimage.label(mask, NEIGHBOURS)[1]) for mask in masks]
    return np.stack([area / (height * width), x, y, np.array(components), compactness], axis=1)


def perimeter(masks: np.ndarray) -> np.ndarray:
    """Length of the outline in pixels, (N,), of masks (N, H, W): Cauchy–Crofton formula in four directions.

    π/8 · (crossings of rows + of columns + those of both diagonals / √2), as in Legland et al. 2011 (Image Anal.
    Stereol. 30, 83): exact on average over directions, unlike counting border pixels.
    """
    padded = np.pad(masks.astype(bool), ((0, 0), (1, 1), (1, 1)))

    def crossings(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        counted: np.ndarray = (first != second).sum(axis=(1, 2), dtype=np.float64)
        return counted

    straight = crossings(padded[:, 1:], padded[:, :-1]) + crossings(padded[:, :, 1:], padded[:, :, :-1])
    diagonal = crossings(padded[:, 1:, 1:], padded[:, :-1, :-1]) + crossings(padded[:, 1:, :-1], padded[:, :-1, 1:])
    result: np.ndarray = np.pi / 8 * (straight + diagonal / np.sqrt(2))
    return result


def measure_pool(
    job: Job,
    sets: Mapping[str, Images],
    owners: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]],
    seeded: Callable[..., np.random.Generator],
    limits: Mapping[str, int],
) -> list[Row]:
    """Rows of every structure of slice["masks"] that the pool and its real set both hold.

    sets: "synthetic" and the references; owners: set → (patient per row, {group: (N,) bool}).
    """
    settings = job.slice
    ours, theirs = pool_masks(job, settings["pool"], settings["index"]), real_masks(job, settings["rows_of"])
    if ours is None or theirs is None:
        side = "the pool" if ours is None else "the real set"
        return [empty_row(f"not computed, because {side} has no masks", space=SPACE, metric="all")]
    rows: list[Row] = []
    for structure in settings["masks"]["structures"]:
        if structure not in ours.names or structure not in theirs.names:
            note = f"not computed, because pool and real set do not both have masks of {structure}"
            rows.append(empty_row(note, space=SPACE, metric=f"all:{structure}"))
            continue
        sides = {
            name: side_of(
                ours if name == SYNTHETIC else theirs, images.table["image_id"].to_numpy(), structure, *owners[name]
            )
            for name, images in sets.items()
        }
        synthetic = sides.pop(SYNTHETIC)
        rows += measure_masks(structure, synthetic, sides, seeded, limits)
    return rows


def measure_masks(
    structure: str,
    synthetic: Side,
    references: Mapping[str, Side],
    seeded: Callable[..., np.random.Generator],
    limits: Mapping[str, int],
) -> list[Row]:
    """Return the rows of one structure: every group against every reference.

    Sides hold `shape_features`; references, seeded and limits are those of `fidelity.measure_space`.
    """
    rows: list[Row] = []
    for group in synthetic.groups:
        n = common_size(synthetic, references, group, limits["n"], limits["minimum"])
        for name, reference in references.items():
            place = {"space": SPACE, "reference": name, "group": group, "n": n[name]}
            if n[name] < limits["minimum"]:
                note = f"not computed, because {n[name]} masks a side are fewer than {limits['minimum']}"
                rows.append(empty_row(note, metric=f"all:{structure}", **place))
                continue
            keys = {"structure": structure, "group": group, "n": n[name]}
            floors = _floors(references, group, n[name], limits["floor_splits"], seeded(step="mask floor", **keys))
            found = _against(synthetic, reference, group, n[name], seeded(step="mask", reference=name, **keys))
            rows += [place | row for row in _rows(structure, *found, floors)]
    return rows


def side_of(masks: Masks, image_ids: np.ndarray, structure: str, patients: np.ndarray, groups: Mapping) -> Side:
    """Shape features of the images that have a mask of the structure, with their patients and groups."""
    positions = masks.positions(image_ids, structure)
    has = positions >= 0
    blocks = [shape_features(block) for block in masks.blocks(positions[has], structure)]
    features = np.concatenate(blocks) if blocks else np.zeros((0, len(MEASURES)))
    return Side(features, patients[has], {name: members[has] for name, members in groups.items()})


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance of each column of two sets of features, (5,); NaN where a side has no value at all."""
    found = []
    for column in range(first.shape[1]):
        a, b = (side[:, column][np.isfinite(side[:, column])] for side in (first, second))
        found.append(float(wasserstein_distance(a, b)) if len(a) and len(b) else np.nan)
    return np.array(found)


def _floors(references: Mapping[str, Side], group: str, n: int, splits: int, rng: np.random.Generator) -> np.ndarray:
    """Real against other patients' real masks at n a side: (splits, 5)."""
    members = {name: side.members(group) for name, side in references.items()}
    features = np.concatenate([side.features[members[name]] for name, side in references.items()])
    patients = np.concatenate([side.patients[members[name]] for name, side in references.items()])
    halves = (disjoint_halves(patients, n, rng) for _ in range(splits))
    return np.stack([distances(features[a], features[b]) for a, b in halves])


def _against(
    synthetic: Side, reference: Side, group: str, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = sample(synthetic, group, n, rng), sample(reference, group, n, rng)
    first, second = synthetic.features[ours], reference.features[theirs]
    se = np.full(len(MEASURES), np.nan)
    if group == EVERYONE:
        groups = patient_groups(synthetic.patients[ours], rng), patient_groups(reference.patients[theirs], rng)
        se = jackknife_se(lambda a, b: distances(first[a], second[b]), *groups)
    return distances(first, second), se


def _rows(structure: str, values: np.ndarray, se: np.ndarray, floors: np.ndarray) -> list[Row]:
    rows = []
    for place, measure in enumerate(MEASURES):
        value, floor = float(values[place]), float(floors[:, place].mean())
        low, high = max(value - Z_95 * se[place], 0.0), value + Z_95 * se[place]
        rows.append(
            {
                "metric": f"{measure}:{structure}", "value": value, "low": low, "high": high, "floor": floor,
                "floor_sd": float(floors[:, place].std(ddof=1)), "excess": value - floor, "p": np.nan,
                "note": "" if np.isfinite(value) else "not computed, because one side has no mask with an outline",
            }
        )  # fmt: skip
    return rows
