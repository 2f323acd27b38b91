"""Cut one data set into train, validation and test by whole patients and duplicate groups."""

import numpy as np
import pandas as pd

from synthgain.data.image_set import SPLIT_FILE, job_dataset
from synthgain.datasets.duplicates import exact_groups, near_pairs
from synthgain.datasets.split import (
    PARTS,
    SplitColumn,
    area_indicators,
    assert_disjoint,
    check_classes,
    label_indicators,
    part_counts,
    split_by_fractions,
    split_from_column,
)
from synthgain.datasets.values import id_key
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest, write_table
from synthgain.seeds import random_generator


def split_dataset(job: Job) -> None:
    """Slice: dataset, fractions {train, validation, test} or column, stratify, seed, split_seed.

    Without `stratify` all targets are kept in proportion; without targets, terciles of the first structure's area.
    """
    settings, name = job.slice, job.slice["dataset"]
    data = job_dataset(job, name, with_split=False).images
    table = data.table
    targets = {key: spec for key, spec in data.columns.items() if spec["role"] == "target"}
    stratify = settings.get("stratify")
    stratify = list(targets) if stratify is None else stratify
    unknown = [column for column in stratify if column not in table.columns]
    if unknown:
        raise SynthGainError(f"{name}: split.stratify names {unknown[0]!r}; columns are {', '.join(data.columns)}")
    near = near_pairs(data.images, table["patient_id"], table["sha256"])
    joined = [(pair.first, pair.second) for pair in near.pairs if pair.mutual]
    groups = exact_groups(table["patient_id"].map(id_key), table["sha256"], joined)  # one side for 7, 7.0 and 007
    labels = label_indicators(table, stratify)
    if settings.get("stratify") is None and not targets:
        labels = area_indicators(data)
    rng = random_generator(study=settings["seed"], step="split", dataset=name, seed=settings.get("split_seed", 0))
    moved = 0
    if settings.get("column"):
        parts, moved = split_from_column(table, groups, SplitColumn(**settings["column"]), labels, rng)
        expected = [part for part in PARTS if part == "train" or (parts == part).any()]
    else:
        fractions = settings["fractions"]
        parts = split_by_fractions(groups, labels, fractions, rng)
        expected = [part for part in PARTS if part == "train" or fractions.get(part)]
    check_classes(table, parts, targets, expected, name)
    split = pd.DataFrame({"image_id": table["image_id"], "patient_id": table["patient_id"], "part": parts})
    assert_disjoint(split, groups)
    folder = job.outputs[0].parent
    write_table(folder / SPLIT_FILE, split, job.identity)
    counts = part_counts(table, parts, [key for key, spec in targets.items() if spec["kind"] != "continuous"])
    write_manifest(
        folder / "manifest.json",
        job.identity,
        [SPLIT_FILE],
        dataset=name,
        parts=counts,
        unit=data.manifest.get("split_unit", "patient"),
        groups=int(np.max(groups)) + 1,
        exact_duplicates=int(table["sha256"].duplicated().sum()),
        near_duplicate_threshold=near.threshold,
        near_duplicate_pairs=len(near.pairs),
        near_duplicate_pairs_joined=len(joined),
        moved_to_train=moved,
    )
    shown = ", ".join(f"{part} {facts['images']} ({facts['patients']} patients)" for part, facts in counts.items())
    logger.info("[split %s] %s", name, shown)


if __name__ == "__main__":
    run_script(split_dataset)
