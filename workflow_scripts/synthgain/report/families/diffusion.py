"""How the report describes diffusion models."""

from synthgain.generators.diffusion.family import DiffusionGenerator
from synthgain.pools.options import Sampling

NAME = "diffusion"
PARAMETRISATIONS = {"edm": "EDM", "flow_matching": "flow-matching"}


def kind(generator: DiffusionGenerator) -> str:
    """Return what the generator is."""
    formulation = generator.formulation.kind
    return f"diffusion, {PARAMETRISATIONS.get(formulation, formulation.replace('_', '-'))} parametrisation"


def training(generator: DiffusionGenerator) -> str:
    """Return how it was optimised."""
    options = generator.training
    return f"AdamW, learning rate {options.learning_rate}, EMA {', '.join(map(str, options.kept_decays))}"


def drawing(sampling: Sampling) -> str:
    """Return how a pool was drawn, as the end of a sentence."""
    return f" with {sampling.solver} in {sampling.steps} steps at {_guidance(sampling, 'guidance scale')}"


def sampler(sampling: Sampling) -> str:
    """Return the sampler in short."""
    return f"{sampling.solver}, {sampling.steps} steps, {_guidance(sampling, 'guidance')}"


def _guidance(sampling: Sampling, name: str) -> str:
    by = sampling.autoguidance
    if by is None:
        return f"{name} {sampling.guidance_scale:g}"
    return f"auto{name} {by.scale:g} by the snapshot of step {by.snapshot}"
