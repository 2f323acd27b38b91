"""What a downstream task takes where the study names nothing, known to the config and to the report."""

from collections.abc import Mapping
from typing import Any

USUAL_NETWORKS = {"classification": "small_cnn", "segmentation": "unet"}


def network_name(network: str | Mapping[str, Any] | None, task: str) -> str:
    """Return the name of a model's network as configured (a name, {name, options} or nothing), else the task's own."""
    named = network.get("name") if isinstance(network, Mapping) else network
    return str(named or USUAL_NETWORKS[task])
