"""Options of networks that a study sets and a job reads, and those of classifiers and segmenters. No torch here."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_serializer, model_validator

from synthgain.entry import Number, Options, nearest, shown
from synthgain.runtime.errors import SynthGainError

Count = Annotated[int, Field(ge=1)]
Counts = Annotated[list[Count], Field(min_length=1)]
Dropout = Annotated[Number, Field(ge=0, lt=1)]


class TaskFacts(BaseModel):
    """What the manifest of a training says of the task: its kind, and what the network gives and takes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: str
    labels: tuple[str, ...]
    image_size: int
    channels: int


class NetworkChoice(BaseModel):
    """A network in a job's slice: the registered module, and the options that were given."""

    module: str
    options: dict[str, object] = {}


class FilledNetwork(BaseModel):
    """A network that a file of weights fills, as a slice has it. key: of the model's config, that names the file;

    file: relative to the data root; channels, outputs, size (px): what the network is built for.
    """

    key: str
    file: str
    sha256: str
    network: NetworkChoice
    channels: int
    outputs: int
    size: int


class Network(Options):
    """A network and its options; `module` builds it."""

    module: ClassVar[str]
    has_encoder: ClassVar[bool] = False  # one that may be filled by itself (`pretrained_encoder`)
    name: str
    _alone: bool = PrivateAttr(False)  # the config gave the name alone, not a map

    def options(self) -> dict[str, object]:
        """Return what was given besides the name."""
        return {key: value for key, value in self.given().items() if key != "name"}

    def check_size(self, size: int) -> None:
        """Raise SynthGainError where it cannot be built for images (or windows) of `size` px."""

    @model_serializer
    def _as_given(self) -> object:
        return self.name if self._alone else self.given()


class SmallCnn(Network):
    """A small convolutional classifier that trains in seconds on one CPU core."""

    module = "small_cnn"
    name: Literal["small_cnn"] = "small_cnn"
    width: Annotated[int, Field(ge=4, multiple_of=4)] = Field(
        16, description="Channels of the first layer, doubled at each halving; a multiple of 4."
    )
    max_width: Annotated[int, Field(ge=4, multiple_of=4)] = Field(
        128, description="Most channels of a layer; a multiple of 4."
    )
    depth: Count = Field(2, description="Convolutions per resolution.")

    @model_validator(mode="after")
    def _grows(self) -> "SmallCnn":
        if self.max_width < self.width:
            raise ValueError(f"max_width {self.max_width} is below width {self.width}")
        return self


class TorchvisionClassifier(Network):
    """A ResNet or ConvNeXt of torchvision."""

    module = "torchvision_classifiers"
    name: Literal["resnet18", "resnet50", "convnext_tiny", "convnext_base"] = "resnet18"
    stem: Literal["auto", "imagenet", "small"] = Field(
        "auto",
        description="imagenet: as published, which pretrained weights need. small: full resolution, 16 times the "
        "operations per pixel in a ResNet. auto: small up to 32 px; up to 64 px as published but for a 3×3 kernel in a "
        "ResNet; imagenet above.",
    )


class DenseNet(Network):
    """DenseNet121 of MONAI."""

    module = "monai_classifiers"
    name: Literal["densenet121"] = "densenet121"
    dropout_prob: Dropout = Field(0.0, description="Dropout in each dense layer.")


class Segmenter(Network):
    """A segmenter halves the image so often that its side must be a multiple of `step`."""

    module = "monai_segmenters"

    @property
    @abstractmethod
    def step(self) -> int:
        """2 to the power of the halvings."""

    def check_size(self, size: int) -> None:
        if size % self.step:
            raise SynthGainError(
                f"network {self.name}: image size (or window) {size} px is no multiple of {self.step}; change it, or "
                "take a network with fewer levels"
            )


class UNetSegmenter(Segmenter):
    """MONAI's UNet."""

    name: Literal["unet"] = "unet"
    channels: Counts = Field([16, 32, 64, 128], description="Widths, finest level first.")
    num_res_units: Annotated[int, Field(ge=0)] = Field(2, description="Residual units per level.")
    dropout: Dropout = Field(0.0, description="Dropout.")

    @property
    def step(self) -> int:
        return 2 ** (len(self.channels) - 1)


class SegResNet(Segmenter):
    """MONAI's SegResNet."""

    name: Literal["segresnet"] = "segresnet"
    init_filters: Annotated[int, Field(ge=8, multiple_of=8)] = Field(
        8, description="Channels of the first level; a multiple of 8."
    )
    blocks_down: Counts = Field([1, 2, 2, 4], description="Blocks of each level on the way down.")
    blocks_up: Counts = Field([1, 1, 1], description="Blocks of each level on the way up.")
    dropout_prob: Dropout | None = Field(None, description="Dropout; null: none.")

    @property
    def step(self) -> int:
        return 2 ** (len(self.blocks_down) - 1)


class FlexibleUNet(Segmenter):
    """MONAI's FlexibleUNet: a classifier's backbone as encoder, never pretrained."""

    name: Literal["flexible_unet"] = "flexible_unet"
    backbone: Literal[
        "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200",
        "efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "efficientnet-b4",
        "efficientnet-b5", "efficientnet-b6", "efficientnet-b7", "efficientnet-b8", "efficientnet-l2",
    ] = Field("resnet10", description="Encoder.")  # fmt: skip
    # half of MONAI's, whose decoder outweighs a small encoder
    decoder_channels: Counts = Field([128, 64, 32, 16, 8], description="Widths of the decoder, coarsest level first.")
    dropout: Dropout = Field(0.0, description="Dropout.")

    @property
    def step(self) -> int:
        return 2 ** len(self.decoder_channels)


class BasicUNetPlusPlus(Segmenter):
    """MONAI's BasicUNetPlusPlus."""

    name: Literal["basic_unet_plusplus"] = "basic_unet_plusplus"
    # half of MONAI's
    features: Annotated[list[Count], Field(min_length=6, max_length=6)] = Field(
        [16, 16, 32, 64, 128, 16], description="Widths: five levels, and the last layer."
    )
    dropout: Dropout = Field(0.0, description="Dropout.")

    @property
    def step(self) -> int:
        return 2**4  # fixed in MONAI's class


SMP_ENCODERS = (
    "mobilenet_v2",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "se_resnet50", "se_resnet101", "se_resnet152", "se_resnext50_32x4d", "se_resnext101_32x4d", "senet154",
    "efficientnet-b0", "efficientnet-b1", "efficientnet-b2", "efficientnet-b3", "efficientnet-b4", "efficientnet-b5",
)  # fmt: skip
if TYPE_CHECKING:
    SmpEncoder = str
else:
    SmpEncoder = Literal[SMP_ENCODERS]


class SmpSegmenter(Segmenter):
    """A decoder of segmentation-models-pytorch on an encoder by name, which `pretrained_encoder` may fill."""

    module = "smp_segmenters"
    has_encoder = True
    name: Literal["smp_unet", "smp_unetplusplus", "smp_fpn", "smp_deeplabv3plus"] = "smp_unetplusplus"
    encoder: SmpEncoder = Field("resnet18", description="Encoder.")
    normalisation: Literal["encoder", "none_255", "none"] = Field(
        "encoder",
        description="What the encoder is given: ImageNet's mean and SD, as published weights need; none_255: values "
        "0 … 255 (Saragih et al. 2024); none: -1 … 1.",
    )

    @property
    def decoder(self) -> str:
        """Its name in the package."""
        return self.name.removeprefix("smp_")

    @property
    def step(self) -> int:
        return 2**5  # five halvings in every encoder


def by_name(*kinds: type[Network]) -> dict[str, type[Network]]:
    """Return {name: type}; a type may have several names."""
    return {name: kind for kind in kinds for name in get_args(kind.model_fields["name"].annotation)}


AnyDownstream = (
    SmallCnn
    | TorchvisionClassifier
    | DenseNet
    | UNetSegmenter
    | SegResNet
    | FlexibleUNet
    | BasicUNetPlusPlus
    | SmpSegmenter
)
# By task; the first of each is the default.
DOWNSTREAM = {
    "classification": by_name(SmallCnn, TorchvisionClassifier, DenseNet),
    "segmentation": by_name(UNetSegmenter, SegResNet, FlexibleUNet, BasicUNetPlusPlus, SmpSegmenter),
}


def network_of(value: object, known: dict[str, type[Network]], what: str) -> Network:
    """Return the network of a config entry: a name, {name: …, options}, or options of the first that is `known`.

    Raises ValueError for an unknown name of `what`; its options are checked as those of any entry.
    """
    if isinstance(value, Network):
        return value
    options = {"name": value} if isinstance(value, str) else {} if value is None else value
    if not isinstance(options, dict):
        raise ValueError(f"give a name, or a map of options, not {value!r}")
    name = options.get("name") or next(iter(known))
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown network {shown(str(name))!r} for {what}; {nearest(str(name), known)}")
    made = known[name].model_validate(options)
    made._alone = isinstance(value, str)
    return made
