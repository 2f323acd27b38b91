"""What every data set adapter returns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from synthgain.data.image_set import Columns


class PassedOver(BaseModel):
    """Files of a folder that are no images: how many, and the first of them."""

    count: int = 0
    listed: list[str] = []


class SourceFacts(BaseModel):
    """What an adapter may say of its source, and the audit shows: keys of the manifest of the ImageSet.

    impossible_values: {column: cells made unknown}; conflicts: {column: images whose rows disagree}; notes: sentences;
    mask_findings: {structure: counts} of `masks.Findings`.
    """

    split_unit: str = "patient"
    citation: str = ""
    licence: str = ""
    impossible_values: dict[str, int] = {}
    conflicts: dict[str, int] = {}
    notes: list[str] = []
    passed_over: PassedOver = PassedOver()
    mask_findings: dict[str, dict[str, object]] = {}


@dataclass(frozen=True)
class Prepared:
    """Images of one source in the study's geometry, before anything is written.

    images: (N, H, W, C) uint8. table: N rows with `image_id, patient_id, site, origin` ("real"),
    one column per key of `columns`, and `has_mask_<name>` (bool) per mask.
    columns: {name: {role: target|covariate, kind: binary|category|continuous, levels?}}.
    masks: (N, H, W, K) uint8 in {0, 1} or None. quarantine: rows left out, columns `image, reason`.
    facts: JSON values for the manifest (source, licence, split unit, phantom law …).
    """

    images: np.ndarray
    table: pd.DataFrame
    columns: Columns
    masks: np.ndarray | None = None
    mask_names: list[str] = field(default_factory=list)
    quarantine: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"image": [], "reason": []}, dtype=str))
    facts: dict[str, Any] = field(default_factory=dict)
