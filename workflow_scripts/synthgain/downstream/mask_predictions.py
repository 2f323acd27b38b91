"""The long table of a segmenter's predictions: scores per image and structure."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from synthgain.data.run_lengths import encode_runs
from synthgain.downstream.arms import Rows
from synthgain.downstream.prediction import Place
from synthgain.downstream.training_set import ImageStore
from synthgain.metrics import mask_scores
from synthgain.runtime.errors import SynthGainError

SCORES = ("dice", "iou", "nsd", "hd95")


def mask_table(
    predicted: Iterable[np.ndarray],
    masks: ImageStore,
    rows: Rows,
    labels: Sequence[str],
    place: Place,
    tolerance: float,
    keep_masks: bool,
) -> pd.DataFrame:
    """Return one row per image and structure whose mask is known, image by image.

    predicted: batches of (B, H, W, K) bool in the order of `rows`; masks: the true ones of the same rows.
    Columns: ratio, replicate, dataset, part, image_id, patient_id, label (the structure), truth (1 where it is
    present, else 0), score (Dice), SCORES by the rules of `mask_scores`, truth_empty, predicted_empty (bool), and with
    keep_masks `mask_rle` (`encode_runs`). Raises SynthGainError where no image has a mask of any structure.
    """
    found: list[dict[str, object]] = []
    first = 0
    for batch in predicted:
        truth = masks.gather(np.arange(first, first + len(batch)))
        for offset, (true_planes, planes) in enumerate(zip(truth, batch, strict=True)):
            row = first + offset
            for k in np.flatnonzero(rows.targets[row] == 1):
                scores = _row(true_planes[..., k], planes[..., k], tolerance, keep_masks)
                found.append({"row": row, "label": labels[int(k)], **scores})
        first += len(batch)
    if not found:
        raise SynthGainError(
            f"datasets.{place.dataset}: no image of its {place.part} part has a mask of {', '.join(labels)}; "
            "add masks or leave it out of evaluate_on"
        )
    table = pd.DataFrame(found)
    order = table.pop("row").to_numpy()
    head = {
        "ratio": np.int64(place.ratio),
        "replicate": np.int64(place.replicate),
        "dataset": place.dataset,
        "part": place.part,
        "image_id": rows.image_ids[order],
        "patient_id": rows.patients[order],
    }
    for position, (name, values) in enumerate(head.items()):
        table.insert(position, name, values)
    return table.astype(dict.fromkeys(("truth", "score", *SCORES), np.float32))


def _row(truth: np.ndarray, predicted: np.ndarray, tolerance: float, keep_masks: bool) -> dict[str, object]:
    scores = mask_scores(truth, predicted, tolerance)
    present, drawn = bool(truth.any()), bool(predicted.any())
    row: dict[str, object] = {"truth": float(present), "score": scores["dice"], **scores}
    row |= {"truth_empty": not present, "predicted_empty": not drawn}
    return row | {"mask_rle": encode_runs(predicted)} if keep_masks else row
