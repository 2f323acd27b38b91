"""Options of appearance clusters that a study sets and a job reads. Declarations alone."""

from typing import Literal

from pydantic import Field

from synthgain.entry import Entry, Name, Share


class Clusters(Entry):
    """The training images of a data set, divided by what they look like (k-means on frozen features)."""

    of: Name = Field(description="Data set whose training images are divided.")
    k: int = Field(ge=2, le=1000, description="Number of clusters.")
    space: Literal["efficientnet_lite0"] = Field("efficientnet_lite0", description="Frozen features of the image.")
    mask: Literal["area_position", "none"] = Field(
        "area_position", description="What of the masks joins them: the area and centre of each structure, or nothing."
    )
    mask_weight: Share = Field(0.5, description="Spread of what the masks give, as a share of that of the image.")
    smallest: int = Field(1, ge=1, description="Images below which a cluster is tiny.")
    rule: Literal["merge", "refuse"] = Field(
        "refuse", description="Tiny clusters. merge: trained together with the nearest one; refuse: the study stops."
    )
    description: str = Field("", description="Free text for the report; changes nothing.")
