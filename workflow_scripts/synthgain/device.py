"""Which device a job computes on, and how: environment variables say, since they rerun nothing."""

import os
from typing import Any

import torch

from synthgain.runtime.command import logger
from synthgain.runtime.errors import SynthGainError

CHOICES = ("auto", "cpu", "cuda")
# Set where a scheduler or a user hands a GPU to a job, and what they hold where none is.
PROMISES = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")
NO_GPU = ("", "-1", "NoDevFiles", "void", "none")


def chosen_device() -> torch.device:
    """Return the device that SYNTHGAIN_DEVICE (auto, cpu or cuda; default auto) names.

    Raises SynthGainError where cuda is asked for, or with auto a GPU was given to this job, and torch sees none,
    unless SYNTHGAIN_ALLOW_CPU=1: a node that lost its GPU must not spend days of a GPU's queue on its CPU.
    """
    choice = os.environ.get("SYNTHGAIN_DEVICE") or "auto"
    if choice not in CHOICES:
        raise SynthGainError(f"SYNTHGAIN_DEVICE={choice!r}: use one of {', '.join(CHOICES)}")
    if choice != "cpu" and torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32
        return torch.device("cuda")
    promise = "compute.device is cuda" if choice == "cuda" else promised_gpu()
    if choice != "cpu" and promise:
        if os.environ.get("SYNTHGAIN_ALLOW_CPU") != "1":
            built = "" if torch.version.cuda else f", and torch {torch.__version__} is built without CUDA"
            raise SynthGainError(
                f"{promise}, but this job sees no GPU{built}; look at nvidia-smi on {os.uname().nodename}, or set "
                "compute.device: cpu, or compute.allow_cpu: true to go on without one"
            )
        logger.warning("%s, but there is no GPU here: going on with the CPU, as compute.allow_cpu says", promise)
    return torch.device("cpu")


def promised_gpu() -> str:
    """Return the variable by which this job was given a GPU, as NAME=value; "" where none was."""
    for name in PROMISES:
        value = os.environ.get(name, "").strip()
        if value not in NO_GPU and not (name == "SLURM_GPUS_ON_NODE" and value == "0"):
            return f"{name}={value}"
    return ""


def make_deterministic(device: torch.device) -> None:
    """Choose deterministic kernels wherever there are any."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    # use_deterministic_algorithms does the same and loads torch's compiler for it: two seconds of every job.
    torch.set_deterministic_debug_mode("warn")
    # Filling every new tensor makes no number more certain and costs 6 % of a U-Net's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if device.type == "cuda":  # "warn" leaves attention its fast backward passes, whose sums have no fixed order
        for choose in (
            torch.backends.cuda.enable_flash_sdp,
            torch.backends.cuda.enable_mem_efficient_sdp,
            torch.backends.cuda.enable_cudnn_sdp,
        ):
            choose(False)


def memory_format(device: torch.device) -> torch.memory_format:
    """Return how images and weights lie in memory: channels last on a CPU, channels first on a GPU.

    Measured (docs/performance.md): oneDNN convolves channels last fastest; on a GPU torch's group norm is so slow there
    that U-Nets lose a quarter.
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put a saved state into `optimizer`, its tensors in each parameter's memory format.

    A state saved on a GPU has another memory format than weights on a CPU (`memory_format`), and fused optimisers
    walk through both side by side.
    """
    optimizer.load_state_dict(state)
    for weight, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                moments[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def compiled(module: torch.nn.Module, device: torch.device) -> Any:
    """Return a module compiled for training on `device`: on a GPU as CUDA graphs, since launching bounds small ones."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # tells the compiler, which the debug mode does not
    return torch.compile(module, mode="reduce-overhead" if device.type == "cuda" else None)
