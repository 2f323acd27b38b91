"""Which device a downstream job computes on, and how its sums stay the same from run to run."""

import os

import torch

from synthgain.command import logger
from synthgain.errors import SynthGainError

_CHOICES = ("auto", "cpu", "cuda")


def chosen_device() -> torch.device:
    """Return the device that SYNTHGAIN_DEVICE (auto, cpu or cuda; default auto) names.

    Raises SynthGainError where cuda is asked for and missing, unless SYNTHGAIN_ALLOW_CPU=1.
    """
    choice = os.environ.get("SYNTHGAIN_DEVICE") or "auto"
    if choice not in _CHOICES:
        raise SynthGainError(f"SYNTHGAIN_DEVICE={choice!r}: use one of {', '.join(_CHOICES)}")
    if choice != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if choice == "cuda":
        if os.environ.get("SYNTHGAIN_ALLOW_CPU") != "1":
            raise SynthGainError(
                "SYNTHGAIN_DEVICE=cuda but this job sees no GPU; give the job one, or set SYNTHGAIN_ALLOW_CPU=1"
            )
        logger.warning("no GPU here: going on with the CPU, as SYNTHGAIN_ALLOW_CPU=1 says")
    return torch.device("cpu")


def make_deterministic(threads: int) -> None:
    """Fix the number of CPU threads and choose deterministic kernels wherever there are any."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("high")


def environment(device: torch.device) -> dict[str, str | int]:
    """Return what a result may depend on beside its inputs: versions, device, threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()}
