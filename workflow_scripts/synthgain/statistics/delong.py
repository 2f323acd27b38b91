"""AUROC with its covariance over patients: DeLong's components, clustered after Obuchowski.

DeLong, DeLong & Clarke-Pearson 1988; mid-rank form of Sun & Xu 2014; several images per patient after
Obuchowski, Biometrics 1997;53:567. With one image per patient the clustered form is the plain one.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from synthgain.statistics.resampling import patient_sums

BLOCK = 1_000_000  # weights of images held at once in a bootstrap (8 MB)


@dataclass(frozen=True)
class Components:
    """Patient sums of the structural components of R models on one label.

    auroc: (R,). positive, negative: (R, P): per patient, the sum of (V10 − AUROC) over their positive images and
    of (V01 − AUROC) over their negative images, divided by the number of positive (negative) images.
    positive_patients, negative_patients: how many patients have such an image.
    """

    auroc: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    positive_patients: int
    negative_patients: int

    @property
    def influence(self) -> np.ndarray:
        """(R, P): first-order change of each AUROC per unit of weight on a patient."""
        return self.positive + self.negative


def components(truth: np.ndarray, scores: np.ndarray, patient: np.ndarray, patients: int) -> Components:
    """Structural components summed by patient.

    truth: (N,) in {0, 1, NaN}; scores: (R, N); patient: (N,) codes in 0 … patients-1.
    Raises ValueError where truth holds one class only.
    """
    known = ~np.isnan(truth)
    is_positive = truth[known] == 1
    codes, values = patient[known], np.asarray(scores, dtype=np.float64)[:, known]
    count, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if count == 0 or negatives == 0:
        raise ValueError(f"AUROC needs both classes, got {count} positive and {negatives} negative images")
    ranks = rankdata(values, axis=1)
    v10 = (ranks[:, is_positive] - rankdata(values[:, is_positive], axis=1)) / negatives
    v01 = 1 - (ranks[:, ~is_positive] - rankdata(values[:, ~is_positive], axis=1)) / count
    auroc = v10.mean(axis=1)
    return Components(
        auroc,
        patient_sums(v10 - auroc[:, None], codes[is_positive], patients) / count,
        patient_sums(v01 - auroc[:, None], codes[~is_positive], patients) / negatives,
        len(np.unique(codes[is_positive])),
        len(np.unique(codes[~is_positive])),
    )


def covariance(labels: list[Components]) -> np.ndarray:
    """Covariance (R, R) over patients of the AUROC, or of the macro AUROC where several labels are given.

    Obuchowski's S10/M + S01/N + cross terms S11/(MN) in both directions; for several labels the components are
    averaged per patient first, which keeps the covariances between labels.
    """
    patients = labels[0].positive.shape[1]
    positive = np.mean([_inflate(part.positive, part.positive_patients) for part in labels], axis=0)
    negative = np.mean([_inflate(part.negative, part.negative_patients) for part in labels], axis=0)
    raw_positive = np.mean([part.positive for part in labels], axis=0)
    raw_negative = np.mean([part.negative for part in labels], axis=0)
    cross = raw_positive @ raw_negative.T * patients / (patients - 1)
    result: np.ndarray = positive @ positive.T + negative @ negative.T + cross + cross.T
    return result


def delong_test(first: np.ndarray, second: np.ndarray, truth: np.ndarray, patient: np.ndarray) -> tuple[float, float]:
    """DeLong's test of two single models (patient-clustered): (difference, two-sided p).

    first, second, truth: (N,); patient: (N,) codes. A statement about these two fixed models, not about training.
    """
    parts = components(truth, np.stack([first, second]), patient, int(patient.max()) + 1)
    matrix = covariance([parts])
    difference = float(parts.auroc[0] - parts.auroc[1])
    variance = float(matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1])
    if variance <= 0:
        return difference, 1.0 if difference == 0 else float("nan")
    return difference, float(2 * norm.sf(abs(difference) / np.sqrt(variance)))


def bootstrap_auroc(truth: np.ndarray, scores: np.ndarray, patient: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean AUROC of S models under each row of patient weights, exactly (all pairs of images, no linearisation).

    truth: (N,) in {0, 1, NaN}; scores: (S, N); patient: (N,) codes; weights: (B, P). Returns (B,), NaN where a
    resample holds one class only. By running sums over the sorted scores, in blocks: memory is linear in N.
    """
    known = np.flatnonzero(~np.isnan(truth))
    positive, codes = truth[known] == 1, patient[known]
    found = np.zeros(len(weights))
    for row in scores[:, known]:
        order = np.argsort(row, kind="stable")
        ranked, own, of_patient = row[order], positive[order], codes[order]
        last = np.searchsorted(ranked, ranked[own], side="right")
        first = np.searchsorted(ranked, ranked[own], side="left")
        below = np.flatnonzero(~own)
        to, tied = np.searchsorted(below, first), np.searchsorted(below, last)
        for start in range(0, len(weights), block := max(1, BLOCK // max(len(order), 1))):
            some = weights[start : start + block]
            rest = np.zeros((len(some), len(below) + 1))
            np.cumsum(some[:, of_patient[below]], axis=1, out=rest[:, 1:])
            won = some[:, of_patient[own]] * (rest[:, to] + rest[:, tied]) / 2
            pairs = some[:, of_patient[own]].sum(axis=1) * rest[:, -1]
            found[start : start + block] += np.divide(
                won.sum(axis=1), pairs, out=np.full(len(some), np.nan), where=pairs > 0
            )
    return found / len(scores)


def _inflate(parts: np.ndarray, contributing: int) -> np.ndarray:
    """Square root of the small-sample factor I/(I − 1) of Obuchowski's S10 and S01."""
    return parts * np.sqrt(contributing / max(contributing - 1, 1))
