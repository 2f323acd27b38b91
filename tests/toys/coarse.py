"""A toy task: masks learnt by cross-entropy alone."""

import torch
from torch.nn import functional

from synthgain.data.image_set import ImageSet
from synthgain.downstream import segmentation
from synthgain.downstream.options import PredictionModel
from synthgain.downstream.segmentation import Segmentation, lacks, predictions
from synthgain.networks.options import TaskFacts

__all__ = ["lacks", "new_task", "predictions", "trained_task"]


class Coarse(Segmentation):
    """Segmentation with another loss."""

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        known = ~targets.isnan()
        return functional.binary_cross_entropy_with_logits(logits[known], targets[known])


def new_task(model: PredictionModel, images: ImageSet, where: str) -> Coarse:
    made = segmentation.new_task(model, images, where)
    return Coarse(made.labels, made.window)


def trained_task(model: PredictionModel, facts: TaskFacts) -> Coarse:
    return Coarse(facts.labels, model.window)
