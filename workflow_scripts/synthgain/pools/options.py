"""Options of pools that a study sets and a job reads. Declarations alone."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from synthgain.datasets.entries.table import Imported
from synthgain.entry import Entry, Name, OmittedWhen, Options, Share

Base = Literal["oracle", "copier", "jittered_copier", "noise"]
Derived = Literal["label_shuffled", "wrong_prevalence", "mode_dropper", "part_copier"]
Kind = Literal[
    "oracle",
    "copier",
    "jittered_copier",
    "reconstructed",
    "noise",
    "label_shuffled",
    "wrong_prevalence",
    "mode_dropper",
    "part_copier",
]
# Who makes score tables (`scores.parquet`): image_id, named columns; the manifest next to it names the `source`.
ScoreSource = Literal["memorisation", "label_consistency", "mask_agreement", "readers"]
_ROUNDING = 1e-6
NAMED_SCORES = ("readers",)  # of which a study may have several


class KnownOptions(Options):
    """Options of a pool of known truth."""

    base: Base = Field(
        "oracle", description="label_shuffled, wrong_prevalence, mode_dropper, part_copier: whose images."
    )
    drop: dict[str, str | int | float] = Field(
        default_factory=dict, description="mode_dropper: the level of a column that is left out, such as {sex: F}."
    )
    copies: Annotated[float, Field(ge=0, le=1), OmittedWhen(0.0)] = Field(
        0.0, description="part_copier: share of images that are exact copies of training images."
    )


class Conditions(Entry):
    """Which rows a replica copies, as a job gets it. balance: target shares of mode `balanced`."""

    mode: Literal["rows", "balanced"] = "rows"
    balance: dict[str, float | dict[str, float]] | None = None
    shuffled: bool = False


class Autoguidance(Entry):
    """Guidance by an earlier snapshot of the same generator (Karras et al. 2024)."""

    snapshot: int = Field(ge=1, description="The earlier, weaker snapshot that samples are led away from.")
    scale: float = Field(2.0, ge=0, description="1: none, the images of the pool's own snapshot alone.")
    ema_decay: float | None = Field(
        None, description="Which of the kept weight averages it has; default: that of training.ema_decay."
    )


class Sampling(Entry):
    """How images are drawn."""

    solver: Literal["dpmpp_2m", "unipc", "heun", "euler"] = Field("dpmpp_2m", description="Solver.")
    steps: int = Field(18, ge=1, description="Solver steps.")
    guidance_scale: float = Field(1.0, ge=0, description="1: none. Training data want diversity: raise with care.")
    guidance_rescale: Annotated[float, OmittedWhen(0.0)] = Field(
        0.0, ge=0, le=1, description="Share of a guided image that gets the contrast of the unguided one; 0: none."
    )
    guidance_interval: tuple[float, float] | None = Field(None, description="Lowest and highest sigma with guidance.")
    batch_size: int = Field(64, ge=1, description="Fixed internal batch: images do not depend on the number of jobs.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: mixed precision.")
    negative_prompt: Annotated[str | None, OmittedWhen(None)] = Field(
        None, description="Text that guidance leads away from, in place of the null prompt; needs guidance."
    )
    autoguidance: Annotated[Autoguidance | None, OmittedWhen(None)] = Field(
        None, description="Guide by an earlier snapshot, under the same conditions, in place of guidance_scale."
    )
    compile: bool | Literal["auto"] = Field("auto", description="Compile the network; auto: where it pays.")

    @model_validator(mode="after")
    def _interval_rises(self) -> "Sampling":
        if self.guidance_interval is not None and self.guidance_interval[0] > self.guidance_interval[1]:
            raise ValueError(f"guidance_interval: give [lowest, highest], not {list(self.guidance_interval)}")
        if self.negative_prompt is not None and not self.negative_prompt.strip():
            raise ValueError("negative_prompt: is empty; leave it out, and guidance leads away from the null prompt")
        if self.negative_prompt is not None and self.guidance_scale == 1.0:
            raise ValueError("negative_prompt: does nothing without guidance; give guidance_scale above 1")
        if self.guidance_rescale and self.guidance_scale == 1.0:
            raise ValueError("guidance_rescale: does nothing without guidance; give guidance_scale above 1")
        if self.autoguidance is not None and self.guidance_scale != 1.0:
            raise ValueError("give guidance_scale (away from the null condition) or autoguidance, not both")
        return self

    @property
    def doubled(self) -> bool:
        """True where every image goes through a second network, or through the network twice."""
        return self.guidance_scale != 1.0 or (self.autoguidance is not None and self.autoguidance.scale != 1.0)


class Filter(Entry):
    """Keep some images of another pool, by a score table."""

    scores: ScoreSource = Field(description="Which score table.")
    name: Annotated[Name | None, OmittedWhen(None)] = Field(None, description="readers: the panel that rated the pool.")
    column: str = Field(description="Its column.")
    keep: Literal["above", "below", "false"] = Field("above", description="Which side of the cut is kept.")
    quantile: Share | None = Field(None, description="Cut at this quantile of the pool.")
    threshold: float | None = Field(None, description="Cut at this value.")

    @model_validator(mode="after")
    def _one_cut(self) -> "Filter":
        cuts = [self.quantile, self.threshold].count(None)
        if cuts != (2 if self.keep == "false" else 1):
            raise ValueError("give exactly one of quantile and threshold; keep: false takes neither")
        if (self.name is None) == (self.scores in NAMED_SCORES):
            what = "name the panel whose scores are meant" if self.name is None else "goes with scores: readers"
            raise ValueError(f"name: {what}")
        return self


class MaskTransform(Entry):
    """Random geometric change of a condition mask; a result outside the limits is drawn again."""

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


class PlannedMasks(Entry):
    """Which masks condition a pool's images, as a job gets it. generator: name and index of the one that draws them."""

    source: Literal["training", "transformed", "generated"] = "training"
    transform: MaskTransform | None = None
    generator: tuple[str, int] | None = None


class Inpainting(Entry):
    """Redraw only the region of a structure, inside the real parent image (RePaint, Lugmayr 2022)."""

    structure: Name = Field(description="The structure whose dilated mask is the region.")
    dilate: Share = Field(0.08, description="How far the region reaches beyond the mask, as a share of the side.")
    resamples: int = Field(5, ge=1, le=100, description="How often each jump is repeated, to blend the border.")
    jump_length: int = Field(3, ge=1, description="Solver steps that a jump goes back.")
    redraw_mask: bool = Field(
        False, description="Redraw the mask in the region too; it may vanish there. Default: the row's own stays."
    )


class Styling(Entry):
    """Bring drawn images nearer to the look of their parent; masks stay."""

    strength: float = Field(0.4, gt=0, le=1, description="Share of the noise levels gone back and denoised again.")
    weight: float = Field(0.05, ge=0, le=1, description="Step towards the parent's features per level, in [-1, 1].")
    colour: bool = Field(False, description="Give each channel the mean and SD of the parent's afterwards.")
    space: Literal["efficientnet_lite0"] = Field(
        "efficientnet_lite0", description="Frozen features that guide; they do not judge this pool's fidelity."
    )


class PlannedStyling(Styling):
    """Styling as a job gets it. size: px to which images are enlarged for the extractor."""

    size: int


@dataclass(frozen=True)
class Source:
    """Marks a key of Pool that says where its images come from.

    copies_rows: they are drawn for the rows of a data set, so that the pool needs `rows_of`.
    """

    copies_rows: bool = True


class Pool(Entry):
    """Synthetic images. Exactly one of from, known, imported, of says where they come from."""

    from_: Annotated[Name | None, Source()] = Field(None, alias="from", description="Generator that draws them.")
    snapshot: int | None = Field(None, description="Generator snapshot; default: the last.")
    ema_decay: Annotated[float | None, OmittedWhen(None)] = Field(
        None, description="Which of the generator's kept weight averages draws; default: that of training.ema_decay."
    )
    known: Annotated[Kind | None, Source()] = Field(None, description="Pool of known truth.")
    autoencoder: Annotated[Name | None, OmittedWhen(None)] = Field(
        None, description="known: reconstructed: through which of `autoencoders` the rows' own images go."
    )
    known_options: KnownOptions = Field(KnownOptions(), description="Options of a known pool.")
    imported: Annotated[Imported | None, Source(copies_rows=False)] = Field(
        None, description="Your own folder of synthetic images, as a table."
    )
    of: Annotated[Name | None, Source(copies_rows=False)] = Field(
        None, description="Another pool, filtered or thinned."
    )
    filter: Filter | None = Field(None, description="Which images of `of` are kept.")
    thin_to: Name | None = Field(None, description="Control of a filtered pool: as many images of `of`, unselected.")
    rows_of: Name | None = Field(None, description="Data set whose training rows give the conditions.")
    replicas: int = Field(1, ge=1, le=100, description="Copies of the training rows: 10 allow ratios up to 1000.")
    shards: int = Field(1, ge=1, le=10000, description="Jobs a replica is cut into.")
    balance: dict[str, Share | dict[str, Share]] | None = Field(
        None, description="Target shares, such as {opacity: 0.5}: rows are redrawn with raked weights."
    )
    shuffled: bool = Field(False, description="Permute the synthetic labels: a negative control.")
    masks: PoolMasks | None = Field(None, description="Condition masks; default: the training rows' own.")
    inpainting: Inpainting | None = Field(None, description="Redraw the region of a structure in the real image.")
    styling: Annotated[Styling | None, OmittedWhen(None)] = Field(
        None, description="Bring images drawn with their masks, or inpainted, nearer to the look of their parent."
    )
    misaligned: bool = Field(False, description="Permute the masks among the images: a negative control.")
    prompt: Annotated[Name | None, OmittedWhen(None)] = Field(
        None, description="Prompt (of `prompts`) that rows become; default: that of the generator."
    )
    sampling: Sampling = Field(Sampling(), description="Solver, steps, guidance.")
    description: str = Field("", description="Free text for the report; changes nothing.")

    @model_validator(mode="after")
    def _one_source(self) -> "Pool":
        sources = {
            name: (field.alias or name, mark.copies_rows)
            for name, field in type(self).model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Source)
        }
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(key for key, _ in sources.values())}")
        copies_rows = sources[given[0]][1]
        if (self.autoencoder is None) == (self.known == "reconstructed"):
            raise ValueError("autoencoder: goes with known: reconstructed, which needs it, and only with that")
        if self.known is None and self.known_options.given():
            raise ValueError("known_options: goes with known, and only with it")
        if self.of is not None and (self.filter is None) == (self.thin_to is None):
            raise ValueError("a pool `of` another needs either filter or thin_to")
        if copies_rows and self.rows_of is None:
            raise ValueError("rows_of is missing: the data set whose training rows give the conditions")
        if self.from_ is None and self.snapshot is not None:
            raise ValueError("snapshot goes with from, and only with it")
        if self.from_ is None and (self.ema_decay is not None or self.sampling.autoguidance is not None):
            raise ValueError("ema_decay and sampling.autoguidance go with from, and only with it")
        if (self.shuffled or self.misaligned or self.balance is not None) and not copies_rows:
            able = " or ".join(key for key, copies in sources.values() if copies)
            raise ValueError(
                f"shuffled, misaligned and balance go with {able}: other pools keep the rows that they have"
            )
        for name, wanted in (self.balance or {}).items():
            if isinstance(wanted, dict) and not 0 < sum(wanted.values()) <= 1 + _ROUNDING:
                total = sum(wanted.values())
                raise ValueError(f"balance: the shares of {name} add up to {total:g}; give at most 1, and more than 0")
        if self.prompt is not None and self.from_ is None:
            raise ValueError("prompt: goes with from, a generator that is told of a text")
        if self.styling is not None and self.from_ is None:
            raise ValueError("styling: goes with from: other pools have no parent to be styled after")
        if (self.masks or self.inpainting) and self.from_ is None:
            raise ValueError("masks and inpainting go with from")
        if self.masks is not None and self.inpainting is not None:
            raise ValueError("give masks (a mask-conditioned generator) or inpainting (an image+mask one), not both")
        return self
