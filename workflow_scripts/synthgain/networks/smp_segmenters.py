"""Segmenters of segmentation-models-pytorch (SMP): decoders on encoders by name, maybe pretrained, from a local file.

Nothing is fetched: networks are built with random weights; those of an encoder come from a file below the data root.
"""

import segmentation_models_pytorch as smp
import torch
from torch import nn

from synthgain.entry import checked
from synthgain.networks import monai_segmenters
from synthgain.networks.options import SmpSegmenter
from synthgain.runtime.errors import SynthGainError

# Of pixels in [0, 1]: what the published weights of all encoders that may be named were trained with.
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
features = monai_segmenters.features  # of the coarsest map, whichever network


class Normalised(nn.Module):
    """A network behind the scaling of pixels that its encoder was trained with: scale · x + offset per channel.

    Called with images in [-1, 1]. With one channel the means over the colours apply. Its `encoder` is the network's,
    which `load_encoder` fills.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, network: nn.Module, normalisation: str, channels: int) -> None:
        super().__init__()
        self.network = network
        scale, offset = scaling(normalisation)
        if channels != len(scale):
            scale, offset = (torch.full((channels,), float(part.mean())) for part in (scale, offset))
        self.register_buffer("scale", scale.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("offset", offset.view(1, -1, 1, 1), persistent=False)

    @property
    def encoder(self) -> nn.Module:
        """The encoder of the network."""
        found = self.network.encoder
        assert isinstance(found, nn.Module)
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) in [-1, 1] → (N, outputs, H, W) logits."""
        logits: torch.Tensor = self.network(images * self.scale + self.offset)
        return logits


def scaling(normalisation: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and offset (3,) float32 that take pixels in [-1, 1] to what the encoder is given.

    encoder: ImageNet's mean and standard deviation, as its weights were trained; none_255: values 0 … 255, as Saragih
    et al. gave them; none: as they are.
    """
    if normalisation == "none":
        return torch.ones(3), torch.zeros(3)
    if normalisation == "none_255":
        return torch.full((3,), 127.5), torch.full((3,), 127.5)
    mean, sd = torch.tensor(MEAN), torch.tensor(SD)
    return 0.5 / sd, (0.5 - mean) / sd


def build(in_channels: int, outputs: int, image_size: int, **options: object) -> nn.Module:
    """Return an untrained segmenter: (N, C, H, W) float in [-1, 1] → (N, outputs, H, W) logits.

    options: those of `networks.options.SmpSegmenter`. Raises SynthGainError for an encoder that is unknown or that the
    decoder cannot take, and for an image size that cannot be halved often enough.
    """
    chosen = checked(SmpSegmenter, options, "network")
    chosen.check_size(image_size)
    try:
        network = smp.create_model(
            chosen.decoder, encoder_name=chosen.encoder, encoder_weights=None, in_channels=in_channels, classes=outputs
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise SynthGainError(f"network {chosen.name}: encoder {chosen.encoder!r}: {reason}") from error
    return Normalised(network, chosen.normalisation, in_channels)
