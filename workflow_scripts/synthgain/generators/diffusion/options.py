"""Options of diffusion generators that a study sets and a job reads. Declarations alone."""

from typing import Literal

from pydantic import Field, model_validator

from synthgain.entry import Entry
from synthgain.generators.options import TrainingSlice


class DiffusionSlice(TrainingSlice):
    """What a training's slice says of this family. mask_by: how a mask condition enters, if any."""

    mask_by: str | None = None
    autoencoder: str | None = None
    formulation: dict[str, object] = Field(default_factory=dict)


class Formulation(Entry):
    """Noise parametrisation of a diffusion model."""

    kind: Literal["edm", "v_prediction"] = Field("edm", description="EDM (Karras 2022), or discrete v-prediction.")
    p_mean: float = Field(-1.2, description="EDM: mean of ln sigma in training; default in latents: −0.4.")
    p_std: float = Field(1.2, gt=0, description="EDM: standard deviation of ln sigma; default in latents: 1.")
    train_steps: int = Field(1000, ge=10, description="v-prediction: number of discrete steps.")
    schedule: Literal["cosine", "linear"] = Field("cosine", description="v-prediction: noise schedule.")
    zero_terminal_snr: bool = Field(True, description="v-prediction: end on pure noise (Lin 2023).")
    min_snr_gamma: float | None = Field(None, description="v-prediction: Min-SNR weight (Hang 2023).")

    @model_validator(mode="after")
    def _fits_the_kind(self) -> "Formulation":
        own = {"p_mean", "p_std"} if self.kind == "edm" else set(type(self).model_fields) - {"p_mean", "p_std"}
        for name, field in type(self).model_fields.items():
            if name not in own | {"kind"} and getattr(self, name) != field.default:
                other = "v_prediction" if self.kind == "edm" else "edm"
                raise ValueError(f"{name} is for kind: {other}, not for {self.kind}")
        if self.zero_terminal_snr and self.min_snr_gamma is not None:
            raise ValueError(
                f"min_snr_gamma {self.min_snr_gamma:g}: with zero_terminal_snr the last step, where every sample "
                "starts, has weight 0; set min_snr_gamma: null or zero_terminal_snr: false"
            )
        return self
