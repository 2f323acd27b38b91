"""Options of classifier training that some published protocols had: Lion, label smoothing, averages, patience."""

from pathlib import Path
from typing import Any

import pytest
import torch
from downstream_jobs import write_dataset
from studies import tiny
from test_downstream_training import StopAt, trainer_of
from torch import nn

from synthgain.downstream.classification import Task, masked_loss
from synthgain.downstream.optimisers import Average, Lion
from synthgain.pools.sampling import guided_denoiser
from synthgain.runtime.checkpoints import Checkpoints, tensor_digest
from synthgain.runtime.command import Terminated
from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    return folder, write_dataset(folder, "a"), {}


def test_two_steps_of_lion_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    lion = Lion([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.tensor([3.0, -0.01, 0.0])
    lion.step()  # momentum 0: the sign of the gradient; decay 1 − 0.1 · 0.5
    torch.testing.assert_close(weight.data, torch.tensor([0.95 - 0.1, -1.9 + 0.1, 0.475]))
    weight.grad = torch.tensor([-0.1, 0.01, 1.0])  # against a momentum of 0.03 and −0.0001: 0.9 m + 0.1 g
    lion.step()
    torch.testing.assert_close(weight.data, torch.tensor([0.8075 - 0.1, -1.71 - 0.1, 0.45125 - 0.1]))


@pytest.mark.parametrize(
    ("kind", "labels", "targets", "smoothed"),
    [
        ("multi-label", ("a", "b"), [[1.0, 0.0], [0.0, float("nan")]], [[0.9, 0.1], [0.1, float("nan")]]),
        ("multi-class", ("a", "b", "c", "d"), [[0.0, 1.0, 0.0, 0.0]], [[0.05, 0.85, 0.05, 0.05]]),
    ],
)
def test_labels_are_smoothed_in_training_alone_and_unknown_ones_stay(
    kind: Any, labels: tuple[str, ...], targets: list[list[float]], smoothed: list[list[float]]
) -> None:
    task, plain = Task(kind, labels, labels, smoothing=0.2), Task(kind, labels, labels)
    logits, weights = torch.randn(len(targets), len(labels)), torch.ones(len(targets))
    found = task.loss(logits, torch.tensor(targets), weights)
    torch.testing.assert_close(found, masked_loss(plain, logits, torch.tensor(smoothed), weights))
    judged = [each.validate(iter([(logits, torch.tensor(targets))]))[0] for each in (task, plain)]
    assert judged[0] == judged[1]


def test_the_average_follows_the_weights_with_its_decay() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(0.0)
    average = Average(network, 0.5)
    for step, value in enumerate((11.0, 12.0), start=1):
        network.weight.data.fill_(value)
        average.update(network, step)
    first = 11 * (1 - 2 / 11)  # at step 1 the decay is 2/11, at step 2 a quarter
    assert float(average.network.weight) == pytest.approx(first * 3 / 12 + 12 * 9 / 12)


@pytest.mark.parametrize("options", [{"optimiser": "lion", "learning_rate": 3e-4}, {"ema_decay": 0.9}], ids=str)
def test_an_interrupted_training_with_them_ends_in_the_same_bits(
    run: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = trainer_of(run, **options).train(Checkpoints(tmp_path / "whole", "i"))
    with pytest.raises(Terminated):
        trainer_of(run, **options).train(Checkpoints(tmp_path / "cut", "i"), StopAt(5))  # type: ignore[arg-type]
    again = trainer_of(run, **options).train(Checkpoints(tmp_path / "cut", "i"))
    assert tensor_digest(again.best) == tensor_digest(whole.best)
    assert tensor_digest(whole.best) != tensor_digest(trainer_of(run).train(Checkpoints(tmp_path / "plain", "i")).best)


def test_patience_ends_a_training_that_gets_no_better_and_once_more_it_does_nothing(run: Any, tmp_path: Path) -> None:
    options = {"learning_rate": 1e-12, "patience": 2, "validate_every": 2, "steps": 40, "warmup_steps": 0}
    trainer = trainer_of(run, **options)
    done = trainer.train(Checkpoints(tmp_path, "i"))
    assert done.step == done.best_step + 4 < 40
    assert [row[0] for row in done.log] == list(range(2, done.step + 1, 2))


class Two:
    """Denoises to the condition's image, whatever is given."""

    sigma_min, sigma_max = 0.01, 1.0

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor, condition: float) -> torch.Tensor:
        return condition * torch.linspace(-1, 1, x[0].numel()).reshape(x.shape[1:]).expand_as(x)

    def null_condition(self, count: int, **told: str) -> float:
        return 0.5


@pytest.mark.parametrize(("rescale", "contrast"), [(0.0, 2.5), (1.0, 1.0), (0.7, 0.7 * 1.0 + 0.3 * 2.5)])
def test_guidance_rescale_gives_a_guided_image_the_contrast_that_it_has_without(
    rescale: float, contrast: float
) -> None:
    denoise = guided_denoiser(Two(), 1.0, 2, 4.0, None, None, rescale)  # type: ignore[arg-type]
    drawn = denoise(torch.zeros(2, 1, 4, 4), 1.0)
    torch.testing.assert_close(drawn, contrast * torch.linspace(-1, 1, 16).reshape(1, 4, 4).expand(2, 1, 4, 4))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models__cnn__patience": 3, "models__cnn__selection": "last"}, "patience: the last checkpoint is taken"),
        ({"models__cnn__label_smoothing": 1.0}, "label_smoothing"),
        ({"models__cnn__optimiser": "lyon"}, "did you mean 'lion'|lion"),
        ({"pools__drawn__sampling__guidance_rescale": 0.7}, "guidance_rescale: does nothing without guidance"),
    ],
)
def test_what_makes_no_sense_is_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SynthGainError, match=said) as error:
        parse_study(tiny(**change))
    assert "\n" not in str(error.value)


def test_who_uses_none_of_them_has_none_in_a_slice() -> None:
    study = parse_study(tiny())
    added = {"label_smoothing", "ema_decay", "patience", "optimiser", "guidance_rescale"}
    assert not added & {*study.models["cnn"].dump(), *study.pools["drawn"].sampling.dump()}
    asked = parse_study(tiny(models__cnn__patience=3)).models["cnn"].dump()
    assert asked["patience"] == 3
