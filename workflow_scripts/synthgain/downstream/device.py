"""How a downstream job's sums stay the same from run to run, and what they may depend on."""

import os

import torch


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
