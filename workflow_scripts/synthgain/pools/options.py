"""Options of pools that a study sets and a job reads. Declarations alone."""

from typing import Literal

from pydantic import Field, model_validator

from synthgain.entry import Entry, Name, Options, Share

Base = Literal["oracle", "copier", "jittered_copier", "noise"]
Derived = Literal["label_shuffled", "wrong_prevalence", "mode_dropper"]
Kind = Literal["oracle", "copier", "jittered_copier", "noise", "label_shuffled", "wrong_prevalence", "mode_dropper"]


class KnownOptions(Options):
    """Options of a pool of known truth."""

    base: Base = Field("oracle", description="label_shuffled, wrong_prevalence, mode_dropper: whose images.")
    drop: dict[str, str | int | float] = Field(
        default_factory=dict, description="mode_dropper: the level of a column that is left out, such as {sex: F}."
    )


class Sampling(Entry):
    """How images are drawn."""

    solver: Literal["dpmpp_2m", "unipc", "heun", "euler"] = Field("dpmpp_2m", description="Solver.")
    steps: int = Field(18, ge=1, description="Solver steps.")
    guidance_scale: float = Field(1.0, ge=0, description="1: none. Training data want diversity: raise with care.")
    guidance_interval: tuple[float, float] | None = Field(None, description="Lowest and highest sigma with guidance.")
    batch_size: int = Field(64, ge=1, description="Fixed internal batch: images do not depend on the number of jobs.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: mixed precision.")
    compile: bool | Literal["auto"] = Field("auto", description="Compile the network; auto: where it pays.")

    @model_validator(mode="after")
    def _interval_rises(self) -> "Sampling":
        if self.guidance_interval is not None and self.guidance_interval[0] > self.guidance_interval[1]:
            raise ValueError(f"guidance_interval: give [lowest, highest], not {list(self.guidance_interval)}")
        return self


class Filter(Entry):
    """Keep some images of another pool, by a score table."""

    scores: Literal["memorisation", "label_consistency", "mask_agreement"] = Field(description="Which score table.")
    column: str = Field(description="Its column.")
    keep: Literal["above", "below", "false"] = Field("above", description="Which side of the cut is kept.")
    quantile: Share | None = Field(None, description="Cut at this quantile of the pool.")
    threshold: float | None = Field(None, description="Cut at this value.")

    @model_validator(mode="after")
    def _one_cut(self) -> "Filter":
        cuts = [self.quantile, self.threshold].count(None)
        if cuts != (2 if self.keep == "false" else 1):
            raise ValueError("give exactly one of quantile and threshold; keep: false takes neither")
        return self


class MaskTransform(Entry):
    """Random geometric change of a condition mask; a result outside the limits is drawn anew."""

    rotation: float = Field(15.0, ge=0, le=180, description="Largest angle in degrees.")
    translation: Share = Field(0.1, description="Largest shift, as a share of the side.")
    scale: float = Field(0.2, ge=0, lt=1, description="Largest relative change of size.")
    elastic: float = Field(0.03, ge=0, le=0.5, description="Largest elastic displacement, as a share of the side.")
    mirror: bool = Field(False, description="Exchange left and right half of the time.")
    keep_inside: bool = Field(True, description="Refuse masks that leave the frame.")
    area_change: float = Field(0.5, gt=0, description="Refuse masks whose area changes by more than this share.")


class PoolMasks(Entry):
    """Which masks condition a pool's images."""

    source: Literal["training", "transformed", "generated"] = Field(
        "training", description="The training rows' own masks, these transformed, or drawn by a mask generator."
    )
    transform: MaskTransform | None = Field(None, description="transformed: how far.")
    from_: Name | None = Field(None, alias="from", description="generated: the generator with output: mask.")

    @model_validator(mode="after")
    def _fits_source(self) -> "PoolMasks":
        if self.transform is not None and self.source != "transformed":
            raise ValueError("transform goes with source: transformed")
        if (self.from_ is not None) != (self.source == "generated"):
            raise ValueError("from (a generator with output: mask) goes with source: generated, and only with it")
        return self


class Inpainting(Entry):
    """Draw only the region of a structure anew, inside the real parent image (RePaint, Lugmayr 2022)."""

    structure: Name = Field(description="The structure whose dilated mask is the region.")
    dilate: Share = Field(0.08, description="How far the region reaches beyond the mask, as a share of the side.")
    resamples: int = Field(5, ge=1, le=100, description="How often each jump is repeated, to blend the border.")
    jump_length: int = Field(3, ge=1, description="Solver steps that a jump goes back.")
    redraw_mask: bool = Field(
        False, description="Draw the mask in the region anew too; it may vanish there. Default: the row's own stays."
    )
