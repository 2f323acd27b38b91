"""What stands in a data set of a study: counts, duplicates, what crosses its split. Between sets: overlaps.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from synthgain.data.image_set import ImageSet
from synthgain.datasets.duplicates import near_pairs, small_copies
from synthgain.datasets.mask_area import mask_areas
from synthgain.datasets.source import SourceFacts
from synthgain.datasets.split import PARTS, class_counts, part_counts
from synthgain.datasets.values import id_key
from synthgain.runtime.errors import SynthGainError

LISTED = 200  # rows of a finding that audit.json lists; the counts are always whole
LEARNED_FROM = ("train", "validation")  # parts that shape a model, by its weights or by choosing its checkpoint


@dataclass(frozen=True)
class AuditedSet:
    """One data set with its parts: `parts` (N,) names; without a split all rows are "test".

    films: the published collection that it is from, where the study tells; tested: models are tested on it; accepted:
    the study says why films that it shares with a training set may be tested on.
    """

    name: str
    data: ImageSet
    parts: np.ndarray
    quarantine: pd.DataFrame
    copies: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    films: str = ""
    tested: bool = True
    accepted: bool = False

    @property
    def table(self) -> pd.DataFrame:
        """The image set's table."""
        return self.data.table


def with_copies(audited: AuditedSet) -> AuditedSet:
    """Return the set with its small copies (for near duplicates) computed."""
    return replace(audited, copies=small_copies(audited.data.images))


def audit_one(audited: AuditedSet) -> dict[str, object]:
    """Return the facts of one data set as JSON values."""
    table, columns = audited.table, audited.data.columns
    facts = SourceFacts.model_validate(audited.data.manifest)
    near = near_pairs(
        audited.data.images, table["patient_id"], table["sha256"], audited.copies if len(audited.copies) else None
    )
    counted = [name for name, spec in columns.items() if spec["kind"] != "continuous"]
    numbers = {n: number_summary(table[n]) for n, spec in columns.items() if spec["kind"] == "continuous"}
    ids, parts = table["image_id"].to_numpy(), audited.parts
    pairs = [
        {
            "first": ids[pair.first],
            "second": ids[pair.second],
            "similarity": round(pair.similarity, 5),
            "crosses": bool(parts[pair.first] != parts[pair.second]),
        }
        for pair in sorted(near.pairs, key=lambda pair: -pair.similarity)  # the most alike first
    ]
    exact = exact_duplicates(table, parts)
    return {
        "images": len(table),
        "patients": int(table["patient_id"].nunique()),
        "shape": list(audited.data.images.shape[1:]),
        "split_unit": facts.split_unit,
        "sites": class_counts(table["site"]),
        "columns": columns,
        "parts": part_counts(table, parts, counted),
        "numbers": numbers,
        "masks": mask_facts(audited.data),
        "citation": facts.citation,
        "licence": facts.licence,
        "impossible_values": facts.impossible_values,
        "notes": facts.notes,
        "conflicts": facts.conflicts,
        "impossible_labels": impossible_labels(audited.data),
        "passed_over": facts.passed_over.model_dump(),
        "quarantined": len(audited.quarantine),
        "quarantine": audited.quarantine.head(LISTED).to_dict("records"),
        "exact_duplicates": {"groups": len(exact), "listed": exact[:LISTED]},
        "near_duplicates": {"threshold": near.threshold, "pairs": len(pairs), "listed": pairs[:LISTED]},
        "crossing": {
            "patients": crossing(table["patient_id"].map(id_key), parts),
            "exact_duplicates": crossing(table["sha256"], parts),
            "near_duplicates": sum(pair["crosses"] for pair in pairs),
        },
    }


def exact_duplicates(table: pd.DataFrame, parts: np.ndarray) -> list[dict[str, object]]:
    """Return groups of pixel-identical images: their ids, patients and parts."""
    twins = table.assign(part=parts)[table["sha256"].duplicated(keep=False)]
    return [
        {"images": list(rows["image_id"]), "patients": sorted(rows["patient_id"].unique()),
         "parts": sorted(rows["part"].unique())}
        for _, rows in twins.groupby("sha256", sort=True)
    ]  # fmt: skip


def crossing(keys: pd.Series, parts: np.ndarray) -> int:
    """Return how many keys (patients, pixel hashes) stand in more than one part."""
    return int((pd.Series(parts).groupby(keys.to_numpy()).nunique() > 1).sum())


def mask_facts(data: ImageSet) -> dict[str, dict[str, object]]:
    """Return {structure: counts of its masks}: with_mask, without_mask, empty, full, area (share of the image) …

    Where the source's files were read, their own counts (`masks.Findings`) join and stand for `empty` and `full`:
    padding hides that a mask fills its image.
    """
    facts: dict[str, dict[str, object]] = {}
    found = SourceFacts.model_validate(data.manifest).mask_findings
    for plane, name in enumerate(data.mask_names):
        present = data.table[f"has_mask_{name}"].to_numpy(bool)
        areas = mask_areas(data, plane)[present]
        facts[name] = {
            "with_mask": int(present.sum()),
            "without_mask": int((~present).sum()),
            "empty": int((areas == 0).sum()),
            "full": int((areas == 1).sum()),
            "area": number_summary(pd.Series(areas[areas > 0])),
            **found.get(name, {}),
        }
    return facts


def impossible_labels(data: ImageSet) -> dict[str, int]:
    """Return {column: rows whose value is not one that the manifest allows}."""
    counts = {}
    for name, spec in data.columns.items():
        allowed = [0.0, 1.0] if spec["kind"] == "binary" else spec.get("levels")
        if spec["kind"] != "continuous" and allowed is not None:
            counts[name] = int((~data.table[name].isin(allowed) & data.table[name].notna()).sum())
    return {name: count for name, count in counts.items() if count}


def number_summary(values: pd.Series) -> dict[str, float | int | None]:
    """Return count known, unknown, median, quartiles and range of a numeric column."""
    known = values.dropna().to_numpy(float)
    summary: dict[str, float | int | None] = {"known": len(known), "unknown": int(values.isna().sum())}
    points = np.percentile(known, [0, 25, 50, 75, 100]) if len(known) else [None] * 5
    for name, value in zip(("min", "q1", "median", "q3", "max"), points, strict=True):
        summary[name] = None if value is None else round(float(value), 3)
    return summary


def check_findings(audit: dict[str, Any], fail_on: list[str], max_crossing_share: float, page: str) -> None:
    """Raise SynthGainError for findings that may not be.

    fail_on: any of "patients", "exact_duplicates", "impossible_labels" (one is too many) and "near_duplicates"
    (pairs across parts, as a share of the test images, above `max_crossing_share`). page: path of the whole audit.
    """
    for name, facts in audit["datasets"].items():
        for kind in ("patients", "exact_duplicates"):
            if kind in fail_on and facts["crossing"][kind]:
                raise SynthGainError(f"audit: {name}: {facts['crossing'][kind]} {kind} cross the split; see {page}")
        if "impossible_labels" in fail_on and facts["impossible_labels"]:
            column = next(iter(facts["impossible_labels"]))
            raise SynthGainError(f"audit: {name}: impossible values in {column}; see {page}")
        tested = facts["parts"].get(PARTS[2], {}).get("images", 0)
        share = facts["crossing"]["near_duplicates"] / max(tested, 1)
        if "near_duplicates" in fail_on and share > max_crossing_share:
            raise SynthGainError(
                f"audit: {name}: {100 * share:.1f} % of the test images have a near duplicate in another part "
                f"(max_crossing_share is {max_crossing_share:g}); see {page}"
            )


def check_learned(facts: Mapping[str, Any], name: str, targets: Sequence[str]) -> None:
    """Raise SynthGainError for a target that a model learns and of which the training part has one class or none.

    facts: `audit_one` of the set. A target that its table lacks is refused elsewhere.
    """
    parts = facts["parts"]
    classes = parts["train"]["classes"] if "train" in parts else {}
    for target in (one for one in targets if one in classes):
        found = [level for level in classes[target] if level != "unknown"]
        if len(found) < 2:
            what = f"{target} = {found[0]} alone" if found else f"no known {target}"
            raise SynthGainError(
                f"audit: {name}: the training part has {what}, and a model that learns {target} needs two classes; "
                "check `where`, the map and the split"
            )
