"""Config of downstream models and arms."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from synthgain.downstream.kinds import TASK_KINDS, TaskKind
from synthgain.downstream.options import Augmentations
from synthgain.entry import Entry, Name, Share
from synthgain.networks.options import AnyDownstream, Network, network_of

if TYPE_CHECKING:
    TaskName = str
else:
    TaskName = Literal[tuple(TASK_KINDS)]


class Model(Entry):
    """A downstream model and how it is trained, the same in every arm."""

    task: TaskName = Field("classification", description="What is predicted.")
    targets: list[str] = Field(
        default_factory=list, description="Classification: table columns, one, several (multi-label), or a category."
    )
    structures: list[str] = Field(default_factory=list, description="Segmentation: names of mask planes.")
    network: str | AnyDownstream | None = Field(
        None, description="Name, or {name: …, options}; default small_cnn, for segmentation unet."
    )
    steps: int = Field(ge=1, description="Optimiser steps of every arm (but real_long).")
    batch_size: int = Field(32, ge=1, description="Images a step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak AdamW learning rate.")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay.")
    warmup_steps: int = Field(20, ge=0, description="Steps of linear warm-up.")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning rate after the warm-up.")
    validate_every: int = Field(50, ge=1, description="Steps between validations.")
    selection: Literal["real_validation", "synthetic", "last"] = Field(
        "real_validation", description="Which data choose the checkpoint."
    )
    selection_metric: Literal["loss", "auroc", "dice"] = Field("loss", description="What the checkpoint is chosen by.")
    tolerance: float = Field(2.0, ge=0, description="Segmentation: px within which NSD takes two borders for one.")
    window: int | None = Field(
        None, ge=8, description="Segmentation: px seen at a time (random crops, sliding windows); null: whole images."
    )
    keep_masks: bool = Field(False, description="Segmentation: keep predicted masks as run lengths.")
    augmentation: Augmentations = Field(Augmentations(), description="Classical augmentation.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: mixed precision.")
    pretrained: str | None = Field(None, description="Weights file (safetensors or .pth), relative to the data root.")
    compile: bool = Field(False, description="Compile the network.")
    description: str = Field("", description="Free text for the report; changes nothing.")

    @field_validator("network", mode="wrap")
    @classmethod
    def _of_the_task(cls, value: object, handler: object, info: ValidationInfo) -> Network | None:
        task = info.data.get("task", "classification")
        return None if value is None else network_of(value, TASK_KINDS[task].networks, task)

    @property
    def kind(self) -> TaskKind:
        """What is known of its task."""
        return TASK_KINDS[self.task]

    @property
    def chosen(self) -> Network:
        """The network with its options."""
        return self.network if isinstance(self.network, Network) else network_of({}, self.kind.networks, self.task)

    @property
    def network_name(self) -> str:
        """Name of the network."""
        return self.chosen.name

    @property
    def labels(self) -> list[str]:
        """Targets or structures, whichever the task has."""
        return self.targets or self.structures

    @model_validator(mode="after")
    def _fits_the_task(self) -> "Model":
        segments, wanted = self.kind.masks, self.kind.learns
        other = "targets" if segments else "structures"
        if not getattr(self, wanted) or getattr(self, other):
            raise ValueError(f"task: {self.task} needs {wanted}, and no {other}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"{wanted} must be different, got {self.labels}")
        if self.selection_metric not in ("loss", self.kind.metric):
            raise ValueError(f"selection_metric: {self.selection_metric} is not for {self.task}")
        changed = [n for n in ("tolerance", "window", "keep_masks") if getattr(self, n) != _default(type(self), n)]
        if changed and not segments:
            raise ValueError(f"{changed[0]} is for task: segmentation")
        return self


def _default(model: type[Entry], field: str) -> object:
    return model.model_fields[field].default


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
    targets: dict[str, float] = Field(min_length=1, description="Target share of each label.")


class Pretrain(Entry):
    """Pretrain on the synthetic images, then fine-tune on the real ones, within the same steps."""

    share: Share = Field(0.5, gt=0, lt=1, description="Share of the steps spent on pretraining.")


class Arm(Entry):
    """A recipe for a training set."""

    real: Name | None = Field(None, description="Data set of the real training images.")
    real_fraction: Share = Field(1.0, gt=0, description="Share of its training patients (validation cut alike).")
    synthetic: Name | None = Field(None, description="Pool of synthetic images.")
    ratios: list[int] = Field(default_factory=list, description="Percent of the arm's real training images.")
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

    @property
    def plain(self) -> bool:
        """True for real images alone, trained in the standard way: what others are compared with."""
        special = self.synthetic or self.repeat or self.balance or self.pretrain
        return not special and self.steps_factor == 1.0 and self.augmentation == "standard"
