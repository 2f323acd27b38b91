"""Which device a job computes on: the environment decides, since it may not rerun a job."""

import os

import torch

from synthgain.command import logger
from synthgain.errors import SynthGainError

CHOICES = ("auto", "cpu", "cuda")


def chosen_device() -> torch.device:
    """Return the device that SYNTHGAIN_DEVICE (auto, cpu or cuda; default auto) names.

    Raises SynthGainError where cuda is asked for and missing, unless SYNTHGAIN_ALLOW_CPU=1.
    """
    choice = os.environ.get("SYNTHGAIN_DEVICE") or "auto"
    if choice not in CHOICES:
        raise SynthGainError(f"SYNTHGAIN_DEVICE={choice!r}: use one of {', '.join(CHOICES)}")
    if choice != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if choice == "cuda":
        if os.environ.get("SYNTHGAIN_ALLOW_CPU") != "1":
            raise SynthGainError(
                "SYNTHGAIN_DEVICE=cuda but this job sees no GPU; give the job one, or set SYNTHGAIN_ALLOW_CPU=1"
            )
        logger.warning("no GPU here: going on with the CPU, as SYNTHGAIN_ALLOW_CPU=1 says")
    return torch.device("cpu")
