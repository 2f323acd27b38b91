"""The GAN family: its config entry, and what others must know of it."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from synthgain.generators.family import Family, GeneratorBase
from synthgain.generators.gan.options import GanTraining
from synthgain.networks.generator_options import Gan
from synthgain.networks.options import Network, by_name, network_of

NETWORKS = by_name(Gan)


class GanGenerator(GeneratorBase):
    """A conditional GAN, the baseline of diffusion."""

    family: Literal["gan"]
    output: Literal["image", "image+mask"] = Field("image", description="What is drawn, jointly.")
    network: Gan = Field(Gan(), description="`name` and the network's options.")
    training: GanTraining = Field(description="Training.")
    init_from: None = Field(None, description="Not for GANs.")

    @field_validator("network", mode="wrap")
    @classmethod
    def _of_the_family(cls, value: object, handler: object) -> Network:
        return network_of(value, NETWORKS, "gan")

    @model_validator(mode="after")
    def _masks_make_sense(self) -> "GanGenerator":
        if self.mask_conditioned:
            raise ValueError("condition_on: a gan is not conditioned on masks; use output: image+mask")
        if (self.output == "image") == bool(self.structures):
            raise ValueError("structures go with output: image+mask, and only with it")
        return self


FAMILY = Family(
    GanGenerator,
    denoises=False,
    step_passes=6,  # 2 of the generator, 4 of the discriminator (training.py)
)
