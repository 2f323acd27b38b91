"""Augmentation: by slot and seed alone, laterality kept, bad settings refused."""

import pytest
import torch

from synthgain.downstream.augmentation import (
    NONE,
    STANDARD,
    STRONG,
    Augmentation,
    augment,
    augmentation_of,
)
from synthgain.runtime.errors import SynthGainError

LABELS = torch.tensor([[0.0], [1.0], [float("nan")], [1.0]])


def batch(seed: int = 0) -> torch.Tensor:
    return torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_none_changes_nothing() -> None:
    images, targets = augment(NONE, batch(), LABELS, 1)
    assert torch.equal(images, batch())
    assert targets is LABELS


@pytest.mark.parametrize("recipe", [STANDARD, STRONG])
def test_draws_depend_on_seed_and_slot_only(recipe: Augmentation) -> None:
    first, _ = augment(recipe, batch(), LABELS, 5)
    again, _ = augment(recipe, batch(), LABELS, 5)
    other, _ = augment(recipe, batch(), LABELS, 6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    changed = batch()
    changed[0] = batch(9)[0]
    mixed, _ = augment(recipe, changed, LABELS, 5)
    assert torch.equal(mixed[1:], first[1:])
    assert first.abs().max() <= 1
    assert first.shape == batch().shape


def test_strong_moves_images_further_than_standard() -> None:
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(batch(), (3,) * 4, mode="reflect"), 7, 1)
    near = (augment(STANDARD, smooth, LABELS, 3)[0] - smooth).abs().mean()
    far = (augment(STRONG, smooth, LABELS, 3)[0] - smooth).abs().mean()
    assert far > near > 0


def test_laterality_forbids_flips_and_flips_exchange_left_and_right_only() -> None:
    assert augmentation_of("strong", {"laterality": True}, "m").flip == 0
    assert augmentation_of("strong", {"laterality": False}, "m").flip == 0.5
    flipped, _ = augment(Augmentation(flip=1.0), batch(), LABELS, 0)
    assert torch.allclose(flipped, batch().flip(3), atol=1e-5)


def test_mixup_mixes_images_and_targets_alike_and_keeps_unknown_ones_unknown() -> None:
    images = torch.stack([torch.full((1, 4, 4), value) for value in (-1.0, 1.0, 0.5, 1.0)])
    mixed, targets = augment(Augmentation(mixup=0.4), images, LABELS, 2)
    share = (mixed[0, 0, 0, 0] + 1) / 2  # of slot 3's image in slot 0
    assert targets[0, 0] == pytest.approx(float(share), abs=1e-6)
    assert 0 < share <= 0.5
    assert targets[1].isnan()
    assert targets[2].isnan()


def test_cutout_erases_a_square() -> None:
    images, _ = augment(Augmentation(cutout=0.5), torch.ones(64, 1, 16, 16), LABELS.repeat(16, 1), 2)
    erased = (images == 0).float().mean(dim=(1, 2, 3))
    assert erased.max() <= 0.25
    assert erased.min() >= 0.0625 - 1e-6  # a centre in the corner leaves a quarter of the square


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strong": {"rotate": 3}}, "unknown key 'rotate'; did you mean 'rotation'"),
        ({"strong": {"noise": -1}}, "noise: Input should be greater than or equal to 0"),
    ],
)
def test_bad_settings_give_one_line(settings: dict, words: str) -> None:
    with pytest.raises(SynthGainError, match=words) as caught:
        augmentation_of("strong", settings, "model cnn")
    assert "\n" not in str(caught.value)
    with pytest.raises(SynthGainError, match="unknown augmentation"):
        augmentation_of("heavy", {}, "model cnn")
