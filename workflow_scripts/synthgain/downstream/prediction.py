"""A model's network and what it puts out for stored images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from synthgain.device import memory_format
from synthgain.downstream.rows import BatchStore
from synthgain.networks.options import NetworkChoice
from synthgain.registry import NETWORKS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.loading import load

PREDICTION_BATCH = 256  # images; fixed, since the sums inside a convolution may depend on it


@dataclass(frozen=True)
class Place:
    """Where predictions belong: the cell, its replicate, the part of a data set; and the device to compute on."""

    where: str
    ratio: int
    replicate: int
    dataset: str
    part: str
    device: torch.device


class AtChance(nn.Module):
    """A network that tells nothing: the same logit for everything, in the shape of its network's output."""

    def __init__(self, network: nn.Module, logit: float) -> None:
        super().__init__()
        self.network, self.logit = network, logit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the constant."""
        return torch.full_like(self.network(images), self.logit)


def build_network(
    entry: NetworkChoice | None, in_channels: int, outputs: int, image_size: int, where: str
) -> nn.Module:
    """Build the network of a model; SynthGainError where the slice has none, and for options it does not know."""
    if entry is None:
        raise SynthGainError(f"{where}: its slice names no network")
    module = load(NETWORKS, entry.module)
    try:
        network: nn.Module = module.build(in_channels, outputs, image_size, **entry.options)
    except SynthGainError as error:
        raise SynthGainError(f"{where}: {error}") from error
    return network


def predict_logits(
    network: nn.Module,
    store: BatchStore,
    device: torch.device,
    precision: str = "float32",
    batch_size: int = PREDICTION_BATCH,
) -> torch.Tensor:
    """Return the (N, K) float32 logits of all images of `store`, on the CPU; the network is left in eval mode."""
    network.eval()
    forward = lambda images: network(images).float()  # noqa: E731
    return torch.cat(list(predict_batches(forward, store, device, precision, batch_size))).cpu()


def predict_batches(
    forward: Callable[[torch.Tensor], torch.Tensor],
    store: BatchStore,
    device: torch.device,
    precision: str,
    batch_size: int,
) -> Iterator[torch.Tensor]:
    """Yield forward's outputs, batch after batch of the store's images in their order, without gradients."""
    for start in range(0, len(store), batch_size):
        images = store.batch(np.arange(start, min(start + batch_size, len(store))), device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = forward(images.contiguous(memory_format=memory_format(device)))
        yield outputs
