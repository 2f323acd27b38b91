"""Options of downstream training that a study sets and a job reads."""

from typing import Annotated

from pydantic import Field

from synthgain.entry import Entry, Number, Options

Amount = Annotated[Number, Field(ge=0)]
Chance = Annotated[Number, Field(ge=0, le=1)]


class Augmentation(Options):
    """How far a batch is varied; 0 turns a part off. Up and down are never exchanged."""

    rotation: Amount = Field(0.0, description="Largest angle in degrees.")
    translation: Amount = Field(0.0, description="Largest shift, as a share of the side.")
    scale: Amount = Field(0.0, description="Largest relative change of size.")
    brightness: Amount = Field(0.0, description="Largest change, as a share of the half range.")
    contrast: Amount = Field(0.0, description="Largest relative change.")
    gamma: Amount = Field(0.0, description="Largest log2 of the exponent, up or down.")
    noise: Amount = Field(0.0, description="Highest standard deviation, in units of the half range.")
    cutout: Amount = Field(0.0, description="Side of the erased square, as a share of the side.")
    mixup: Amount = Field(0.0, description="Parameter of the Beta law of shares (Zhang et al. 2018).")
    flip: Chance = Field(0.0, description="Probability of exchanging left and right; nothing where laterality counts.")

    @property
    def nothing(self) -> bool:
        """True where a batch leaves as it came."""
        return not any(getattr(self, part) for part in Augmentation.model_fields)


class StandardAugmentation(Augmentation):
    """The standard recipe."""

    rotation: Amount = Field(7, description="Largest angle in degrees.")
    translation: Amount = Field(0.06, description="Largest shift, as a share of the side.")
    scale: Amount = Field(0.08, description="Largest relative change of size.")
    brightness: Amount = Field(0.1, description="Largest change, as a share of the half range.")
    contrast: Amount = Field(0.1, description="Largest relative change.")
    flip: Chance = Field(0.5, description="Probability of exchanging left and right; nothing where laterality counts.")


class StrongAugmentation(Augmentation):
    """The heavier recipe."""

    rotation: Amount = Field(15, description="Largest angle in degrees.")
    translation: Amount = Field(0.12, description="Largest shift, as a share of the side.")
    scale: Amount = Field(0.2, description="Largest relative change of size.")
    brightness: Amount = Field(0.25, description="Largest change, as a share of the half range.")
    contrast: Amount = Field(0.25, description="Largest relative change.")
    gamma: Amount = Field(0.4, description="Largest log2 of the exponent, up or down.")
    noise: Amount = Field(0.05, description="Highest standard deviation, in units of the half range.")
    cutout: Amount = Field(0.25, description="Side of the erased square, as a share of the side.")
    flip: Chance = Field(0.5, description="Probability of exchanging left and right; nothing where laterality counts.")


RECIPES: dict[str, type[Augmentation]] = {
    "none": Augmentation,
    "standard": StandardAugmentation,
    "strong": StrongAugmentation,
}


class Augmentations(Entry):
    """Classical augmentation of real and synthetic images alike, on the batch."""

    standard: StandardAugmentation = Field(StandardAugmentation(), description="Overrides of the standard recipe.")
    strong: StrongAugmentation = Field(StrongAugmentation(), description="Overrides of the heavier recipe.")
    laterality: bool = Field(True, description="True: left and right are never exchanged (chest films).")
