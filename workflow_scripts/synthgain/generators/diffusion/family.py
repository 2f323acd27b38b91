"""The diffusion family: its config entry, and what others must know of it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from synthgain.entry import Name, OmittedWhen
from synthgain.generators.diffusion.options import Formulation
from synthgain.generators.family import Family, GeneratorBase
from synthgain.generators.options import GeneratorTraining
from synthgain.generators.steering_options import Reward
from synthgain.networks.generator_options import UNet, UNetCondition
from synthgain.networks.options import Network, by_name, network_of
from synthgain.networks.text_options import FromFolder, TextEncoder, UNetText

NETWORKS = by_name(UNet, UNetCondition, UNetText)  # the first is the default
# Of ln sigma for standardised latents, which have less to say of coarse structure than pixels (NVIDIA's EDM2 uses the
# same for its latents: Karras et al. 2024).
LATENT_LEVELS = {"p_mean": -0.4, "p_std": 1.0}


class DiffusionGenerator(GeneratorBase):
    """A diffusion model, of pixels or of an autoencoder's latents."""

    family: Literal["diffusion"]
    output: Literal["image", "image+mask", "mask"] = Field("image", description="What is drawn, jointly.")
    mask_by: Literal["concatenation", "controlnet"] = Field(
        "concatenation",
        description="How a mask condition enters: as input channels, or by a ControlNet beside frozen `init_from`.",
    )
    autoencoder: Annotated[Name | None, OmittedWhen(None)] = Field(
        None, description="Autoencoder (of `autoencoders`) in whose latents it works; null: in pixels."
    )
    prompt: Annotated[Name | None, OmittedWhen(None)] = Field(
        None, description="Prompt (of `prompts`) that it is told of each image; needs the network unet_text."
    )
    text_encoder: Annotated[TextEncoder | None, OmittedWhen(None)] = Field(
        None, description="How the prompt is read: {kind: words | minilm | folder}; default: words."
    )
    network: UNet | UNetCondition | UNetText = Field(UNet(), description="`name` and the network's options.")
    formulation: Formulation = Field(Formulation(), description="Noise parametrisation.")
    reward: Annotated[Reward | None, OmittedWhen(None)] = Field(
        None, description="Steer: train `init_from` further on its own samples, weighted by scores."
    )
    training: GeneratorTraining = Field(description="Training.")

    @field_validator("network", mode="wrap")
    @classmethod
    def _of_the_family(cls, value: object, handler: object) -> Network:
        return network_of(value, NETWORKS, "diffusion")

    @model_validator(mode="after")
    def _masks_make_sense(self) -> "DiffusionGenerator":
        if (self.output != "image" or self.mask_conditioned) and not self.structures:
            raise ValueError("structures: name the masks that are drawn or conditioned on")
        if self.structures and self.output == "image" and not self.mask_conditioned:
            raise ValueError("structures go with output: image+mask or mask, or with `mask` in condition_on")
        if self.output != "image" and self.mask_conditioned:
            raise ValueError("condition_on: a generator that draws masks cannot be conditioned on them")
        if self.mask_conditioned and self.mask_by == "controlnet" and self.init_from is None:
            raise ValueError("mask_by: controlnet needs init_from: the generator whose frozen weights it steers")
        return self

    @model_validator(mode="after")
    def _latents_make_sense(self) -> "DiffusionGenerator":
        if self.autoencoder is not None and self.output == "mask":
            raise ValueError("autoencoder: masks alone are drawn in pixels; leave it out")
        return self

    @model_validator(mode="after")
    def _texts_make_sense(self) -> "DiffusionGenerator":
        reads = isinstance(self.network, UNetText)
        if self.prompt is not None and not reads:
            raise ValueError(f"prompt: the network {self.network.name} attends to no text; give network: unet_text")
        if reads and self.prompt is None and not (self.mask_conditioned and self.mask_by == "controlnet"):
            raise ValueError("network: unet_text attends to a text; name its prompt")
        if self.text_encoder is not None and self.prompt is None:
            raise ValueError("text_encoder: there is no prompt to read; give prompt, or leave it out")
        return self

    @model_validator(mode="after")
    def _steering_makes_sense(self) -> "DiffusionGenerator":
        reward = self.reward
        if reward is None:
            return self
        if self.init_from is None:
            raise ValueError("reward: needs init_from, the generator that is steered")
        if self.output == "mask" or (self.mask_conditioned and self.mask_by == "controlnet"):
            raise ValueError("reward: for generators that draw images, and not for a control network")
        if reward.scores == "segmenter" and self.output != "image+mask":
            raise ValueError("reward.scores: segmenter scores pairs; give output: image+mask, or scores: proxy")
        if reward.target is not None and reward.target not in self.columns and self.prompt is None:
            raise ValueError(
                f"reward.target: {reward.target!r} is not in condition_on, so nothing can be steered to it"
            )
        if self.training.steps < reward.rounds:
            raise ValueError(f"reward.rounds: {reward.rounds} rounds of {self.training.steps} steps in all")
        return self

    @property
    def steered_by(self) -> Reward | None:
        return self.reward

    @property
    def autoencoder_name(self) -> str | None:
        return self.autoencoder

    @property
    def noise(self) -> Formulation:
        """The formulation, with the noise levels of latents where they are its samples and none are given."""
        if self.autoencoder is None or self.formulation.kind != "edm":
            return self.formulation
        return self.formulation.model_copy(
            update={key: value for key, value in LATENT_LEVELS.items() if key not in self.formulation.model_fields_set}
        )

    @property
    def text_folder(self) -> FromFolder | None:
        return self.text_encoder if isinstance(self.text_encoder, FromFolder) else None

    @property
    def prompt_name(self) -> str | None:
        return self.prompt


def facts(config: DiffusionGenerator) -> dict[str, object]:
    """Return how a mask condition enters (or null) and the noise parametrisation."""
    return {
        "mask_by": config.mask_by if config.mask_conditioned else None,
        **({} if config.text_encoder is None else {"text_encoder": config.text_encoder.dump()}),
        **({} if config.autoencoder is None else {"autoencoder": config.autoencoder}),
        "formulation": config.noise.dump(),
        **({} if config.reward is None else {"reward": config.reward.dump()}),
    }


FAMILY = Family(
    DiffusionGenerator,
    denoises=True,
    facts=facts,
    built_on=lambda config: config.mask_conditioned and config.mask_by == "controlnet",
)
