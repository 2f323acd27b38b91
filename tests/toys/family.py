"""A toy family: one image that is moved towards the training images, with a little noise."""

from typing import Any, Literal

from pydantic import Field, field_validator

from synthgain.generators.family import Family, GeneratorBase
from synthgain.generators.options import GeneratorTraining
from synthgain.networks.options import Network, network_of


class MeanNetwork(Network):
    """One learned image."""

    module = "mean"
    name: Literal["mean"] = "mean"
    spread: float = Field(0.1, ge=0, description="Standard deviation of the noise.")


class MeanGenerator(GeneratorBase):
    """The mean training image."""

    family: Literal["mean"]
    network: MeanNetwork = Field(MeanNetwork(), description="`name` and the network's options.")
    training: GeneratorTraining = Field(description="Training.")
    init_from: None = Field(None, description="Not for this family.")

    @field_validator("network", mode="wrap")
    @classmethod
    def _of_the_family(cls, value: Any, handler: Any) -> Any:
        return network_of(value, {"mean": MeanNetwork}, "mean")


FAMILY = Family(MeanGenerator, denoises=False)
