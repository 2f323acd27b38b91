"""Config of downstream models."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from synthgain.downstream.kinds import TASK_KINDS, TaskKind
from synthgain.downstream.options import Augmentations, Diverged
from synthgain.entry import Entry, OmittedWhen, Share
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
    schedule: Literal["cosine", "constant", "step"] = Field("cosine", description="Learning rate after the warm-up.")
    step_at: Annotated[Share, OmittedWhen(1 / 3)] = Field(
        1 / 3, description="schedule: step. Share of the steps after which the rate falls, once."
    )
    step_factor: Annotated[float, OmittedWhen(0.1)] = Field(
        0.1, gt=0, le=1, description="schedule: step. What the rate is multiplied by there."
    )
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
    pretrained_encoder: Annotated[str | None, OmittedWhen(None)] = Field(
        None, description="The same of the encoder alone of an smp_ segmenter, such as ImageNet's."
    )
    pretrained_sha256: Annotated[str | None, OmittedWhen(None)] = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of that file; another file is refused while planning."
    )
    compile: bool = Field(False, description="Compile the network.")
    diverged: Annotated[Diverged, OmittedWhen("next_seed")] = Field(
        "next_seed",
        description="A training whose loss is not finite: refuse stops the study; chance counts it as a model that "
        "tells nothing; next_seed trains it once more with the next seed, and counts a second failure at chance.",
    )
    optimiser: Annotated[Literal["adamw", "lion"], OmittedWhen("adamw")] = Field(
        "adamw", description="lion (Chen et al. 2023) wants a tenth of AdamW's learning rate, ten times its decay."
    )
    label_smoothing: Annotated[float, OmittedWhen(0.0)] = Field(
        0.0, ge=0, lt=1, description="Classification: this much of a label's certainty is spread over its classes."
    )
    soft_targets: Annotated[bool, OmittedWhen(False)] = Field(
        False,
        description="Classification: the loss takes the share of readers, in columns `<target>_votes`, where it is "
        "known; metrics, balance and validation take the labels.",
    )
    ema_decay: Annotated[float | None, OmittedWhen(None)] = Field(
        None, gt=0, lt=1, description="Validate, choose and keep an average of the weights of this decay."
    )
    patience: Annotated[int | None, OmittedWhen(None)] = Field(
        None, ge=1, description="Stop after so many validations without a better one; arms then differ in steps."
    )
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
    def weights_file(self) -> str | None:
        """The file of weights that it starts from, of the whole network or of its encoder."""
        return self.pretrained or self.pretrained_encoder

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
        if self.label_smoothing and segments:
            raise ValueError("label_smoothing is for task: classification")
        if self.soft_targets and segments:
            raise ValueError("soft_targets is for task: classification")
        if self.patience is not None and self.selection == "last":
            raise ValueError("patience: the last checkpoint is taken, so none is ever better; leave one of them out")
        stepped = [n for n in ("step_at", "step_factor") if getattr(self, n) != _default(type(self), n)]
        if stepped and self.schedule != "step":
            raise ValueError("step_at and step_factor go with schedule: step, and only with it")
        if self.pretrained_encoder is not None and not self.chosen.has_encoder:
            raise ValueError(
                f"pretrained_encoder: network {self.network_name} has no encoder by itself; take smp_unet …"
            )
        if self.pretrained_encoder is not None and self.pretrained is not None:
            raise ValueError("give pretrained (the whole network) or pretrained_encoder, not both")
        if self.pretrained_sha256 is not None and self.weights_file is None:
            raise ValueError("pretrained_sha256: of which file? give pretrained or pretrained_encoder")
        return self


def _default(model: type[Entry], field: str) -> object:
    return model.model_fields[field].default
