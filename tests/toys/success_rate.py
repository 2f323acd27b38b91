"""A toy metric: the share of images whose predicted mask overlaps the true one at all."""

import numpy as np

from synthgain.statistics.predictions import Panel
from synthgain.statistics.resampling import patient_sums


def success_rate(panel: Panel, label: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (R, P) patient sums: successes over images that hold the structure."""
    held = panel.image_scores["truth_empty"][0, label] == 0
    found = (panel.image_scores["dice"][:, label][:, held] > 0).astype(np.float64)
    total = patient_sums(found, panel.patient[held], panel.patients)
    count = patient_sums(np.ones((1, int(held.sum()))), panel.patient[held], panel.patients)
    return [(total, np.broadcast_to(count, total.shape))]
