"""Areas of masks, and strata of them: what a data set without labels is split and shown by."""

import numpy as np

from synthgain.data.image_set import ImageSet

SIZES = ("small", "medium", "large")  # terciles of the area


def mask_areas(data: ImageSet, plane: int) -> np.ndarray:
    """Return (N,) float64: each mask's share of its image, read one row at a time; 0 where there is no mask."""
    if data.masks is None:
        return np.zeros(len(data))
    return np.array([np.count_nonzero(mask[:, :, plane]) / mask[:, :, plane].size for mask in data.masks], np.float64)


def area_strata(areas: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return (N,) object: "small", "medium" or "large" by tercile of the areas above 0, "empty", None without a mask.

    areas: (N,) shares of the image; present: (N,) bool.
    """
    strata = np.full(len(areas), None, dtype=object)
    strata[present] = "empty"
    filled = present & (areas > 0)
    if filled.any():
        edges = np.quantile(areas[filled], [1 / 3, 2 / 3])
        strata[filled] = np.array(SIZES, dtype=object)[np.searchsorted(edges, areas[filled], side="left")]
    return strata


def strata_of(data: ImageSet) -> tuple[str, np.ndarray] | None:
    """Return (name, strata) of the first structure's masks, or None for a set without masks."""
    if data.masks is None or not data.mask_names:
        return None
    name = data.mask_names[0]
    return name, area_strata(mask_areas(data, 0), data.table[f"has_mask_{name}"].to_numpy(bool))
