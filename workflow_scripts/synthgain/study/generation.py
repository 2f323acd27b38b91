"""Config of generators and pools."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from synthgain.entry import Entry, Name
from synthgain.networks.generator_options import GENERATORS, Gan, UNet, UNetCondition
from synthgain.networks.options import network_of
from synthgain.pools.options import Kind, KnownOptions, known_problem
from synthgain.study.data import Imported, Share

MASK = "mask"  # among the conditions: the image's mask


class TrainOn(Entry):
    """Which training patients a generator sees."""

    datasets: list[Name] = Field(min_length=1, description="Data sets; their training part only.")
    real_fraction: Share = Field(1.0, gt=0, description="Share of the training patients.")
    label_fraction: Share = Field(1.0, description="Share of them with known conditions; the rest train without.")


class Formulation(Entry):
    """Noise parametrisation of a diffusion model."""

    kind: Literal["edm", "v_prediction"] = Field("edm", description="EDM (Karras 2022), or discrete v-prediction.")
    p_mean: float = Field(-1.2, description="EDM: mean of ln sigma in training.")
    p_std: float = Field(1.2, gt=0, description="EDM: standard deviation of ln sigma.")
    train_steps: int = Field(1000, ge=10, description="v-prediction: number of discrete steps.")
    schedule: Literal["cosine", "linear"] = Field("cosine", description="v-prediction: noise schedule.")
    zero_terminal_snr: bool = Field(True, description="v-prediction: end on pure noise (Lin 2023).")
    min_snr_gamma: float | None = Field(None, description="v-prediction: Min-SNR weight (Hang 2023).")

    @model_validator(mode="after")
    def _fits_the_kind(self) -> "Formulation":
        own = {"p_mean", "p_std"} if self.kind == "edm" else set(type(self).model_fields) - {"p_mean", "p_std"}
        for name, field in type(self).model_fields.items():
            if name not in own | {"kind"} and getattr(self, name) != field.default:
                other = "v_prediction" if self.kind == "edm" else "edm"
                raise ValueError(f"{name} is for kind: {other}, not for {self.kind}")
        if self.zero_terminal_snr and self.min_snr_gamma is not None:
            raise ValueError(
                f"min_snr_gamma {self.min_snr_gamma:g}: with zero_terminal_snr the last step, where every sample "
                "starts, has weight 0; set min_snr_gamma: null or zero_terminal_snr: false"
            )
        return self


class GeneratorTraining(Entry):
    """How a generator is trained."""

    steps: int = Field(ge=1, description="Optimiser steps.")
    batch_size: int = Field(64, ge=1, description="Images a step, over all processes.")
    learning_rate: float = Field(5e-4, gt=0, description="Peak AdamW learning rate.")
    warmup_steps: int = Field(100, ge=0, description="Steps of linear warm-up.")
    condition_dropout: Share = Field(0.1, description="Share of conditions replaced by the learned null.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema_decay: float = Field(0.999, gt=0, lt=1, description="Largest decay of the weight average.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: mixed precision.")
    snapshots: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, description="Steps kept; default: a quarter, a half and all."
    )
    save_every_seconds: float = Field(60.0, gt=0, description="How often the resumable state is saved; reruns nothing.")
    log_every: int = Field(10, ge=1, description="Steps between rows of training.csv; reruns nothing.")
    compile: bool = Field(False, description="Compile the network (pays off on GPUs and long runs).")


# Change nothing that a training makes but the rows of its log: no part of a job's slice (`synthgain.runtime.settings`).
TRAINING_SETTINGS = {"save_every_seconds", "log_every"}


class GeneratorBase(Entry):
    """What every generator has."""

    train_on: TrainOn = Field(description="Training patients.")
    condition_on: list[str] = Field(
        default_factory=list, description="Table columns: labels and covariates; the word `mask`: the image's own mask."
    )
    structures: list[Name] = Field(default_factory=list, description="Masks used; images without one are left out.")
    description: str = Field("", description="Free text for the report; changes nothing.")

    @property
    def columns(self) -> list[str]:
        """Table columns among the conditions."""
        return [name for name in self.condition_on if name != MASK]

    @property
    def mask_conditioned(self) -> bool:
        """True if the generator draws an image for a given mask."""
        return MASK in self.condition_on


class DiffusionGenerator(GeneratorBase):
    """A pixel-space diffusion model."""

    family: Literal["diffusion"]
    output: Literal["image", "image+mask", "mask"] = Field("image", description="What is drawn, jointly.")
    mask_by: Literal["concatenation", "controlnet"] = Field(
        "concatenation",
        description="How a mask condition enters: as input channels, or by a ControlNet beside frozen `init_from`.",
    )
    network: UNet | UNetCondition = Field(UNet(), description="`name` and the network's options.")
    formulation: Formulation = Field(Formulation(), description="Noise parametrisation.")
    training: GeneratorTraining = Field(description="Training.")
    init_from: Name | None = Field(None, description="Start from this generator's weights (pretraining).")

    @field_validator("network", mode="wrap")
    @classmethod
    def _of_the_family(cls, value: Any, handler: Any) -> Any:
        return network_of(value, GENERATORS["diffusion"], "diffusion")

    @model_validator(mode="after")
    def _masks_make_sense(self) -> "DiffusionGenerator":
        if (self.output != "image" or self.mask_conditioned) and not self.structures:
            raise ValueError("structures: name the masks that are drawn or conditioned on")
        if self.structures and self.output == "image" and not self.mask_conditioned:
            raise ValueError("structures go with output: image+mask or mask, or with `mask` in condition_on")
        if self.output != "image" and self.mask_conditioned:
            raise ValueError("condition_on: a generator that draws masks cannot be conditioned on them")
        if self.mask_conditioned and self.mask_by == "controlnet" and self.init_from is None:
            raise ValueError("mask_by: controlnet needs init_from: the generator whose frozen weights it steers")
        return self


class GanTraining(GeneratorTraining):
    """How a GAN is trained (relativistic loss with R1 and R2, Huang 2024)."""

    learning_rate: float = Field(2e-4, gt=0, description="Peak Adam learning rate.")
    gradient_clip: float = Field(10.0, gt=0, description="Largest gradient norm.")
    r1_gamma: float | None = Field(None, gt=0, description="First weight of R1 and R2; default: by the image's size.")
    beta2: float = Field(0.99, gt=0, lt=1, description="Adam's second decay, at the end of its schedule.")
    augmentation_probability: Share = Field(0.6, description="Of each differentiable augmentation for each image.")

    @model_validator(mode="after")
    def _cannot_be_compiled(self) -> "GanTraining":
        if self.compile:
            raise ValueError("compile: a gan's gradient penalties cannot be compiled; set it to false")
        return self


class GanGenerator(GeneratorBase):
    """A conditional GAN, the baseline of diffusion."""

    family: Literal["gan"]
    output: Literal["image", "image+mask"] = Field("image", description="What is drawn, jointly.")
    network: Gan = Field(Gan(), description="`name` and the network's options.")
    training: GanTraining = Field(description="Training.")
    init_from: None = Field(None, description="Not for GANs.")

    @field_validator("network", mode="wrap")
    @classmethod
    def _of_the_family(cls, value: Any, handler: Any) -> Any:
        return network_of(value, GENERATORS["gan"], "gan")

    @model_validator(mode="after")
    def _masks_make_sense(self) -> "GanGenerator":
        if self.mask_conditioned:
            raise ValueError("condition_on: a gan is not conditioned on masks; use output: image+mask")
        if (self.output == "image") == bool(self.structures):
            raise ValueError("structures go with output: image+mask, and only with it")
        return self


Generator = Annotated[DiffusionGenerator | GanGenerator, Field(discriminator="family")]


class Sampling(Entry):
    """How images are drawn."""

    solver: Literal["dpmpp_2m", "unipc", "heun", "euler"] = Field("dpmpp_2m", description="Solver.")
    steps: int = Field(18, ge=1, description="Solver steps.")
    guidance_scale: float = Field(1.0, ge=0, description="1: none. Training data want diversity: raise with care.")
    guidance_interval: tuple[float, float] | None = Field(None, description="Lowest and highest sigma with guidance.")
    batch_size: int = Field(64, ge=1, description="Fixed internal batch: images do not depend on the number of jobs.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: mixed precision.")
    compile: bool | Literal["auto"] = Field("auto", description="Compile the network; auto: where it pays.")


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


class Pool(Entry):
    """Synthetic images. Exactly one of from, known, imported, of says where they come from."""

    from_: Name | None = Field(None, alias="from", description="Generator that draws them.")
    snapshot: int | None = Field(None, description="Generator snapshot; default: the last.")
    known: Kind | None = Field(None, description="Pool of known truth.")
    known_options: KnownOptions = Field(KnownOptions(), description="Options of a known pool.")
    imported: Imported | None = Field(None, description="Your own folder of synthetic images, as a table.")
    of: Name | None = Field(None, description="Another pool, filtered or thinned.")
    filter: Filter | None = Field(None, description="Which images of `of` are kept.")
    thin_to: Name | None = Field(None, description="Control of a filtered pool: as many images of `of`, unselected.")
    rows_of: Name | None = Field(None, description="Data set whose training rows give the conditions.")
    replicas: int = Field(1, ge=1, le=100, description="Copies of the training rows: 10 allow ratios up to 1000.")
    shards: int = Field(1, ge=1, le=10000, description="Jobs a replica is cut into.")
    balance: dict[str, float | dict[str, float]] | None = Field(
        None, description="Target shares, such as {opacity: 0.5}: rows are redrawn with raked weights."
    )
    shuffled: bool = Field(False, description="Permute the synthetic labels: a negative control.")
    masks: PoolMasks | None = Field(None, description="Condition masks; default: the training rows' own.")
    inpainting: Inpainting | None = Field(None, description="Draw the region of a structure in the real image anew.")
    misaligned: bool = Field(False, description="Permute the masks among the images: a negative control.")
    sampling: Sampling = Field(Sampling(), description="Solver, steps, guidance.")
    description: str = Field("", description="Free text for the report; changes nothing.")

    @model_validator(mode="after")
    def _one_source(self) -> "Pool":
        given = [name for name in ("from_", "known", "imported", "of") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of from, known, imported, of")
        if self.known is None and self.known_options.given():
            raise ValueError("known_options: goes with known, and only with it")
        problem = self.known and known_problem(self.known, self.known_options, bool(self.balance))
        if problem:
            raise ValueError(problem)
        if self.of is not None and (self.filter is None) == (self.thin_to is None):
            raise ValueError("a pool `of` another needs either filter or thin_to")
        if self.of is None and self.rows_of is None and self.imported is None:
            raise ValueError("rows_of is missing: the data set whose training rows give the conditions")
        if self.from_ is None and self.snapshot is not None:
            raise ValueError("snapshot goes with from, and only with it")
        if (self.shuffled or self.misaligned or self.balance is not None) and (self.from_ or self.known) is None:
            raise ValueError(
                "shuffled, misaligned and balance go with from or known: other pools keep the rows that they have"
            )
        if (self.masks or self.inpainting) and self.from_ is None:
            raise ValueError("masks and inpainting go with from")
        if self.masks is not None and self.inpainting is not None:
            raise ValueError("give masks (a mask-conditioned generator) or inpainting (an image+mask one), not both")
        return self
