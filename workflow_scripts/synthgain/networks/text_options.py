"""Options of text encoders and of the U-Net that takes text. No torch here."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from synthgain.entry import Entry
from synthgain.networks.generator_options import DiffusionNetwork
from synthgain.networks.options import Count

TEXT_WIDTH = 128  # numbers per token that reach the network


class Words(Entry):
    """A small encoder of a closed vocabulary, trained with the generator."""

    kind: Literal["words"] = "words"
    layers: int = Field(2, ge=1, le=4, description="Transformer layers.")
    heads: int = Field(4, ge=1, le=16, description="Attention heads.")
    longest: int = Field(48, ge=4, le=256, description="Most words of a prompt; longer ones are refused.")

    @model_validator(mode="after")
    def _heads_divide(self) -> "Words":
        if TEXT_WIDTH % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide {TEXT_WIDTH}")
        return self


class MiniLM(Entry):
    """The packaged sentence model all-MiniLM-L6-v2, frozen; its tokens, never their mean."""

    kind: Literal["minilm"]
    longest: int = Field(64, ge=4, le=256, description="Most tokens of a prompt; longer ones are refused.")


class FromFolder(Entry):
    """A text encoder of transformers in a local folder, frozen: CLIP's or BERT's kind, safetensors, no remote code."""

    kind: Literal["folder"] = "folder"
    folder: str = Field(description="Folder of the model and its tokenizer, relative to the data root.")
    sha256: str | None = Field(None, description="Checksum of its model.safetensors; another file is refused.")
    layer: int = Field(-1, ge=-48, le=-1, description="Hidden layer whose tokens are taken; -2: the last but one.")


TextEncoder = Annotated[Words | MiniLM | FromFolder, Field(discriminator="kind")]


class UNetText(DiffusionNetwork):
    """U-Net that attends to a text's tokens (diffusers' UNet2DConditionModel); a ControlNet can steer it."""

    module = "unet_text"
    name: Literal["unet_text"] = "unet_text"
    attention_resolutions: list[Count] | None = Field(
        None,
        description="Sides in px of the levels that attend to the text; default: 8 and 16. The middle always does.",
    )
    heads: Count | None = Field(None, description="Attention heads; default: 4, or fewer where a level is narrow.")
