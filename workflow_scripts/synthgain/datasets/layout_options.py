"""Options of published layouts that a study sets and a job reads. Declarations alone."""

from typing import Literal

from pydantic import Field

from synthgain.entry import Entry, Name


class LabelPolicy(Entry):
    """Which labels of a published set are read, and what its uncertain and blank ones become."""

    source: Literal["chexpert", "negbio"] = Field("chexpert", description="mimic_cxr_jpg: whose labels.")
    uncertain: Literal["unknown", "zero", "one", "own_class"] = Field(
        "unknown", description="−1: left out of the loss, 0, 1, or a third level of the label."
    )
    blank: Literal["unknown", "zero", "zero_if_no_finding"] = Field(
        "unknown", description="Not mentioned: unknown, 0, or 0 where No Finding is 1."
    )
    votes: Literal["majority", "any", "all", "soft"] = Field(
        "majority",
        description="vindr_cxr: readers that make a label 1. soft: the majority, and beside it the share of readers as "
        "`<finding>_votes`, from which models.*.soft_targets learn.",
    )


class LayoutOptions(Entry):
    """What a layout's module is given."""

    labels: LabelPolicy = LabelPolicy()
    findings: list[Name] = Field(default_factory=list)
    confirmed: bool = False
    mapping: bool = True
