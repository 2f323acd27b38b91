"""What a job's bits depend on besides its inputs, written down; what chooses it is in `synthgain.device`."""

import torch

from synthgain.runtime.command import logger


def environment(device: torch.device, **more: object) -> dict[str, object]:
    """Return what a job's bits depend on besides its inputs: device, threads, torch, the CPU's vector width, `more`."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **more,
    }


def note_environment(environments: list[dict[str, object]], now: dict[str, object], **since: int) -> None:
    """Append {**since, **now} where it is not the last one's; what changed is said, and the manifest lists all."""
    last = {key: value for key, value in environments[-1].items() if key not in since} if environments else None
    if last == now:
        return
    if last is not None:
        changed = [f"{key} ({last.get(key)}, now {now[key]})" for key in now if last.get(key) != now[key]]
        logger.warning("resumed with another %s: results may differ slightly", ", ".join(changed))
    environments.append({**since, **now})
