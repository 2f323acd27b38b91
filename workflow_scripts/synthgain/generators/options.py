"""Options of generator training that a study sets and a job reads: what every family has. Declarations alone."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from synthgain.data.options import Prompt
from synthgain.entry import Entry, Name, OmittedWhen, Share
from synthgain.networks.options import NetworkChoice
from synthgain.networks.text_options import TextEncoder


class TrainOn(Entry):
    """Which training patients a generator sees."""

    datasets: list[Name] = Field(
        min_length=1, description="Data sets; their training part only. With cluster or per that of the clusters."
    )
    real_fraction: Share = Field(1.0, gt=0, description="Share of the training patients.")
    label_fraction: Share = Field(1.0, description="Share of them with known conditions; the rest train without.")
    cluster: Annotated[tuple[Name, Annotated[int, Field(ge=0)]] | None, OmittedWhen(None)] = Field(
        None, description="Train on one of `clusters` alone: [name, number]; 0 is the largest."
    )
    per: Annotated[Name | None, OmittedWhen(None)] = Field(
        None, description="A training on each cluster of these `clusters`; pools draw a row from its own cluster's."
    )

    @model_validator(mode="after")
    def _one_way(self) -> "TrainOn":
        if self.cluster is not None and self.per is not None:
            raise ValueError("give cluster (one of them) or per (a training on each), not both")
        if (self.cluster or self.per) and self.real_fraction < 1:
            raise ValueError(
                "real_fraction: clusters are made of all training images; leave it out, or train without clusters"
            )
        return self

    @property
    def labelled(self) -> float:
        """Share of the training patients whose conditions are seen."""
        return self.real_fraction * self.label_fraction


class LoopTraining(Entry):
    """How the training loop runs, whatever it trains."""

    steps: int = Field(ge=1, description="Optimiser steps.")
    batch_size: int = Field(64, ge=1, description="Images a step, over all processes.")
    learning_rate: float = Field(5e-4, gt=0, description="Peak AdamW learning rate.")
    warmup_steps: int = Field(100, ge=0, description="Steps of linear warm-up.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema_decay: float = Field(0.999, gt=0, lt=1, description="Largest decay of the weight average.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: mixed precision.")
    save_every: Annotated[int | None, OmittedWhen(None)] = Field(
        None, ge=1, description="Steps after which the resumable state is saved too; reruns nothing."
    )
    save_every_seconds: float = Field(60.0, gt=0, description="How often the resumable state is saved; reruns nothing.")
    log_every: int = Field(10, ge=1, description="Steps between rows of training.csv; reruns nothing.")
    compile: bool = Field(False, description="Compile the network (pays off on GPUs and long runs).")


class GeneratorTraining(LoopTraining):
    """How a generator is trained; the defaults suit small sets (Karras et al. 2022; Ho and Salimans 2022)."""

    ema_decays: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], OmittedWhen([])] = Field(
        default_factory=list,
        description="Further decays of the weight average, kept beside that of ema_decay for pools to choose from.",
    )
    condition_dropout: Share = Field(0.1, description="Share of conditions replaced by the learned null.")
    snapshots: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, description="Steps kept; default: a quarter, a half and all."
    )

    @model_validator(mode="after")
    def _different_averages(self) -> "GeneratorTraining":
        if len({self.ema_decay, *self.ema_decays}) <= len(self.ema_decays):
            raise ValueError(f"ema_decays: {self.ema_decays} beside ema_decay {self.ema_decay}: give each of them once")
        return self

    @property
    def kept_decays(self) -> list[float]:
        """The decays of all weight averages that are kept, that of `ema_decay` first."""
        return [self.ema_decay, *self.ema_decays]


class DataSlice(BaseModel):
    """What a training's slice says of the images and masks that it sees, whatever it trains."""

    output: str = "image"
    structures: list[str] = []
    train_on: TrainOn
    seed: int


class TrainingSlice(DataSlice):
    """What a generator's slice says besides how it is trained; a family may say more."""

    generator: str
    index: int
    network: NetworkChoice
    condition_on: list[str]
    init_from: str | None = None
    prompt: Prompt | None = None
    text_encoder: TextEncoder | None = None
