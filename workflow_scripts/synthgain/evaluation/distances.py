"""Distances between two sets of features: Fréchet and kernel distance, and nearest-neighbour balls.

Features are (n, d) float arrays; all sums run in float64.
"""

import numpy as np

KID_DEGREE, KID_OFFSET = 3, 1.0  # Bińkowski et al. 2018: k(a, b) = (a·b / d + 1)³
NEIGHBOURS = 5  # Naeem et al. 2020


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to x (n, d) and y (m, d); n, m ≥ 2.

    |μx − μy|² + tr Σx + tr Σy − 2 tr (Σx Σy)^½. With A, B the centred features over √(n−1), √(m−1),
    the last trace is the sum of the singular values of A·Bᵀ: no matrix square root, no jitter for a
    singular covariance. Biased upwards at small n: compare with a real-versus-real floor at equal n.
    Raises ValueError for fewer than two rows or unequal d.
    """
    _check(x, y)
    a, b = _whitening_side(x), _whitening_side(y)
    shift = x.mean(0, dtype=np.float64) - y.mean(0, dtype=np.float64)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(float(shift @ shift + (a * a).sum() + (b * b).sum() - 2.0 * cross), 0.0)


def _whitening_side(x: np.ndarray) -> np.ndarray:
    """Centred features over √(n−1), or their d × d triangular factor where that is smaller."""
    a = (x.astype(np.float64) - x.mean(0, dtype=np.float64)) / np.sqrt(len(x) - 1)
    return a if len(a) <= a.shape[1] else np.asarray(np.linalg.qr(a, mode="r"))


def kernel_matrix(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cubic polynomial kernel of KID, (n, m) float64."""
    product = x.astype(np.float64) @ y.astype(np.float64).T
    return (product / x.shape[1] + KID_OFFSET) ** KID_DEGREE


def kernel_distance(kernel: np.ndarray, first: int, patients: np.ndarray | None = None) -> float:
    """Unbiased squared MMD from the (n + m, n + m) kernel of x (the `first` rows) stacked on y.

    patients: (n + m,) one label per row; default: one image per patient. Images of one patient are alike, so that pairs
    of them are left out, as each image's pair with itself is: else several images per patient bias it upwards.
    With `kernel_matrix` this is KID on the full sample, not on the customary subsets; may be negative.
    """
    member = np.zeros((len(kernel), 1))
    member[:first] = 1.0
    return float(_distances(kernel, member, np.arange(len(kernel)) if patients is None else patients)[0])


def owners_apart(synthetic: np.ndarray, real: np.ndarray) -> np.ndarray:
    """One code per row of both sets: a synthetic image is no image of its parent, only one side's images share one."""
    first, second = np.unique(synthetic, return_inverse=True)[1], np.unique(real, return_inverse=True)[1]
    return np.concatenate([first, second + 1 + first.max(initial=0)])


def kernel_distance_p(
    kernel: np.ndarray, first: int, patients: np.ndarray, rng: np.random.Generator, permutations: int = 499
) -> float:
    """Permutation p of `kernel_distance`: whole patients change sides, the sizes of the sides stay.

    patients: (n + m,) one label per row; a synthetic image carries a label that no real image has. A
    patient at the border is cut, so that the sizes stay equal. One-sided (distances only grow).
    """
    observed = kernel_distance(kernel, first, patients)
    _, code = np.unique(patients, return_inverse=True)
    member = np.zeros((len(kernel), permutations))
    for column in range(permutations):
        rank = rng.permutation(code.max() + 1)[code]
        member[np.argsort(rank, kind="stable")[:first], column] = 1.0
    drawn = _distances(kernel, member, patients)
    return float((1 + np.sum(drawn >= observed)) / (1 + permutations))


def _distances(kernel: np.ndarray, member: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Unbiased squared MMD for each column of `member` (rows, columns) in {0, 1}; pairs of different patients only."""
    total, n = len(kernel), float(member[:, 0].sum())
    if n < 2 or total - n < 2:
        raise ValueError(f"a kernel distance needs two rows on each side, got {int(n)} and {int(total - n)}")
    different = (patients[:, None] != patients[None, :]).astype(np.float64)
    within, rest, across = _mean_pairs(kernel * different, member) / _mean_pairs(different, member)
    return np.asarray(within + rest - 2.0 * across)


def _mean_pairs(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Sums (3, columns) of a symmetric matrix over pairs within a column's rows, within the others, and across."""
    product = values @ member
    within, rows = (member * product).sum(0), member.T @ values.sum(1)
    across = rows - within
    return np.stack([within, values.sum() - 2.0 * across - within, across])


def _check(x: np.ndarray, y: np.ndarray) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features must be (n, d) and (m, d), got {x.shape} and {y.shape}")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a Fréchet distance needs two rows on each side, got {len(x)} and {len(y)}")


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, (n, m) float64, never negative."""
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    distances = (x64 * x64).sum(1)[:, None] + (y64 * y64).sum(1) - 2.0 * (x64 @ y64.T)
    return np.maximum(distances, 0.0)


def prdc(real: np.ndarray, synthetic: np.ndarray, across: np.ndarray, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Return precision, recall, density, coverage from squared distances.

    Kynkäänniemi et al. 2019 (arXiv 1904.06991) for precision and recall, Naeem et al. 2020 (arXiv 2002.09797) for
    density and coverage. Two samples of one law do not score 1 (coverage ≈ 0.97, precision ≈ 0.8), and coverage
    depends on the ratio of the two sizes: call with equal n and read differences from real-versus-real.
    real: (n, n) real–real; synthetic: (m, m); across: (n, m) real–synthetic.
    Raises ValueError where a side has no more than `neighbours` images.
    """
    if min(len(real), len(synthetic)) <= neighbours:
        sizes = f"{len(real)} and {len(synthetic)}"
        raise ValueError(f"needs more than {neighbours} images on each side, got {sizes}")
    # Column 0 of the sorted distances is the image itself.
    real_radius = np.partition(real, neighbours, axis=1)[:, neighbours]
    synthetic_radius = np.partition(synthetic, neighbours, axis=1)[:, neighbours]
    inside_real = across < real_radius[:, None]
    return {
        "precision": float(inside_real.any(0).mean()),
        "recall": float((across < synthetic_radius).any(1).mean()),
        "density": float(inside_real.sum(0).mean() / neighbours),
        "coverage": float((across.min(1) < real_radius).mean()),
    }
