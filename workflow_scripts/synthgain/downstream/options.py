"""Options of downstream training that a study sets and a job reads."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from synthgain.entry import Entry, Name, Number, OmittedWhen, Options, Share
from synthgain.networks.options import NetworkChoice

Diverged = Literal["refuse", "chance", "next_seed"]
Amount = Annotated[Number, Field(ge=0, le=100)]  # far above what leaves anything of an image
Angle = Annotated[Number, Field(ge=0, le=180)]
Part = Annotated[Number, Field(ge=0, le=1)]


class Augmentation(Options):
    """How far a batch is varied; 0 turns a part off. Up and down are never exchanged."""

    rotation: Angle = Field(0.0, description="Largest angle in degrees.")
    translation: Part = Field(0.0, description="Largest shift, as a share of the side.")
    scale: Part = Field(0.0, description="Largest relative change of size.")
    brightness: Amount = Field(0.0, description="Largest change, as a share of the half range.")
    contrast: Amount = Field(0.0, description="Largest relative change.")
    gamma: Amount = Field(0.0, description="Largest log2 of the exponent, up or down.")
    noise: Amount = Field(0.0, description="Highest standard deviation, in units of the half range.")
    cutout: Part = Field(0.0, description="Side of the erased square, as a share of the side.")
    mixup: Amount = Field(0.0, description="Parameter of the Beta law of shares (Zhang et al. 2018).")
    flip: Part = Field(0.0, description="Probability of exchanging left and right; nothing where laterality counts.")


class StandardAugmentation(Augmentation):
    """The standard recipe."""

    rotation: Angle = Field(7, description="Largest angle in degrees.")
    translation: Part = Field(0.06, description="Largest shift, as a share of the side.")
    scale: Part = Field(0.08, description="Largest relative change of size.")
    brightness: Amount = Field(0.1, description="Largest change, as a share of the half range.")
    contrast: Amount = Field(0.1, description="Largest relative change.")
    flip: Part = Field(0.5, description="Probability of exchanging left and right; nothing where laterality counts.")


class StrongAugmentation(Augmentation):
    """The heavier recipe."""

    rotation: Angle = Field(15, description="Largest angle in degrees.")
    translation: Part = Field(0.12, description="Largest shift, as a share of the side.")
    scale: Part = Field(0.2, description="Largest relative change of size.")
    brightness: Amount = Field(0.25, description="Largest change, as a share of the half range.")
    contrast: Amount = Field(0.25, description="Largest relative change.")
    gamma: Amount = Field(0.4, description="Largest log2 of the exponent, up or down.")
    noise: Amount = Field(0.05, description="Highest standard deviation, in units of the half range.")
    cutout: Part = Field(0.25, description="Side of the erased square, as a share of the side.")
    flip: Part = Field(0.5, description="Probability of exchanging left and right; nothing where laterality counts.")


class Augmentations(Entry):
    """Classical augmentation of real and synthetic images, on the batch."""

    standard: StandardAugmentation = Field(StandardAugmentation(), description="Overrides of the standard recipe.")
    strong: StrongAugmentation = Field(StrongAugmentation(), description="Overrides of the heavier recipe.")
    laterality: bool = Field(True, description="True: left and right are never exchanged (chest films).")


class Mixing(Entry):
    """How real and synthetic images share a batch."""

    mode: Literal["concat", "fixed_share"] = Field("concat", description="Uniform over the union, or a fixed share.")
    share: Share | None = Field(None, description="fixed_share: share of synthetic images in each batch.")

    @model_validator(mode="after")
    def _share_given(self) -> "Mixing":
        if (self.mode == "fixed_share") != (self.share is not None):
            raise ValueError("share goes with mode: fixed_share, and only with it")
        return self


class Balance(Entry):
    """Balancing without synthesis: the control of a balanced pool."""

    mode: Literal["oversample", "reweight"] = Field(description="Repeat rows, or weigh the loss.")
    targets: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        min_length=1, description="Target share of each label."
    )


class Pretrain(Entry):
    """Pretrain on the synthetic images, then fine-tune on the real ones, within the same steps."""

    share: Share = Field(0.5, gt=0, lt=1, description="Share of the steps spent on pretraining.")


class ArmRecipe(Entry):
    """How the training set of an arm is made."""

    real: Name | None = Field(None, description="Data set of the real training images.")
    real_fraction: Share = Field(
        1.0, gt=0, description="Share of its training patients (validation is cut the same way)."
    )
    label_fraction: Annotated[Share, OmittedWhen(1.0)] = Field(
        1.0,
        gt=0,
        description="Share of these whose labels are known, the patients of a generator's label_fraction: the others, "
        "and their children in the pool, are left out.",
    )
    synthetic: Name | None = Field(None, description="Pool of synthetic images.")
    repeat: bool = Field(False, description="Repeat the real images instead: the A/A control.")
    steps_factor: float = Field(1.0, gt=0, description="2: twice the steps (real_long).")
    augmentation: Literal["standard", "strong", "none"] = Field("standard", description="Classical augmentation.")
    sibling_probability: Share | None = Field(
        None,
        gt=0,
        description="Each real training image gets its synthetic children with this probability; ratios then count "
        "copies of each chosen parent (100: one child), not images added.",
    )
    mixing: Mixing = Field(Mixing(), description="How real and synthetic images share a batch.")
    balance: Balance | None = Field(None, description="Oversample or re-weight instead of synthesising.")
    pretrain: Pretrain | None = Field(None, description="Pretrain on synthetic, fine-tune on real.")

    @property
    def fraction(self) -> float:
        """Share of the training patients whose images and labels the arm learns from."""
        return self.real_fraction * self.label_fraction

    @property
    def plain(self) -> bool:
        """True for real images alone, trained in the standard way."""
        special = self.synthetic or self.repeat or self.balance or self.pretrain
        return not special and self.steps_factor == 1.0 and self.augmentation == "standard"


class Arm(ArmRecipe):
    """An arm of the study."""

    ratios: list[int] = Field(default_factory=list, description="Percent of the arm's real training images.")
    baseline: Name | None = Field(None, description="Arm it is compared with; default: the plain real arm.")
    description: str = Field("", description="Free text for the report; changes nothing.")

    @model_validator(mode="after")
    def _makes_sense(self) -> "Arm":
        if self.real is None and self.synthetic is None:
            raise ValueError("give real, synthetic, or both")
        if self.repeat and (self.synthetic is not None or self.real is None):
            raise ValueError("repeat is for real images without synthetic ones")
        if (self.repeat or self.synthetic is not None) != bool(self.ratios):
            raise ValueError("ratios go with synthetic or repeat, and only with them")
        if any(ratio <= 0 for ratio in self.ratios) or len(set(self.ratios)) != len(self.ratios):
            raise ValueError(f"ratios must be different and above 0, got {self.ratios}")
        if self.pretrain is not None and (self.real is None or self.synthetic is None):
            raise ValueError("pretrain needs both real and synthetic")
        if self.sibling_probability is not None:
            if self.real is None or self.synthetic is None:
                raise ValueError("sibling_probability needs both real and synthetic")
            if any(ratio % 100 for ratio in self.ratios):
                raise ValueError(
                    f"with sibling_probability ratios are whole copies: multiples of 100, not {self.ratios}"
                )
        if self.mixing.mode == "fixed_share" and (self.real is None or not self.ratios or self.pretrain is not None):
            raise ValueError("mixing: fixed_share needs real images and synthetic or repeated ones, without pretrain")
        return self


class PlannedArm(ArmRecipe):
    """An arm as a job gets it: its recipe, and what the study says of it."""

    name: str
    validation: str | None = None  # data set of the validation images
    source: str | None = None  # data set whose training rows the pool copies
    filtered: bool = False  # the pool is made of another one and may hold fewer images
    match: Literal["steps", "epochs"] = "steps"


class PredictionModel(BaseModel):
    """What prediction needs of a model besides its weights. window, tolerance (px), keep_masks: of masks alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    task_module: str = "classification"
    targets: list[str] = []
    structures: list[str] = []
    label_smoothing: float = 0.0  # of classifiers, in training alone
    soft_targets: bool = False  # likewise
    network: NetworkChoice | None = None  # None: trivial floors, which need none
    precision: Literal["float32", "bfloat16"] = "float32"
    window: int | None = None
    tolerance: float = 0.0
    keep_masks: bool = False


class TrainingModel(PredictionModel):
    """A model as the job that trains it gets it: the keys of its config entry."""

    network: NetworkChoice
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    schedule: Literal["cosine", "constant", "step"]
    step_at: float = 1 / 3
    step_factor: float = 0.1
    validate_every: int
    selection: Literal["real_validation", "synthetic", "last"]
    selection_metric: str
    compile: bool = False
    pretrained: str | None = None
    pretrained_encoder: str | None = None
    diverged: Diverged = "next_seed"
    optimiser: Literal["adamw", "lion"] = "adamw"
    ema_decay: float | None = None
    patience: int | None = None
    augmentation: dict[str, bool | dict[str, Number]] = {}
