"""Options of GANs that a study sets and a job reads. Declarations alone."""

from pydantic import Field, model_validator

from synthgain.entry import Share
from synthgain.generators.options import GeneratorTraining


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
