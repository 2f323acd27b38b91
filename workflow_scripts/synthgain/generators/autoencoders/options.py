"""Options of autoencoders that a study sets and a job reads. Declarations alone."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from synthgain.entry import Entry, Name, OmittedWhen, Share
from synthgain.generators.options import DataSlice, LoopTraining, TrainOn
from synthgain.networks.options import Count, Counts


class AutoencoderTraining(LoopTraining):
    """How an autoencoder is trained: mean absolute error, plus the KL divergence to a standard normal."""

    batch_size: int = Field(16, ge=1, description="Images a step, over all processes.")
    kl_weight: float = Field(
        1e-6, ge=0, description="Of the KL divergence, summed over an image's latent; the error is a mean over pixels."
    )
    kl_from: Share = Field(0.05, description="Share of the steps before the KL divergence counts.")


class AutoencoderNetwork(Entry):
    """Widths of an autoencoder (diffusers' AutoencoderKL without attention)."""

    block_out_channels: Counts | None = Field(None, description="Widths, finest level first; default: by downsampling.")
    layers_per_block: Count | None = Field(None, description="Residual layers per level; default: 1.")


class Gates(Entry):
    """Limits of what is measured on held-out patients; another limit only rewrites the report."""

    psnr: float = Field(25.0, gt=0, description="Least peak signal-to-noise ratio in dB.")
    ssim: Share = Field(0.8, description="Least structural similarity.")
    power: float = Field(0.7, ge=0, description="Least power above half of the Nyquist frequency, over that of real.")
    signal: Share = Field(0.9, description="Least share of signal in a latent channel; below it is dead.")
    mean: float = Field(0.1, gt=0, description="Largest mean of a standardised latent channel.")
    sd: float = Field(0.1, gt=0, description="Largest difference of its standard deviation from 1.")
    clipped: Share = Field(0.05, description="Largest share of decoded pixels that are clipped.")
    flips: Annotated[float, OmittedWhen(0.05)] = Field(
        0.05, gt=0, description="Largest gain in dB of PSNR where held-out images are flipped first."
    )


class Autoencoder(Entry):
    """What turns images into latents and back: trained here, or read from a folder as diffusers writes it."""

    train_on: TrainOn | None = Field(None, description="Training patients, of an autoencoder that is trained here.")
    folder: str | None = Field(
        None, description="Folder with config.json and safetensors weights, relative to the data root, in place of it."
    )
    sha256: str | None = Field(None, description="Checksum of the folder's weights; another file is refused.")
    output: Literal["image", "image+mask"] = Field("image", description="What goes through it, jointly.")
    structures: list[Name] = Field(default_factory=list, description="image+mask: the masks.")
    downsampling: Literal[2, 4, 8] = Field(4, description="Side of the image over that of its latent.")
    latent_channels: int = Field(4, ge=1, le=64, description="Channels of the latent.")
    network: AutoencoderNetwork = Field(AutoencoderNetwork(), description="Widths of the network.")
    training: AutoencoderTraining | None = Field(None, description="Training, of one that is trained here.")
    gates: Gates = Field(Gates(), description="Limits that the report holds it to.")
    description: str = Field("", description="Free text for the report; changes nothing.")

    @model_validator(mode="after")
    def _one_source(self) -> "Autoencoder":
        if (self.folder is None) == (self.train_on is None):
            raise ValueError("give train_on (it is trained here) or folder (it is read), and only one of them")
        if (self.train_on is None) != (self.training is None):
            raise ValueError("training goes with train_on, and only with it")
        if self.folder is None and self.sha256 is not None:
            raise ValueError("sha256 goes with folder, and only with it")
        if self.folder is not None and "network" in self.model_fields_set:
            raise ValueError("network: the folder has its own; leave it out")
        if (self.output == "image") == bool(self.structures):
            raise ValueError("structures go with output: image+mask, and only with it")
        return self


class AutoencoderSlice(DataSlice):
    """What the slice of an autoencoder's job says. train_on: of a folder, whose latents are standardised."""

    autoencoder: str
    downsampling: int
    latent_channels: int
    network: AutoencoderNetwork
    folder: str | None = None
    sha256: str | None = None


class Measured(BaseModel):
    """What was measured of an autoencoder on held-out patients; signal, mean, sd: of each latent channel.

    scaling: what standardising the latents and scaling them back changes, in grey levels: nothing, if it is right.
    flips: by how many dB of PSNR images come back better if they are flipped first, less two standard errors.
    """

    images: int
    psnr: float
    ssim: float
    power: float
    signal: list[float]
    mean: list[float]
    sd: list[float]
    clipped: float
    scaling: float
    flips: dict[str, float] = {}
    also_trained_on: list[str] = []
