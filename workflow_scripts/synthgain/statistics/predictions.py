"""Stored predictions as aligned arrays: the same images in the same order for every arm, ratio and replicate."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from synthgain.runtime.errors import SynthGainError
from synthgain.statistics.analysis import ComparedArm

IMAGE_SCORES = ("dice", "iou", "nsd", "hd95", "truth_empty", "predicted_empty")
REQUIRED = ("arm", "ratio", "replicate", "dataset", "part", "image_id", "patient_id", "label", "truth", "score")


@dataclass(frozen=True)
class Panel:
    """All predictions on one part of one data set.

    runs: R rows with columns arm, ratio, replicate. labels: L names. image_ids: (N,). patient: (N,) codes in
    0 … patients-1; patient_ids their names. truth: (L, N) in {0, 1, NaN}. scores: (R, L, N) float32.
    image_scores: per-image segmentation scores, name → (R, L, N); empty for classification.
    """

    dataset: str
    part: str
    runs: pd.DataFrame
    labels: list[str]
    image_ids: np.ndarray
    patient: np.ndarray
    patient_ids: np.ndarray
    truth: np.ndarray
    scores: np.ndarray
    image_scores: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def patients(self) -> int:
        """Number of patients P."""
        return len(self.patient_ids)

    def run_positions(self, arm: str, ratio: int) -> np.ndarray:
        """Positions of the runs of one arm and ratio, by replicate."""
        chosen = (self.runs["arm"] == arm) & (self.runs["ratio"] == ratio)
        return np.flatnonzero(chosen.to_numpy())

    def positive_patients(self, label: int) -> int:
        """Patients with at least one positive image of a label."""
        return len(np.unique(self.patient[self.truth[label] == 1]))

    def negative_patients(self, label: int) -> int:
        """Patients with at least one negative image of a label."""
        return len(np.unique(self.patient[self.truth[label] == 0]))


def build_panel(
    table: pd.DataFrame, dataset: str, part: str, excluded: Collection[str] = (), diagonal: float = np.nan
) -> Panel:
    """Align the predictions of all arms on one part of a data set.

    table: the architecture's predictions table with a column `arm`. `excluded` image ids are left out in every arm.
    diagonal: of an image in px, the distance of a structure that is there and not found (the worst case): to leave such
    images out would reward an arm that misses the hard ones.
    Raises SynthGainError if nothing is left, an arm lacks images that another has, or arms disagree about truth.
    """
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise SynthGainError(f"predictions lack the column {missing[0]}; delete the predictions folder and run again")
    chosen = table[(table["dataset"] == dataset) & (table["part"] == part) & ~table["image_id"].isin(list(excluded))]
    if chosen.empty:
        raise SynthGainError(f"no predictions on the {part} part of {dataset}; check evaluate_on and that set's split")
    runs = chosen[["arm", "ratio", "replicate"]].drop_duplicates().sort_values(["arm", "ratio", "replicate"])
    runs = runs.reset_index(drop=True)
    run = pd.MultiIndex.from_frame(runs).get_indexer(pd.MultiIndex.from_frame(chosen[["arm", "ratio", "replicate"]]))
    image, image_ids = pd.factorize(chosen["image_id"], sort=True)
    label, labels = pd.factorize(chosen["label"])
    shape = (len(runs), len(labels), len(image_ids))
    _check_complete(run, label, image, shape, runs, dataset)
    place = (run, label, image)
    truth = _scatter(chosen["truth"], place, shape, np.float32)
    differs = ~((truth == truth[0]) | (np.isnan(truth) & np.isnan(truth[0])))
    if differs.any():
        other = runs.iloc[int(np.argwhere(differs)[0][0])]
        raise SynthGainError(
            f"{dataset}: truth of arm {other.arm} differs from that of arm {runs.iloc[0].arm}; "
            "the predictions stem from different tables: delete them and run again"
        )
    patient_of_image = chosen.drop_duplicates("image_id").set_index("image_id")["patient_id"].reindex(image_ids)
    patient, patient_ids = pd.factorize(patient_of_image, sort=True)
    scores = {name: _scatter(chosen[name], place, shape, np.float32) for name in IMAGE_SCORES if name in chosen}
    if "hd95" in scores:
        missed = (scores["truth_empty"] == 0) & (scores["predicted_empty"] == 1)
        scores["hd95"] = np.where(missed, np.float32(diagonal), scores["hd95"])
    return Panel(
        dataset,
        part,
        runs,
        [str(name) for name in labels],
        np.asarray(image_ids, dtype=object),
        patient,
        np.asarray(patient_ids, dtype=object),
        truth[0],
        _scatter(chosen["score"], place, shape, np.float32),
        scores,
    )


def cells_of(runs: pd.DataFrame) -> dict[tuple[str, int], np.ndarray]:
    """(arm, ratio) → positions (S,) of its runs, by replicate."""
    keys = zip(runs["arm"].astype(str), runs["ratio"].astype(int), strict=True)
    positions: dict[tuple[str, int], list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    return {key: np.array(found) for key, found in positions.items()}


def validation_dataset(arm: str, arms: Mapping[str, ComparedArm], table: pd.DataFrame) -> str:
    """Name of the data set whose real validation part chose the arm's checkpoint and sets its thresholds.

    The arm's real data set; for synthetic only that of its baseline; else the only one with validation rows.
    """
    rows = table[(table["arm"] == arm) & (table["part"] == "validation")]
    present = set(rows["dataset"].unique())
    spec = arms[arm]
    baseline = arms.get(spec.baseline or "")
    for name in (spec.validation, spec.real, baseline.real if baseline is not None else None):
        if name is not None and name in present:
            return name
    if len(present) == 1:
        return str(present.pop())
    found = ", ".join(sorted(present)) or "none"
    raise SynthGainError(f"arm {arm}: cannot tell its validation set (validation predictions of: {found})")


def _scatter(column: pd.Series, place: tuple, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    values: np.ndarray = np.full(shape, np.nan, dtype=dtype)
    values[place] = column.to_numpy(dtype=dtype, na_value=np.nan)
    return values


def _check_complete(
    run: np.ndarray, label: np.ndarray, image: np.ndarray, shape: tuple[int, int, int], runs: pd.DataFrame, dataset: str
) -> None:
    seen = np.zeros(shape, dtype=np.int32)
    np.add.at(seen, (run, label, image), 1)
    expected = (seen > 0).any(axis=0)  # a structure whose mask an image does not have is in no run
    wrong = np.argwhere(seen != expected)
    if len(wrong):
        arm, ratio, replicate = runs.iloc[int(wrong[0][0])]
        count = int(seen[tuple(wrong[0])])
        what = "occurs more than once" if count else "is missing"
        raise SynthGainError(
            f"{dataset}: an image that other arms have {what} in the predictions of arm {arm}, ratio {ratio}, "
            f"replicate {replicate}; delete predictions of that arm and run again"
        )
