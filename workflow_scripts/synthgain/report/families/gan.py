"""How the report describes GANs."""

from synthgain.generators.gan.family import GanGenerator
from synthgain.pools.options import Sampling

NAME = "GAN"


def kind(generator: GanGenerator) -> str:
    """Return what the generator is."""
    return NAME


def training(generator: GanGenerator) -> str:
    """Return how it was optimised."""
    options = generator.training
    return (
        f"relativistic loss with R1 and R2 penalties, Adam, learning rate {options.learning_rate}, "
        f"EMA {options.ema_decay}"
    )


def drawing(sampling: Sampling) -> str:
    """Return how a pool was drawn, as the end of a sentence."""
    return ""


def sampler(sampling: Sampling) -> str:
    """Return the sampler in short."""
    return "one forward pass"
