"""Runs one of the workflow's scripts in a process of its own and writes down what it does.

A trace grows by `.` for each unit of work (an optimiser step, or a pass of the generator's network while sampling) and
by `S` for each state that is about to take its place on disk: torch's hooks, the generator's `denoise` and Python's
audit events tell. The script is not changed, but that downstream training, which saves by the clock, saves for half of
its time: so moments hang on progress alone, on a slow machine as on a fast one.

The process is forked from a server that has imported the libraries before: a script that is started thirty times
need not import torch thirty times. On a GPU it is started afresh, since CUDA cannot be forked.
"""

import importlib
import multiprocessing
import os
import runpy
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from devices import DEVICE

STATES = ("step-", "batch-")  # checkpoints, finished batches of a pool
IMPORTED_BEFORE = [
    "torch",
    "diffusers.models.unets.unet_2d",
    "diffusers.training_utils",
    "diffusers.schedulers",
    "accelerate",
    "pandas",
    "pyarrow.parquet",
    "safetensors.torch",
]

starter: Any = multiprocessing.get_context("forkserver" if DEVICE == "cpu" else "spawn")
if DEVICE == "cpu":
    starter.set_forkserver_preload(IMPORTED_BEFORE)


def start_watched(words: list[str], trace: Path, said: Path, environment: dict[str, str]) -> BaseProcess:
    """Start the script words[0] with its arguments; what it says on stderr goes to the file `said`."""
    process: BaseProcess = starter.Process(target=_run, args=(words, str(trace), str(said), environment), daemon=True)
    process.start()
    return process


def _run(words: list[str], trace: str, said: str, environment: dict[str, str]) -> None:
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    os.environ.update(environment)
    sys.argv = words
    program = Path(words[0])
    sys.path.insert(0, str(program.parent))
    _watch(os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT), program.stem)
    runpy.run_path(str(program), run_name="__main__")


def _watch(trace: int, script: str) -> None:
    def saved(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename":
            name = os.path.basename(os.fspath(arguments[1]))
            if name.startswith(STATES) and name.endswith(".json"):
                os.write(trace, b"S")

    def worked(*_: Any) -> None:
        os.write(trace, b".")

    sys.addaudithook(saved)
    if script == "train_downstream":
        training: Any = importlib.import_module("synthgain.downstream.training")
        training.SAVE_SECONDS, training.SAVE_SHARE = 0.0, 1.0
    if script == "draw_pool_shard":
        family: Any = importlib.import_module("synthgain.generators.diffusion.generator").DiffusionGenerator
        denoise = family.denoise
        family.denoise = lambda *given, **named: (worked(), denoise(*given, **named))[1]
    else:
        importlib.import_module("torch.optim.optimizer").register_optimizer_step_post_hook(worked)
