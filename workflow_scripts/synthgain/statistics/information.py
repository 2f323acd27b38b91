"""How many patients carry information: who shows an error, and who a success.

Near the ceiling (or the floor) of a metric the variance is estimated from the few patients that are not at it: with
none it is 0, and with a few an interval is far too short. So a comparison needs INFORMATIVE of each kind.
"""

import numpy as np

from synthgain.statistics.delong import Components

# Patients of each kind. The rule of thumb for proportions is 5 (Cochran 1954). Simulated at an AUROC of .989 with 30
# positive and 70 negative patients and a true difference of one margin, `equivalent` comes out in .13 without a
# minimum, in .10 with 5, .04 with 8 and .03 with 10; at .95 and .97 with 150 patients 8 leaves nothing out.
INFORMATIVE = 8
ROUNDING = 1e-9
ERROR, SUCCESS = "an error", "a success"
Kinds = tuple[tuple[str, np.ndarray], ...]  # (ERROR or SUCCESS, (R, P) bool): which patients show one, per run


def of_auroc(parts: Components, truth: np.ndarray, patient: np.ndarray, patients: int) -> Kinds:
    """Positive and negative patients with a pair that is ranked wrongly, or rightly; truth, patient: (N,)."""
    kinds = []
    for value, share in ((1, parts.positive), (0, parts.negative)):
        images = np.bincount(patient[truth == value], minlength=patients).astype(np.float64)
        won = share * images.sum() + parts.auroc[:, None] * images  # sum of V10 (V01) over the patient's images
        kinds += [(ERROR, images - won > ROUNDING), (SUCCESS, won > ROUNDING)]
    return tuple(kinds)


def of_ratios(parts: list[tuple[np.ndarray, np.ndarray]], higher_is_better: bool = True, bounded: bool = True) -> Kinds:
    """Patients that lose or win something in a (mean of) ratio(s) of patient sums, each (R, P).

    bounded: the ratio ends at 1; a distance does not, so that only those above 0 count.
    """
    some = np.any([above > ROUNDING for above, _ in parts], axis=0)
    rest = np.any([below - above > ROUNDING for above, below in parts], axis=0)
    names = (SUCCESS, ERROR) if higher_is_better else (ERROR, SUCCESS)
    return tuple(zip(names, (some, rest) if bounded else (some,), strict=False))


def of_labels(labels: list[Kinds]) -> Kinds:
    """Of a mean over labels: patients that are informative in any of them."""
    return tuple((kinds[0][0], np.any([of for _, of in kinds], axis=0)) for kinds in zip(*labels, strict=True))


def too_few(kinds: Kinds, arm_runs: np.ndarray, baseline_runs: np.ndarray) -> str:
    """Why two arms cannot be compared, "" where they can.

    A patient counts in a replicate where either arm's run shows the kind; counts are means over replicates.
    """
    found = [(float((of[arm_runs] | of[baseline_runs]).sum(axis=1).mean()), name) for name, of in kinds]
    if not found:
        return ""
    count, name = min(found)
    if count == 0:
        return f"no patient shows {name} in either arm"
    return f"too few informative patients ({count:.3g}, {INFORMATIVE} are needed)" if count < INFORMATIVE else ""
