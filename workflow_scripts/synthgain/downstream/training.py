"""The training loop of any task: steps, validation, checkpoint selection, exact resume.

Everything random in a step follows from (seed, step), so a state holds no generator: batch order,
augmentation draws and dropout are the same whether or not the loop was interrupted before.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import nn

from synthgain.data.batch_order import mix
from synthgain.device import compiled, load_optimizer, memory_format
from synthgain.downstream.arms import TrainingSet
from synthgain.downstream.augmentation import Augmentation, augment, random_crops
from synthgain.downstream.optimisers import OPTIMISERS, Average
from synthgain.downstream.options import TrainingModel
from synthgain.downstream.prediction import predict_batches
from synthgain.downstream.rows import BatchStore, Rows, batch_targets, mask_store
from synthgain.downstream.tasks import Batches, TaskLike
from synthgain.runtime.checkpoints import Checkpoints
from synthgain.runtime.command import Progress, StopSignal, Terminated
from synthgain.runtime.environment import environment, note_environment
from synthgain.runtime.errors import SynthGainError

SAVE_SHARE = 0.02  # of the time at most goes into saving …
SAVE_SECONDS = 1.0  # … and no two saves are closer than this
LOSS_CHECK_STEPS = 25  # a device is asked for its losses this often, and before every validation and save


class DivergedError(SynthGainError):
    """A loss that is not finite: the training failed, which is a result of its recipe. step: from 1."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class Validation:
    """The images that choose the checkpoint, real in all arms unless the study says otherwise."""

    store: BatchStore
    masks: BatchStore | None
    targets: np.ndarray

    @classmethod
    def of(cls, rows: Rows, where: str) -> "Validation":
        """Take labelled rows; SynthGainError where there is none."""
        rows = rows.labelled()
        if len(rows) == 0:
            raise SynthGainError(f"{where}: no labelled validation image; give the split a validation part")
        return cls(BatchStore([rows], where), mask_store([rows], where) if rows.planes else None, rows.targets)

    def batches(self, task: TaskLike, network: nn.Module, device: torch.device, precision: str) -> Batches:
        """Yield (logits, targets) of all images; the network is left in eval mode."""
        network.eval()
        first = 0
        for logits in predict_batches(
            lambda images: task.logits(network, images), self.store, device, precision, task.prediction_batch
        ):
            rows = np.arange(first, first + len(logits))
            known = torch.from_numpy(self.targets[rows]).to(logits.device)
            yield logits, batch_targets(known, self.masks, rows, device)
            first += len(logits)


@dataclass
class Progressed:
    """What grows while training: counters, log rows, and the best checkpoint so far."""

    step: int = 0
    seconds: float = 0.0
    real_exposures: int = 0
    synthetic_exposures: int = 0
    log: list[list[float]] = field(default_factory=list)
    best_score: float = math.inf
    best_step: int = 0
    best_metric: float = math.nan
    best_loss: float = math.nan
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    sum_loss: float = 0.0
    logged_step: int = 0
    logged_seconds: float = 0.0
    environments: list[dict[str, object]] = field(default_factory=list)


def log_columns(task: TaskLike) -> tuple[str, ...]:
    """Return the columns of `Progressed.log`."""
    exposures = ("real_exposures", "synthetic_exposures")
    return (
        "step", "train_loss", "validation_loss", f"validation_{task.metric}", "learning_rate", *exposures,
        "images_per_second",
    )  # fmt: skip


def learning_rate(recipe: TrainingModel, step: int, steps: int) -> float:
    """Return the rate of step `step` (from 0) of a phase of `steps`: linear warm-up, then as scheduled."""
    warmup = min(recipe.warmup_steps, steps // 2)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule == "step":
        return recipe.learning_rate * (recipe.step_factor if step >= round(recipe.step_at * steps) else 1.0)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def step_seed(seed: int, step: int) -> int:
    """Return the 63-bit seed of one step."""
    mixed = mix(mix(np.array([seed], dtype=np.uint64)) + np.uint64(step))
    return int(mixed[0] >> np.uint64(1))


class Trainer:
    """Trains one network on one training set, from its newest checkpoint."""

    def __init__(
        self,
        network: nn.Module,
        task: TaskLike,
        data: TrainingSet,
        validation: Validation,
        recipe: TrainingModel,
        augmentation: Augmentation,
        seed: int,
        device: torch.device,
        where: str,
    ) -> None:
        self.network = network.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
        self.forward: Callable[[torch.Tensor], torch.Tensor] = self.network
        if recipe.compile:
            self.forward = compiled(self.network, device)
        self.task, self.data, self.validation, self.recipe = task, data, validation, recipe
        self.augmentation, self.seed, self.device, self.where = augmentation, seed, device, where
        self.targets = torch.from_numpy(data.targets).to(device)
        self.weights = torch.from_numpy(data.weights).to(device)
        self.progressed = Progressed()
        self.optimiser = self._new_optimiser()
        self.average = None if recipe.ema_decay is None else Average(self.network, recipe.ema_decay)
        self._losses: list[torch.Tensor] = []
        for store in (data.store, data.masks, validation.store, validation.masks):
            if store is not None:
                store.to_device(device)

    def train(self, checkpoints: Checkpoints, stop: StopSignal | None = None) -> Progressed:
        """Run to the last step and return what was reached; `best` holds the chosen weights.

        Raises Terminated after saving where `stop` was requested, DivergedError for a loss that is not finite.
        """
        done = self._restore(checkpoints)
        note_environment(done.environments, environment(self.device), from_step=done.step)
        bar = Progress(self.where, self.data.steps, done.step)
        if not checkpoints.load_latest():
            self._save(checkpoints)
        started, saved, cost = time.monotonic() - done.seconds, time.monotonic(), 0.0
        while done.step < self.data.steps and not self._worn_out():
            self._step()
            done.seconds = time.monotonic() - started
            if done.step % self.recipe.validate_every == 0 or done.step == self.data.steps:
                self._validate()
            bar.advance()
            now = time.monotonic()
            due = now - saved > max(SAVE_SECONDS, cost / SAVE_SHARE)
            stopped = stop is not None and stop.requested
            if stopped or (due and done.step < self.data.steps):
                self._save(checkpoints)
                saved, cost = time.monotonic(), time.monotonic() - now
            if stopped:
                raise Terminated(f"{self.where} at step {done.step}, state saved")
        return done

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept: the average, if there is one."""
        return self.network if self.average is None else self.average.network

    def _worn_out(self) -> bool:
        """True where `patience` validations of the last phase brought nothing better."""
        done, patience = self.progressed, self.recipe.patience
        return (
            patience is not None
            and bool(done.best)
            and done.step - done.best_step >= (patience * self.recipe.validate_every)
        )

    def _step(self) -> None:
        done = self.progressed
        index, local = self.data.place(done.step)
        phase = self.data.phases[index]
        if local == 0 and index > 0:
            self.optimiser = self._new_optimiser()  # fine-tuning starts with clean moments
        rate = learning_rate(self.recipe, local, phase.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        rows = phase.batch(local, self.recipe.batch_size)
        seed = step_seed(self.seed, done.step)
        torch.manual_seed(seed)  # for layers that draw (dropout, stochastic depth)
        picked = torch.from_numpy(rows).to(self.device, non_blocking=True)
        targets = batch_targets(self.targets[picked], self.data.masks, rows, self.device)
        images, targets = augment(self.augmentation, self.data.store.batch(rows, self.device), targets, seed)
        if self.task.window is not None:
            images, targets = random_crops(images, targets, self.task.window, step_seed(seed, done.step))
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = self.forward(images.contiguous(memory_format=memory_format(self.device)))
        loss = self.task.loss(logits, targets, self.weights[picked])
        loss.backward()
        self.optimiser.step()
        self._losses.append(loss.detach())
        done.step += 1
        if self.average is not None:
            self.average.update(self.network, done.step)
        synthetic = int(self.data.synthetic[rows].sum())
        done.synthetic_exposures += synthetic
        done.real_exposures += len(rows) - synthetic
        if len(self._losses) >= LOSS_CHECK_STEPS:
            self._collect_losses()

    def _collect_losses(self) -> None:
        """Add the losses since the last call to the running sum; DivergedError where one is not finite."""
        if not self._losses:
            return
        losses = torch.stack(self._losses).double().cpu()
        bad = torch.nonzero(~losses.isfinite()).flatten()
        if len(bad):
            step = self.progressed.step - len(losses) + int(bad[0]) + 1
            raise DivergedError(
                f"{self.where}, step {step}: loss is {float(losses[bad[0]])}; "
                "lower the learning rate or use precision: float32",
                step,
            )
        for value in losses.tolist():  # one by one: the sum does not depend on when it was collected
            self.progressed.sum_loss += value
        self._losses.clear()

    def _validate(self) -> None:
        self._collect_losses()
        done = self.progressed
        precision = self.recipe.precision
        loss, metric = self.task.validate(self.validation.batches(self.task, self.judged, self.device, precision))
        if not math.isfinite(loss):
            message = f"{self.where}, step {done.step}: validation loss is {loss}; lower the learning rate"
            raise DivergedError(message, done.step)
        index, local = self.data.place(done.step - 1)
        if index == len(self.data.phases) - 1:
            self._select(loss, metric)
        steps = done.step - done.logged_step
        speed = steps * self.recipe.batch_size / max(done.seconds - done.logged_seconds, 1e-9)
        rate = learning_rate(self.recipe, local, self.data.phases[index].steps)
        train_loss = done.sum_loss / max(steps, 1)
        done.log.append(
            [done.step, train_loss, loss, metric, rate, done.real_exposures, done.synthetic_exposures, speed]
        )
        done.sum_loss, done.logged_step, done.logged_seconds = 0.0, done.step, done.seconds

    def _select(self, loss: float, metric: float) -> None:
        """Keep the weights if they are the best so far (the earliest of equals), or always where the last is asked."""
        done = self.progressed
        by_metric = self.recipe.selection_metric != "loss"
        if by_metric and math.isnan(metric):
            name = self.recipe.selection_metric
            raise SynthGainError(f"{self.where}: selection_metric {name}, but validation lacks a class; use loss")
        score = -metric if by_metric else loss
        if self.recipe.selection == "last" or not done.best or score < done.best_score:
            done.best_score, done.best_step, done.best_metric, done.best_loss = score, done.step, metric, loss
            done.best = {name: value.detach().cpu().clone() for name, value in self.judged.state_dict().items()}

    def _new_optimiser(self) -> torch.optim.Optimizer:
        return OPTIMISERS[self.recipe.optimiser](self.network, self.recipe)

    def _save(self, checkpoints: Checkpoints) -> None:
        self._collect_losses()
        state = {part.name: getattr(self.progressed, part.name) for part in fields(Progressed)}
        network = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        checkpoints.save(
            self.progressed.step,
            {
                "network": network,
                "optimiser": self.optimiser.state_dict(),
                "progressed": state,
                **({} if self.average is None else {"average": self.average.state()}),
            },
        )

    def _restore(self, checkpoints: Checkpoints) -> Progressed:
        found = checkpoints.load_latest()
        if found is not None:
            _, state = found
            self.network.load_state_dict(state["network"])
            load_optimizer(self.optimiser, state["optimiser"])
            self.progressed = Progressed(**state["progressed"])
            if self.average is not None:
                self.average.network.load_state_dict(state["average"])
        return self.progressed
