"""Fidelity and diversity of a pool in one feature space: every number with its real-versus-real floor.

Protocol: equal n everywhere, one image of each patient where there are enough; the reference is real and held out; the
floor is the mean over patient-disjoint splits of all real images at the same n (Stein 2023, Woodland 2024 on why a lone
FID says little).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from synthgain.evaluation.distances import (
    frechet_distance,
    kernel_distance,
    kernel_distance_p,
    kernel_matrix,
    owners_apart,
    prdc,
    squared_distances,
)
from synthgain.evaluation.diversity import vendi_score
from synthgain.evaluation.inputs import members_of
from synthgain.evaluation.resampling import (
    Z_95,
    disjoint_halves,
    images_a_side,
    jackknife_se,
    patient_groups,
    spread_order,
)

COLUMNS = (
    "space", "reference", "group", "metric", "n", "value", "low", "high", "floor", "floor_sd", "excess", "p", "note",
)  # fmt: skip
METRICS = ("fd", "kid", "precision", "recall", "density", "coverage", "vendi")
BIASED = ("fd", "vendi")  # at small n: of alike images more than of as many independent ones
SEVERAL = "too few patients for one image of each: the floor is too far off, read kid"
SHARE = (0.0, 1.0)
SCALES = {
    "precision": SHARE, "recall": SHARE, "coverage": SHARE, "ms_ssim": SHARE, "ms_ssim_cross": SHARE,
    "density": (0.0, np.inf), "fd": (0.0, np.inf), "vendi": (1.0, np.inf), "kid": (-np.inf, np.inf),
}  # fmt: skip
EVERYONE = "all"  # the group of every image
HELD_OUT, TRAIN, GAP = "held_out", "train", "train - held_out"

Row = dict[str, object]  # of COLUMNS


@dataclass(frozen=True)
class Side:
    """Features (n, d) of one set, patient per row, and its groups {name: (n,) bool}."""

    features: np.ndarray
    patients: np.ndarray
    groups: Mapping[str, np.ndarray]

    def members(self, group: str) -> np.ndarray:
        """Row positions of a group (empty where the set has no such group)."""
        return np.flatnonzero(members_of(self.groups, group, len(self.features)))


@dataclass(frozen=True)
class Pairs:
    """Features (N, d) of both sets, and what every pair of rows needs: computed once, read by each subset of rows.

    distances: (N, N) squared Euclidean, infinite between two images of a patient: a neighbour is another patient's.
    kernel: (N, N) of KID. patients: (N,).
    """

    features: np.ndarray
    distances: np.ndarray
    kernel: np.ndarray
    patients: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, patients: np.ndarray) -> "Pairs":
        """Compute both matrices."""
        distances = squared_distances(features, features)
        same = patients[:, None] == patients[None, :]
        distances[same & ~np.eye(len(patients), dtype=bool)] = np.inf
        return cls(features, distances, kernel_matrix(features, features), patients)


def compare(pairs: Pairs, synthetic: np.ndarray, real: np.ndarray) -> np.ndarray:
    """All METRICS of two sets of rows at (about) equal n, in their order: (7,) float64."""
    both, distances = np.concatenate([synthetic, real]), pairs.distances
    values = {
        "fd": frechet_distance(pairs.features[synthetic], pairs.features[real]),
        "kid": kernel_distance(pairs.kernel[np.ix_(both, both)], len(synthetic), pairs.patients[both]),
        "vendi": vendi_score(pairs.features[synthetic]),
        **prdc(
            distances[np.ix_(real, real)], distances[np.ix_(synthetic, synthetic)], distances[np.ix_(real, synthetic)]
        ),
    }
    return np.array([values[name] for name in METRICS])


def measure_space(
    space: str,
    fid: bool,
    synthetic: Side,
    references: Mapping[str, Side],
    seeded: Callable[..., np.random.Generator],
    limits: Mapping[str, int],
) -> list[Row]:
    """Return the rows of one feature space: every group against every reference, and the gap of the two.

    references: HELD_OUT and TRAIN. seeded(**keys) gives independent generators. limits: `n` (most images a
    side), `minimum` (fewest), `floor_splits`. A group that is too small gives one row that says so.
    """
    rows: list[Row] = []
    for group in synthetic.groups:
        drawn = {"space": space, "group": group}
        results: dict[str, list[Row]] = {}
        n = common_size(synthetic, references, group, limits["n"], limits["minimum"])
        floors: dict[int, np.ndarray] = {}  # the floor joins all references: one per size
        for name, reference in references.items():
            if n[name] < limits["minimum"]:
                note = f"not computed, because {n[name]} images a side are fewer than {limits['minimum']}"
                rows.append(empty_row(note, reference=name, metric="all", n=n[name], **drawn))
                continue
            rng = seeded(step="fidelity", space=space, group=group, reference=name)
            if n[name] not in floors:
                floor_rng = seeded(step="floor", space=space, group=group, n=n[name])
                floors[n[name]] = floor_values(references, group, n[name], limits["floor_splits"], floor_rng)
            found = _against(synthetic, reference, group, n[name], floors[n[name]], rng)
            results[name] = [{**row, "reference": name, **drawn} for row in found]
            rows += results[name]
        if len(results) == len(references) == 2 and n[HELD_OUT] == n[TRAIN]:
            rows += [{**row, **drawn} for row in _gap(results[TRAIN], results[HELD_OUT])]
    for row in rows:
        if row["metric"] == "fd" and fid:
            row["metric"] = "fid"
    return rows


def common_size(
    synthetic: Side, references: Mapping[str, Side], group: str, limit: int, minimum: int
) -> dict[str, int]:
    """Images a side for each reference: what synthetic, reference and the floor can all give (`images_a_side`).

    Where every reference has a fair number, the smallest of them is used for all, so that they compare.
    """
    patients = [side.patients[side.members(group)] for side in references.values()]
    most = min(limit, len(synthetic.members(group)))
    sizes = dict(zip(references, images_a_side(patients, most, minimum), strict=True))
    smallest = min(sizes.values())
    return dict.fromkeys(sizes, smallest) if 2 * smallest >= max(sizes.values()) else sizes


def sample(side: Side, group: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Row positions of n images of a group, of as many patients as there are."""
    members = side.members(group)
    return members[spread_order(side.patients[members], rng)][:n]


def floor_values(
    references: Mapping[str, Side], group: str, n: int, splits: int, rng: np.random.Generator
) -> np.ndarray:
    """METRICS of real against other patients' real images at n a side: (splits, 7)."""
    members = {name: side.members(group) for name, side in references.items()}
    features = np.concatenate([side.features[members[name]] for name, side in references.items()])
    patients = np.concatenate([side.patients[members[name]] for name, side in references.items()])
    pairs = Pairs.of(features, patients)
    return np.stack([compare(pairs, *disjoint_halves(patients, n, rng)) for _ in range(splits)])


def interval(metric: str, value: float, se: float) -> dict[str, float]:
    """Return {low, high}: the 95 % interval, which ends where the metric's scale does."""
    least, most = SCALES[metric]
    low, high = np.clip([value - Z_95 * se, value + Z_95 * se], least, most)
    return {"low": float(low), "high": float(high)}


def empty_row(note: str, **keys: object) -> Row:
    """A row without numbers that says why."""
    blank = dict.fromkeys(COLUMNS, np.nan)
    return {**blank, "group": "all", "reference": "", "n": 0, **keys, "note": note}


def _against(
    synthetic: Side, reference: Side, group: str, n: int, floors: np.ndarray, rng: np.random.Generator
) -> list[Row]:
    ours, theirs = sample(synthetic, group, n, rng), sample(reference, group, n, rng)
    x_patients, y_patients = synthetic.patients[ours], reference.patients[theirs]
    features = np.concatenate([synthetic.features[ours], reference.features[theirs]])
    owners = owners_apart(x_patients, y_patients)
    pairs = Pairs.of(features, owners)
    value = compare(pairs, np.arange(n), n + np.arange(n))
    se = np.full(len(METRICS), np.nan)
    if group == EVERYONE:  # a tenth of a small subgroup is a handful of patients, and 20 evaluations each cost most
        groups = patient_groups(x_patients, rng), patient_groups(y_patients, rng)
        se = jackknife_se(lambda a, b: compare(pairs, a, n + b), *groups)
    p = kernel_distance_p(pairs.kernel, n, owners, rng)
    dimensions = pairs.features.shape[1]
    wide, several = n < 2 * dimensions, len(np.unique(y_patients)) < n
    rows = []
    for position, metric in enumerate(METRICS):
        floor, floor_sd = floors[:, position].mean(), floors[:, position].std(ddof=1)
        note = f"n < 2 x {dimensions} dimensions: read with kid" if metric == "fd" and wide else ""
        if several and metric in BIASED:
            note = "; ".join([*([note] if note else []), SEVERAL])
        rows.append(
            {
                "metric": metric,
                "n": n,
                "value": value[position],
                **interval(metric, value[position], se[position]),
                "floor": floor,
                "floor_sd": floor_sd,
                "excess": value[position] - floor,
                "p": p if metric == "kid" else np.nan,
                "note": note,
            }
        )
    return rows


def _gap(train: Sequence[Row], held_out: Sequence[Row]) -> list[Row]:
    """Distance to the training images minus that to held-out ones: far below 0 is a sign of copying."""
    rows = []
    for ours, theirs in zip(train, held_out, strict=True):
        if ours["metric"] in ("fd", "kid"):
            gap = cast(float, ours["value"]) - cast(float, theirs["value"])
            note = "below 0: nearer to the training images than to held-out ones, a sign of copying"
            keys = {"reference": GAP, "metric": ours["metric"], "n": ours["n"], "value": gap}
            rows.append({**empty_row(note), **keys})
    return rows
