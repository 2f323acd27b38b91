"""Precision, recall, density and coverage on nearest-neighbour balls.

Kynkäänniemi et al. 2019 (arXiv 1904.06991) for precision and recall, Naeem et al. 2020 (arXiv 2002.09797)
for density and coverage. Two samples of one law do not score 1 (coverage ≈ 0.97, precision ≈ 0.8), and
coverage depends on the ratio of the two sizes: call with equal n and read differences from real-versus-real.
"""

import numpy as np

NEIGHBOURS = 5  # Naeem et al. 2020


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, (n, m) float64, never negative."""
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    distances = (x64 * x64).sum(1)[:, None] + (y64 * y64).sum(1) - 2.0 * (x64 @ y64.T)
    return np.maximum(distances, 0.0)


def prdc(real: np.ndarray, synthetic: np.ndarray, across: np.ndarray, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Return precision, recall, density, coverage from squared distances.

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
