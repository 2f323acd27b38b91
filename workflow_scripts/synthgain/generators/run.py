"""What a training run of any family consists of, and how it is begun, saved and resumed."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from synthgain.device import chosen_device, load_optimizer, make_deterministic
from synthgain.entry import checked
from synthgain.generators.condition_encoder import ConditionEncoder
from synthgain.generators.options import GeneratorTraining, LoopTraining, TrainingSlice
from synthgain.generators.snapshots import average_folder, snapshot_steps
from synthgain.generators.training_data import TrainingData, job_training_data, training_slice
from synthgain.runtime.checkpoints import Checkpoints
from synthgain.runtime.command import Job, logger
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.guarded import GuardedFolder
from synthgain.runtime.processes import RENDEZVOUS
from synthgain.runtime.settings import settings

Training = TypeVar("Training", bound=LoopTraining)


class Averages:
    """Running averages of a module's weights: one for each decay, the first of which is published as the weights."""

    def __init__(self, averages: dict[float, EMAModel]) -> None:
        self.by_decay = averages
        self.first = next(iter(averages.values()))

    def step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take in the weights after a step."""
        weights = list(parameters)
        for average in self.by_decay.values():
            average.step(weights)

    def copy_to(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the first average into these weights."""
        self.first.copy_to(parameters)

    def each(self, module: nn.Module, folder: Path) -> Iterator[Path]:
        """Yield where each average is to be saved, while `module` has its weights; the first one comes last."""
        for decay, average in reversed(self.by_decay.items()):
            average.copy_to(module.parameters())
            yield folder if average is self.first else folder / average_folder(decay)

    def state_dict(self) -> dict[str, object]:
        """Return what a later process goes on from."""
        return {str(decay): average.state_dict() for decay, average in self.by_decay.items()}

    def load_state_dict(self, state: Mapping[str, dict[str, object]], device: torch.device) -> None:
        """Go on from `state`."""
        for decay, average in self.by_decay.items():
            average.load_state_dict(state[str(decay)])
            average.to(device)


Stateful = nn.Module | Averages | torch.optim.Optimizer  # has state_dict and load_state_dict

PRECISIONS = {"float32": "no", "bfloat16": "bf16"}  # ours: accelerate's
# Warm-up of the weight average: at first its decay is 1 − (1 + step / EMA_INV_GAMMA)^−EMA_POWER, below `ema_decay`.
EMA_INV_GAMMA, EMA_POWER = 1.0, 0.75


@dataclass
class LoopRun(ABC):
    """What changes while training, and what is made of the slice once; who trains says how a step is taken."""

    loss_names: ClassVar[tuple[str, ...]] = ("loss",)  # columns of training.csv

    options: LoopTraining
    data: TrainingData
    accelerator: Accelerator
    seed_keys: dict[str, str | int]
    step: int = field(default=0, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)
    energy_joules: float | None = field(default=0.0, kw_only=True)  # None: some part was not measured
    energy_sources: list[str] = field(default_factory=list, kw_only=True)
    log: list[dict[str, float]] = field(default_factory=list, kw_only=True)
    losses: list[list[float]] = field(default_factory=list, kw_only=True)  # since the last row of the log
    environments: list[dict[str, object]] = field(default_factory=list, kw_only=True)

    @property
    @abstractmethod
    def kept_steps(self) -> list[int]:
        """Steps whose weights are kept, increasing; the last one is the training's last."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What is trained, for progress lines."""

    @property
    @abstractmethod
    def stateful(self) -> dict[str, Stateful]:
        """What learns, by name."""

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then constant: the weight average takes the place of a decay."""
        return warmed_up(self.options, step)

    @abstractmethod
    def start(self) -> None:
        """Compile, wrap and place what the steps need; called once, after a resume."""

    @abstractmethod
    def take_step(self, rows: Tensor, own: Tensor) -> Tensor:
        """Take step `self.step` (from 0) and return its numbers (M,) on the device: `loss_names` first.

        rows: (B',) int64, this process's rows of the training data; own: (B',) their slots in the global batch.
        The numbers after the losses are only checked to be finite.
        """

    @abstractmethod
    def save_parts(self, folder: Path) -> None:
        """Write the averaged weights of now, a folder for each part (`PARTS`)."""

    @abstractmethod
    def facts(self) -> dict[str, object]:
        """What the manifest says of this family beyond what every family says; `parameters` among it."""

    @abstractmethod
    def described(self, job: Job) -> dict[str, object]:
        """What the manifest says of what was trained: names, shapes, conditions."""

    def save_extras(self, folder: Path) -> list[str]:
        """Write what the published folder holds besides the network; return the files' names."""
        return []


@dataclass
class Run(LoopRun):
    """The training of a generator, of any family."""

    options: GeneratorTraining

    @property
    @abstractmethod
    def encoder(self) -> ConditionEncoder:
        """The generator's condition encoder."""

    @property
    def kept_steps(self) -> list[int]:
        return snapshot_steps(self.options)

    @property
    def title(self) -> str:
        return f"generator {self.seed_keys['generator']}"

    def described(self, job: Job) -> dict[str, object]:
        entry = training_slice(TrainingSlice, job)
        return {
            "generator": entry.generator,
            "index": entry.index,
            "module": job.slice["module"],
            "network_module": entry.network.module,
            "condition_on": entry.condition_on,
            "condition_columns": self.encoder.columns,
            **({"ema_decays": self.options.kept_decays} if self.options.ema_decays else {}),
        }


def warmed_up(options: LoopTraining, step: int) -> float:
    """Return the learning rate of `step` (from 0) after a linear warm-up."""
    return options.learning_rate * min(1.0, (step + 1) / max(options.warmup_steps, 1))


def training_options(kind: type[Training], job: Job, section: str = "generators") -> Training:
    """Return the options of a training job, those of the log and of saving from the environment.

    section: of the config that its entry is in.
    """
    entry = job.slice
    own = settings(section, entry[section.removesuffix("s")])
    return checked(kind, {**entry["training"], **own}, "training", of_slice=True)


def common_parts(job: Job, options: GeneratorTraining) -> tuple[TrainingData, Accelerator, dict[str, str | int]]:
    """Return what every family's run begins with: data, accelerator and the keys of its seeds."""
    accelerator = new_accelerator(options)
    entry = training_slice(TrainingSlice, job)
    keys: dict[str, str | int] = {"study": entry.seed, "generator": entry.generator, "index": entry.index}
    return job_training_data(job, f"generators.{entry.generator}"), accelerator, keys


def new_accelerator(options: LoopTraining) -> Accelerator:
    """Return accelerate's view of devices, processes and precision, once all processes of the job are there.

    Raises SynthGainError for an uneven batch, or where there are fewer GPUs than processes.
    """
    device = chosen_device()
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if options.batch_size % processes:
        raise SynthGainError(f"training.batch_size {options.batch_size}: not a multiple of the {processes} processes")
    join_processes(device)
    make_deterministic(device)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=PRECISIONS[options.precision])
    if not accelerator.is_main_process:
        logger.setLevel(logging.ERROR)  # what all of them would say, the first one says
    return accelerator


def join_processes(device: torch.device) -> None:
    """Join the other processes of this job where our launcher started several; accelerate joins those of another."""
    if RENDEZVOUS not in os.environ:
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device.type == "cuda":
        if count > torch.cuda.device_count():
            raise SynthGainError(
                f"compute.generator_processes {count}: this job sees {torch.cuda.device_count()} GPUs; ask for as many"
            )
        torch.cuda.set_device(rank)
    backend = "nccl" if device.type == "cuda" else "gloo"
    place = f"file://{os.environ[RENDEZVOUS]}"
    torch.distributed.init_process_group(backend, init_method=place, rank=rank, world_size=count)


def weight_averages(module: nn.Module, decays: Iterable[float]) -> Averages:
    """Return the running averages of a module's weights, with their warm-up."""
    return Averages({decay: _average(module, decay) for decay in decays})


def _average(module: nn.Module, decay: float) -> EMAModel:
    parameters = module.parameters()
    return EMAModel(
        parameters, decay=decay, use_ema_warmup=True, inv_gamma=EMA_INV_GAMMA, power=EMA_POWER, foreach=True
    )


def state_of(run: LoopRun) -> dict[str, object]:
    """Everything a later process needs to go on as if nothing had happened."""
    return {
        "step": run.step,
        **{name: part.state_dict() for name, part in run.stateful.items()},
        "seconds": run.seconds,
        "energy_joules": run.energy_joules,
        "energy_sources": run.energy_sources,
        "log": run.log,
        "losses": run.losses,
        "environments": run.environments,
    }


def resume(run: LoopRun, checkpoints: Checkpoints, snapshots: GuardedFolder) -> None:
    """Put the newest usable state into `run`; without one, or without its snapshots, training starts afresh."""
    with run.accelerator.main_process_first():  # it removes what is damaged before the others look
        found = checkpoints.load_latest()
    due = [step for step in run.kept_steps if found is not None and step <= found[0]]
    missing = [step for step in due if snapshots.find(str(step)) is None]
    if missing:
        logger.warning("%s: snapshot %d is missing or damaged, starting afresh", snapshots.folder, missing[0])
    if found is None or missing:
        return
    step, state = found
    for name, part in run.stateful.items():
        if isinstance(part, torch.optim.Optimizer):
            load_optimizer(part, state[name])
            continue
        if isinstance(part, Averages):
            part.load_state_dict(state[name], run.accelerator.device)
            continue
        part.load_state_dict(state[name])
    run.step, run.seconds, run.log, run.losses = step, state["seconds"], state["log"], state["losses"]
    run.energy_joules, run.energy_sources = state["energy_joules"], state["energy_sources"]
    run.environments = state["environments"]
    logger.info("resumed at step %d of %d", step, run.options.steps)


def check_agreement(run: LoopRun) -> None:
    """Raise SynthGainError where the processes of a job resumed at different steps."""
    steps = run.accelerator.gather(torch.tensor([run.step], device=run.accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise SynthGainError(f"the processes read states of different steps ({steps}); run snakemake again")


def snapshots_of(job: Job) -> GuardedFolder:
    """Return the snapshots that a training job has kept so far, by their step."""
    return GuardedFolder(job.state_folder() / "snapshots", job.identity)
