"""Outputs of a trained network, and the long table that a classifier's become."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from synthgain.device import memory_format
from synthgain.downstream.tasks import PREDICTION_BATCH, Task, probabilities, target_matrix
from synthgain.downstream.training_set import ImageStore
from synthgain.registry import NETWORKS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.loading import load

PREDICTION_COLUMNS = (
    "ratio",
    "replicate",
    "dataset",
    "part",
    "image_id",
    "patient_id",
    "label",
    "truth",
    "score",
)


@dataclass(frozen=True)
class Place:
    """Where predictions belong: the cell, its replicate, the part of a data set; and the device to compute on."""

    where: str
    ratio: int
    replicate: int
    dataset: str
    part: str
    device: torch.device


def build_network(entry: Mapping[str, Any], in_channels: int, outputs: int, image_size: int, where: str) -> nn.Module:
    """Build the network of a config entry {module, options}; SynthGainError for options it does not know."""
    module = load(NETWORKS, entry["module"])
    try:
        network: nn.Module = module.build(in_channels, outputs, image_size, **entry.get("options", {}))
    except SynthGainError as error:
        raise SynthGainError(f"{where}: {error}") from error
    return network


def predict_logits(
    network: nn.Module,
    store: ImageStore,
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
    store: ImageStore,
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


def prediction_table(
    task: Task, table: pd.DataFrame, logits: torch.Tensor, dataset: str, part: str, ratio: int, replicate: int
) -> pd.DataFrame:
    """Return N × K rows of PREDICTION_COLUMNS: image by image, label by label.

    `truth` is float32 in {0, 1} or NaN, `score` a probability, float32; `part` is validation or test.
    Raises SynthGainError where a score is not finite.
    """
    scores = probabilities(task, logits).numpy()
    if not np.isfinite(scores).all():
        raise SynthGainError(f"predictions on {dataset}, replicate {replicate}: a score is not finite; train again")
    count = len(task.labels)
    columns = {
        "ratio": np.full(len(table) * count, ratio, dtype=np.int64),
        "replicate": np.full(len(table) * count, replicate, dtype=np.int64),
        "dataset": dataset,
        "part": part,
        "image_id": np.repeat(table["image_id"].astype(str).to_numpy(dtype=object), count),
        "patient_id": np.repeat(table["patient_id"].astype(str).to_numpy(dtype=object), count),
        "label": np.tile(np.array(task.labels, dtype=object), len(table)),
        "truth": target_matrix(task, table).reshape(-1),
        "score": scores.reshape(-1).astype(np.float32),
    }
    return pd.DataFrame(columns)[list(PREDICTION_COLUMNS)]
