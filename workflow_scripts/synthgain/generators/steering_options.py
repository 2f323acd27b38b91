"""Options of steering: a generator is trained on its own samples, weighted by scores. Declarations alone."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from synthgain.entry import Entry, Name, OmittedWhen

# Source of scores: the network that gives them, where steered images must not be judged by it alone.
PROXY_NETWORKS = {"proxy": "small_cnn", "segmenter": "unet"}
SEGMENTER_CHANNELS = [8, 16, 32]
SEGMENTER_STEP = 2 ** (len(SEGMENTER_CHANNELS) - 1)  # px, of which an image's side must be a multiple


class Reward(Entry):
    """What steers a generator: scores of its own samples weigh them in its further training."""

    scores: Literal["proxy", "segmenter", "readers"] = Field(
        "proxy",
        description="Who scores: two classifiers, or of image and mask pairs two segmenters, each of one half of the "
        "training patients; or a panel.",
    )
    target: Name | None = Field(None, description="proxy: the column whose value a sample should show.")
    labels: Annotated[Name | None, OmittedWhen(None)] = Field(
        None, description="proxy: the column that says what real images show, where target is doubtful; null: target."
    )
    name: Name | None = Field(None, description="readers: the panel.")
    column: str | None = Field(None, description="readers: the question that steers, such as quality.")
    objective: Literal["match", "maximise"] = Field(
        "match", description="match: scores distributed as those of real images; maximise: as high as they can be."
    )
    rounds: int = Field(2, ge=1, le=20, description="How often samples are drawn and weighed, in equal parts of steps.")
    samples: Annotated[int, Field(ge=16)] = Field(2000, description="Own samples of each round.")
    anchor: float = Field(0.25, ge=0, le=10, description="Weight of the loss on real images, that on samples being 1.")
    stop: bool = Field(True, description="End where the samples' mean score has reached that of real images.")
    shuffled: bool = Field(False, description="Permute the scores among the samples: a negative control.")
    proxy_steps: int = Field(300, ge=10, description="proxy, segmenter: training steps of each network.")

    @model_validator(mode="after")
    def _one_source(self) -> "Reward":
        needed = {"proxy": {"target"}, "segmenter": set[str](), "readers": {"name", "column"}}
        own = needed[self.scores]
        other = set[str]().union(*needed.values()) - own
        for key in sorted(own):
            if getattr(self, key) is None:
                raise ValueError(f"{key}: missing; scores: {self.scores} needs it")
        for key in sorted(other):
            if getattr(self, key) is not None:
                raise ValueError(f"{key}: not for scores: {self.scores}; leave it out")
        if self.labels is not None and self.scores != "proxy":
            raise ValueError(f"labels: not for scores: {self.scores}; leave it out")
        if self.labels is not None and self.labels == self.target:
            raise ValueError("labels: is the target itself; leave it out")
        return self

    def real_slots(self, batch_size: int) -> int:
        """Return how many places of a batch hold real images."""
        return round(batch_size * self.anchor / (1 + self.anchor))


class SteeredRound(BaseModel):
    """Samples of a steered generator at a step; scores in 0 … 1, copies a share. None: could not be computed.

    samples: how many were scored; effective: how many of them count in the round's training, by their weights.
    """

    step: int
    score: float | None = None
    score_se: float | None = None
    samples: float | None = None
    effective: float | None = None
    real_score: float | None = None
    spread: float | None = None
    real_spread: float | None = None
    recall: float | None = None
    copies: float | None = None


class Steering(BaseModel):
    """What steering did to a generator. stopped_at: the step at which its samples scored as real images do."""

    rounds: list[SteeredRound] = []
    stopped_at: int | None = None
    alarms: list[str] = []
