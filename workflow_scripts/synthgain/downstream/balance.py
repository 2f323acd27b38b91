"""Row weights under which each label reaches a target share: how often to draw a row, or how much it counts."""

from collections.abc import Mapping

import numpy as np

from synthgain.downstream.tasks import Task
from synthgain.runtime.errors import SynthGainError

RAKING_ROUNDS = 1000
RAKING_TOLERANCE = 1e-6


def balance_weights(task: Task, targets: np.ndarray, shares: Mapping[str, float], where: str) -> np.ndarray:
    """Return (N,) float64 weights of mean 1 under which each label named in `shares` has that share of its known rows.

    Iterative proportional fitting (Deming and Stephan 1940) from equal weights. Rows whose label is unknown
    keep their weight in that label's turn. Raises SynthGainError for an unknown label, a share outside
    (0, 1), or targets that cannot be met together; `where` opens its line.
    """
    _check(task, shares, where)
    weights = np.ones(len(targets))
    columns = {label: targets[:, task.labels.index(label)] for label in shares}
    for _ in range(RAKING_ROUNDS):
        worst = 0.0
        for label, column in columns.items():
            positive, negative = column == 1, column == 0
            one, zero = weights[positive].sum(), weights[negative].sum()
            if one == 0 or zero == 0:
                raise SynthGainError(f"{where}: balance {label}: the training images have one class only")
            worst = max(worst, abs(one / (one + zero) - shares[label]))
            weights[positive] *= shares[label] * (one + zero) / one
            weights[negative] *= (1 - shares[label]) * (one + zero) / zero
        if worst < RAKING_TOLERANCE:
            return weights / weights.mean()
    raise SynthGainError(
        f"{where}: balance targets {dict(shares)} cannot be met together (off by {worst:.3f}); relax one of them"
    )


def _check(task: Task, shares: Mapping[str, float], where: str) -> None:
    for label, share in shares.items():
        if label not in task.labels:
            raise SynthGainError(f"{where}: balance names {label!r}; the model's labels are {', '.join(task.labels)}")
        if not 0 < share < 1:
            raise SynthGainError(f"{where}: balance {label}: share {share} must lie between 0 and 1")
    if task.kind == "multi-class":
        total, all_named = sum(shares.values()), len(shares) == len(task.labels)
        if total > 1 + RAKING_TOLERANCE or (all_named and abs(total - 1) > RAKING_TOLERANCE):
            raise SynthGainError(f"{where}: balance shares of one column add up to {total:g}; they must make 1")
