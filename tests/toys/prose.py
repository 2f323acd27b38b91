"""How the report describes the toy family."""

from synthgain.generators.family import GeneratorBase
from synthgain.pools.options import Sampling

NAME = "mean image"


def kind(generator: GeneratorBase) -> str:
    return NAME


def training(generator: GeneratorBase) -> str:
    return "a running mean"


def drawing(sampling: Sampling) -> str:
    return ""


def sampler(sampling: Sampling) -> str:
    return "one pass"
