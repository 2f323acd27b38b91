"""The metrics of downstream models, each declared once: config, statistics, figures and report read them here.

A new metric is one entry, and the module that computes it (docs/extending.md).
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
MACRO = "macro"  # in place of a label: the mean over labels or structures


@dataclass(frozen=True)
class Metric:
    """One metric of a downstream model.

    label: in tables and figures; words: in a sentence (default: the label).
    needs: scores (probabilities), decisions (a threshold policy's), masks (per-image scores of predicted masks).
    computed_by: module with a function of the metric's name (or `function`). It returns the ratios of patient sums
    behind one label; where `own_variance` it yields the endpoints of every label with their covariance itself.
    bounded: the metric ends at 1. default_margin: the default margin of equivalence is defensible on its scale.
    primary: it may be declared as the primary endpoint.
    """

    name: str
    label: str
    task: str
    needs: Literal["scores", "decisions", "masks"]
    words: str = ""
    higher_is_better: bool = True
    bounded: bool = True
    default_margin: bool = False
    primary: bool = True
    own_variance: bool = False
    computed_by: str = "synthgain.statistics.metric_parts"
    function: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """Where the scale ends."""
        return 0.0, 1.0 if self.bounded else float("inf")


_ranked = partial(
    Metric, task=CLASSIFICATION, needs="scores", own_variance=True, computed_by="synthgain.statistics.endpoints"
)
_decided = partial(Metric, task=CLASSIFICATION, needs="decisions")
_masks = partial(Metric, task=SEGMENTATION, needs="masks")
_lower_masks = partial(_masks, higher_is_better=False)
_ENTRIES = (
    _ranked("auroc", "AUROC", default_margin=True),
    _ranked("average_precision", "Average precision", words="average precision"),
    _decided("f1", "F1"),
    _decided("sensitivity", "Sensitivity", words="sensitivity"),
    _decided("specificity", "Specificity", words="specificity"),
    _decided("accuracy", "Accuracy", words="accuracy", primary=False),
    _decided("balanced_accuracy", "Balanced accuracy", words="balanced accuracy", primary=False),
    Metric("brier", "Brier score", CLASSIFICATION, "scores", higher_is_better=False),
    _masks("dice", "Dice"),
    _masks("iou", "IoU"),
    _masks("nsd", "Surface Dice (NSD)", words="normalised surface Dice"),
    _lower_masks("hd95", "HD95 (px)", words="95 % Hausdorff distance", bounded=False),
    _lower_masks("failure_rate", "Failure rate (Dice < 0.5)", words="share of failed segmentations (Dice below 0.5)"),
    _lower_masks(
        "empty_false_positive_rate",
        "Found where absent",
        words="share of images without the structure where one is drawn",
        primary=False,
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ENTRIES}
MAIN = {CLASSIFICATION: "auroc", SEGMENTATION: "dice"}  # the endpoint where none is declared


@dataclass(frozen=True)
class MainEndpoint:
    """The endpoint that a model's figures and tables are about: the declared one, or the usual one of its task.

    arm is None where no comparison was declared.
    """

    metric: str
    labels: str
    test_set: str
    arm: str | None = None
    ratio: int = 0


def metrics_of(task: str) -> tuple[str, ...]:
    """Return the names of a task's metrics, in the order in which they are computed and shown."""
    return tuple(name for name, metric in METRICS.items() if metric.task == task)


def metric(name: str) -> Metric:
    """Return a metric; `f1@fixed_0.5` is F1 under another threshold policy. KeyError for an unknown one."""
    return METRICS[name.partition("@")[0]]


def metric_label(name: str) -> str:
    """Return what a table calls a metric; a name that is none of ours loses its underscores."""
    return METRICS[name].label if name in METRICS else name.replace("_", " ")


def metric_words(name: str) -> str:
    """Return what a sentence calls a metric."""
    return METRICS[name].words or METRICS[name].label if name in METRICS else name


def higher_is_better(name: str) -> bool:
    """True if a larger value means a better model."""
    return metric(name).higher_is_better
