"""What a training run consists of, and how it is saved and taken up again."""

from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from synthgain.checkpoints import Checkpoints
from synthgain.command import Job, logger
from synthgain.generators.diffusion import ConditionalNetwork
from synthgain.generators.formulations import Formulation
from synthgain.generators.options import TrainingOptions
from synthgain.generators.snapshots import whole
from synthgain.generators.training_data import TrainingData


@dataclass
class Run:
    """What changes while training, and what is made of the slice once."""

    options: TrainingOptions
    data: TrainingData
    formulation: Formulation
    module: ConditionalNetwork  # the weights; `forward` is the same, as accelerate wraps it
    averaged: ConditionalNetwork
    average: EMAModel
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    seed_keys: dict[str, str | int]
    forward: Any = None
    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # since the last row of the log
    environments: list[dict[str, Any]] = field(default_factory=list)


def state_of(run: Run) -> dict[str, Any]:
    """Everything a later process needs to go on as if nothing had happened."""
    return {
        "step": run.step,
        "module": run.module.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "seconds": run.seconds,
        "log": run.log,
        "losses": run.losses,
        "environments": run.environments,
    }


def resume(run: Run, checkpoints: Checkpoints, job: Job) -> None:
    """Put the newest usable state into `run`; without one, or without its snapshots, training starts afresh."""
    folder = job.state_folder() / "snapshots"
    found = checkpoints.load_latest()
    due = [step for step in run.options.snapshot_steps() if found is not None and step <= found[0]]
    missing = [step for step in due if not whole(folder, step, job.identity)]
    if missing:
        logger.warning("%s: snapshot %d is missing or damaged, starting afresh", folder, missing[0])
    if found is None or missing:
        return
    step, state = found
    run.module.load_state_dict(state["module"])
    run.average.load_state_dict(state["average"])
    run.average.to(run.accelerator.device)
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.seconds, run.log, run.losses = step, state["seconds"], state["log"], state["losses"]
    run.environments = state["environments"]
    logger.info("resumed at step %d of %d", step, run.options.steps)


def note_environment(run: Run, threads: int) -> None:
    """Record what the bits depend on; a resume elsewhere goes on, and the manifest says so."""
    device = run.accelerator.device
    now = {
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": threads,
        "processes": run.accelerator.num_processes,
        "torch": str(torch.__version__),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "precision": run.options.precision,
    }
    last = {key: value for key, value in run.environments[-1].items() if key != "from_step"} if run.environments else {}
    if run.environments and last != now:
        changed = [key for key in now if last.get(key) != now[key]]
        logger.warning("resumed with another %s: weights will differ slightly", ", ".join(changed))
    if last != now:
        run.environments.append({"from_step": run.step, **now})
