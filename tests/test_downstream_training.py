"""The training loop: tasks, masks, selection, exact resume, errors."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from downstream_jobs import model_slice, train_job, write_dataset, write_pool

from synthgain.downstream import cell as cell_module
from synthgain.downstream.augmentation import STRONG
from synthgain.downstream.cell import read_cell
from synthgain.downstream.classification import Task, masked_loss
from synthgain.downstream.options import TrainingModel
from synthgain.downstream.prediction import build_network
from synthgain.downstream.training import Progressed, Trainer, learning_rate
from synthgain.runtime.checkpoints import Checkpoints, tensor_digest
from synthgain.runtime.command import Terminated
from synthgain.runtime.errors import SynthGainError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    inputs = write_dataset(folder, "a")
    return folder, inputs, write_pool(folder, "copier", "a", 2)


def trainer_of(run: Any, arm: dict[str, Any] | None = None, ratio: int = 0, **model: Any) -> Trainer:
    folder, inputs, pool = run
    arm = arm or {}
    job = train_job(
        folder, inputs, arm, ratio, model_slice(**model), pool_inputs=pool if arm.get("synthetic") else None
    )
    cell = read_cell(job)
    data, validation = cell.build(job, 0)
    torch.manual_seed(cell.seed_of("initialisation", 0))
    network = build_network(cell.model.network, 1, len(cell.task.labels), 16, "m")
    recipe = TrainingModel.model_validate(job.slice["model"])
    seed = cell.seed_of("augmentation", 0)
    return Trainer(network, cell.task, data, validation, recipe, STRONG, seed, torch.device("cpu"), cell.where)


def trained(run: Any, folder: Path, **more: Any) -> Progressed:
    return trainer_of(run, **more).train(Checkpoints(folder, "i"))


class StopAt:
    """A stop signal that comes at the n-th look."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.mark.parametrize("stops", [[1], [5], [3, 4, 2], [4, 4]])
def test_interrupted_training_ends_in_the_same_bits(run: Any, tmp_path: Path, stops: list[int]) -> None:
    arm = {"name": "sup", "synthetic": "copier", "source": "a", "pretrain": {"share": 0.4}}
    whole = trained(run, tmp_path / "whole", arm=arm, ratio=100)
    for looks in stops:
        with pytest.raises(Terminated, match="state saved"):
            trainer_of(run, arm, 100).train(Checkpoints(tmp_path / "cut", "i"), StopAt(looks))  # type: ignore[arg-type]
    resumed = trainer_of(run, arm, 100)
    assert resumed._restore(Checkpoints(tmp_path / "cut", "i")).step == sum(stops)
    again = resumed.train(Checkpoints(tmp_path / "cut", "i"))
    assert tensor_digest(again.best) == tensor_digest(whole.best)
    assert [row[:-1] for row in again.log] == [row[:-1] for row in whole.log]
    assert again.real_exposures == whole.real_exposures


def test_repeats_and_a_copier_pool_train_the_same_weights(run: Any, tmp_path: Path) -> None:
    arms = ({"name": "rep", "repeat": True}, {"name": "sup", "synthetic": "copier", "source": "a"}, {})
    digests = [
        tensor_digest(trained(run, tmp_path / str(i), arm=arm, ratio=150 if arm else 0).best)
        for i, arm in enumerate(arms)
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("targets", "outputs"), [(["opacity"], 1), (["opacity", "nodule"], 2), (["kind"], 3)])
def test_every_task_learns(run: Any, tmp_path: Path, targets: list[str], outputs: int) -> None:
    options = {"targets": targets, "steps": 40, "batch_size": 16, "learning_rate": 2e-2}
    done = trained(run, tmp_path, **options, validate_every=10)
    assert done.best["head.weight"].shape[0] == outputs
    assert done.best_step in (10, 20, 30, 40)
    assert [row[0] for row in done.log] == [10, 20, 30, 40]
    assert all(math.isfinite(row[2]) for row in done.log)
    if targets == ["opacity"]:
        assert done.log[-1][3] > 0.9


def test_selection_keeps_the_best_or_the_last(run: Any, tmp_path: Path) -> None:
    options = {"steps": 40, "validate_every": 2, "learning_rate": 0.05}
    best = trained(run, tmp_path / "best", **options)
    losses = [row[2] for row in best.log]
    assert best.best_step == 2 * (1 + int(np.argmin(losses)))
    by_auroc = trained(run, tmp_path / "auroc", **options, selection_metric="auroc")
    assert by_auroc.best_step == 2 * (1 + int(np.argmax([row[3] for row in by_auroc.log])))
    assert trained(run, tmp_path / "last", **options, selection="last").best_step == 40


def test_synthetic_selection_holds_patients_out(run: Any) -> None:
    arm = {"name": "sup", "synthetic": "copier", "source": "a"}
    trainer = trainer_of(run, arm, 100, selection="synthetic")
    assert trainer.data.facts["n_synthetic"] + len(trainer.validation.targets) == 36
    assert len(trainer_of(run, selection="synthetic").validation.targets) == 12  # an arm without pool: real


def test_loss_that_is_not_finite_names_the_step(run: Any, tmp_path: Path) -> None:
    trainer = trainer_of(run)
    with torch.no_grad():
        trainer.network.head.bias.fill_(float("nan"))
    checkpoints = Checkpoints(tmp_path, "i")
    with pytest.raises(SynthGainError, match=r"model cnn, arm real, ratio 0.*, step 1: loss is nan"):
        trainer.train(checkpoints)
    assert checkpoints.load_latest() is not None


@pytest.mark.parametrize("kind", ["multi-label", "multi-class"])
def test_unknown_labels_neither_count_nor_pull(kind: Any) -> None:
    task = Task(kind, ("a",), ("x", "y"))
    logits = torch.randn(4, 2, requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [float("nan")] * 2, [1.0, 0.0]])
    loss = masked_loss(task, logits, targets, torch.ones(4))
    loss.backward()
    assert (logits.grad[2] == 0).all()
    known = masked_loss(task, logits[[0, 1, 3]], targets[[0, 1, 3]], torch.ones(3))
    assert loss.item() == pytest.approx(known.item())
    assert masked_loss(task, logits[2:3], targets[2:3], torch.ones(1)).item() == 0


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    recipe = TrainingModel.model_validate(model_slice(warmup_steps=10, learning_rate=1.0))
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[0] < rates[9] < rates[10] == 1.0
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert rates[-1] < 1e-3
    constant = TrainingModel.model_validate(model_slice(schedule="constant", learning_rate=1.0))
    assert learning_rate(constant, 99, 100) == 1.0


def test_replicates_that_share_a_pool_read_it_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, inputs, pool = run
    reads = []
    read = cell_module.read_replicas
    monkeypatch.setattr(cell_module, "read_replicas", lambda *a, **k: reads.append(a) or read(*a, **k))
    arm = {"name": "sup", "synthetic": "copier", "source": "a"}
    job = train_job(folder, inputs, arm, 100, replicates=(0, 1), pool_inputs=pool)
    shared = read_cell(job)
    for replicate in (0, 1):
        again, _ = shared.build(job, replicate)
    assert len(reads) == 1
    alone, _ = read_cell(job).build(job, 1)
    assert np.array_equal(again.targets, alone.targets)
    assert np.array_equal(again.synthetic, alone.synthetic)
    assert again.facts == alone.facts
