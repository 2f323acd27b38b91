"""What a family of generators is to all others: its config entry, and what they must know of it. No torch here.

A family is a package below `generators`: `options.py` (declarations that its jobs read), `family.py` (a `Family` called
FAMILY), and the modules that `synthgain.registry` names: FAMILIES (`load(folder, snapshot, device)`, which returns a
generator that offers `denoise` or `generate`) and FAMILY_TRAINING (`prepare_run(job)`). Nobody asks for its name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import Field

from synthgain.entry import Entry, Name
from synthgain.generators.options import GeneratorTraining, TrainOn
from synthgain.generators.steering_options import Reward
from synthgain.networks.options import Network
from synthgain.networks.text_options import FromFolder

MASK = "mask"  # among the conditions: the image's mask
# Change nothing that a training makes but the rows of its log: no part of a job's slice (`synthgain.runtime.settings`).
TRAINING_SETTINGS = {"save_every", "save_every_seconds", "log_every"}


class GeneratorBase(Entry):
    """What every generator has."""

    family: str
    output: str = Field("image", description="What is drawn, jointly.")
    train_on: TrainOn = Field(description="Training patients.")
    condition_on: list[str] = Field(
        default_factory=list, description="Table columns: labels and covariates; the word `mask`: the image's own mask."
    )
    structures: list[Name] = Field(default_factory=list, description="Masks used; images without one are left out.")
    network: Network
    training: GeneratorTraining
    init_from: Name | None = Field(None, description="Start from this generator's weights (pretraining).")
    description: str = Field("", description="Free text for the report; changes nothing.")

    @property
    def columns(self) -> list[str]:
        """Table columns among the conditions."""
        return [name for name in self.condition_on if name != MASK]

    @property
    def prompt_name(self) -> str | None:
        """The study's prompt that it is told, None for a family or a generator without text."""
        return None

    @property
    def text_folder(self) -> FromFolder | None:
        """The local folder whose frozen encoder reads the prompt, None for another encoder or without text."""
        return None

    @property
    def steered_by(self) -> Reward | None:
        """What steers it, None for a generator that learns from real images alone."""
        return None

    @property
    def autoencoder_name(self) -> str | None:
        """The study's autoencoder in whose latents it works, None for a family or a generator that draws pixels."""
        return None

    @property
    def mask_conditioned(self) -> bool:
        """True if the generator draws an image for a given mask."""
        return MASK in self.condition_on

    def trains_like(self, other: "GeneratorBase") -> bool:
        """True for two generators that differ in nothing that trains but what steers them."""
        own, others = (
            (g.family, g.init_from, g.train_on, g.condition_on, g.structures, g.output, g.network, g.training.steps)
            for g in (self, other)
        )
        return own == others

    def shuffled_neighbour(self, generators: Mapping[str, "GeneratorBase"]) -> str | None:
        """Return which of `generators` is steered as this one is, but by shuffled scores; None without one."""
        if self.steered_by is None:
            return None
        wanted = self.steered_by.model_copy(update={"shuffled": True})
        return next(
            (n for n, other in generators.items() if self.trains_like(other) and other.steered_by == wanted), None
        )


Config = TypeVar("Config", bound=GeneratorBase)


@dataclass(frozen=True)
class Family(Generic[Config]):
    """A family of generators.

    entry: its type in the config, which refuses what it cannot do. denoises: its generators offer `denoise` (solvers,
    guidance, inpainting and membership inference apply), else `generate`: an image in one pass.
    step_passes: forward passes of an image in a training step, for the forecast.
    facts: what a training's slice says of this family alone. built_on: True where the network is that of `init_from`.
    How the report describes it: FAMILY_PROSE of the registry.
    """

    entry: type[Config]
    denoises: bool
    step_passes: int = 1
    facts: Callable[[Config], Mapping[str, object]] = lambda config: {}
    built_on: Callable[[Config], bool] = lambda config: False
