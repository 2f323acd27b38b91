"""What a downstream task is to the config, the planner and the report. No torch here.

A task is an entry of TASK_KINDS and a module (`synthgain.registry.TASKS`) with `new_task`, `trained_task`, `lacks` and
`predictions`; what its training asks of it is `downstream/tasks.py`. Nobody asks for its name.
"""

from dataclasses import dataclass
from typing import Literal

from synthgain.networks.options import DOWNSTREAM, Network


@dataclass(frozen=True)
class TaskKind:
    """A kind of task.

    learns: the key of a model that names what it learns. networks: {name: type}, the first is the default.
    metric: what validation reports besides the loss. agreement: the score table of pools that its real-only model
    gives.
    predictions: the form of its predictions, which the statistics read: an image's scores, or its masks'.
    """

    learns: Literal["targets", "structures"]
    networks: dict[str, type[Network]]
    metric: Literal["auroc", "dice"]
    agreement: Literal["label_consistency", "mask_agreement"]
    predictions: Literal["classification", "segmentation"]

    @property
    def masks(self) -> bool:
        """True for a task that learns masks."""
        return self.learns == "structures"


TASK_KINDS = {
    "classification": TaskKind("targets", DOWNSTREAM["classification"], "auroc", "label_consistency", "classification"),
    "segmentation": TaskKind("structures", DOWNSTREAM["segmentation"], "dice", "mask_agreement", "segmentation"),
}
