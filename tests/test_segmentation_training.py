"""Segmenters in the training loop: loss, augmentation of pairs, arms, exact resume, errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from downstream_jobs import STRUCTURES, pairs_of, segmenter_slice, train_job, write_dataset, write_pairs, write_pool
from job_inputs import paths_of
from monai.losses import DiceCELoss

from synthgain.downstream.arms import TrainingSet, chosen_parents
from synthgain.downstream.augmentation import STRONG, Augmentation, augment, random_crops
from synthgain.downstream.cell import read_cell, rows_of
from synthgain.downstream.options import TrainingModel
from synthgain.downstream.prediction import build_network
from synthgain.downstream.rows import batch_targets
from synthgain.downstream.segmentation import Segmentation
from synthgain.downstream.training import Progressed, Trainer, log_columns
from synthgain.runtime.checkpoints import Checkpoints, tensor_digest
from synthgain.runtime.command import Terminated
from synthgain.runtime.errors import SynthGainError

SUPPLEMENTED = {"name": "sup", "synthetic": "copier", "source": "a"}
SIBLINGS = {**SUPPLEMENTED, "sibling_probability": 0.5}
Run = tuple[Path, dict[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    inputs = write_pairs(folder, "a")
    return folder, inputs, write_pool(folder, "copier", "a", 2, planes=STRUCTURES[::-1])


def trainer_of(run: Run, arm: dict[str, Any] | None = None, ratio: int = 0, **model: Any) -> Trainer:
    folder, inputs, pool = run
    arm = arm or {}
    pools = pool if arm.get("synthetic") else None
    job = train_job(folder, inputs, arm, ratio, segmenter_slice(**model), pool_inputs=pools)
    cell = read_cell(job)
    data, validation = cell.build(job, 0)
    torch.manual_seed(0)
    network = build_network(cell.model.network, 1, len(cell.task.labels), cell.task.window or 16, "m")
    seed = cell.seed_of("augmentation", 0)
    recipe = TrainingModel.model_validate(job.slice["model"])
    return Trainer(network, cell.task, data, validation, recipe, STRONG, seed, torch.device("cpu"), cell.where)


def trained(run: Run, folder: Path, **more: Any) -> Progressed:
    return trainer_of(run, **more).train(Checkpoints(folder, "i"))


def built(run: Run, arm: dict[str, Any], ratio: int = 0, replicate: int = 0, **model: Any) -> TrainingSet:
    folder, inputs, pool = run
    pools = pool if arm.get("synthetic") else None
    job = train_job(folder, inputs, arm, ratio, segmenter_slice(**model), (replicate,), pools)
    return read_cell(job).build(job, replicate)[0]


class StopAt:
    """A stop signal that comes at the n-th look."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


@pytest.mark.parametrize(("window", "reached"), [(None, 0.8), (8, 0.6)])  # all foreground: 0.34
def test_two_overlapping_structures_are_learnt(run: Run, tmp_path: Path, window: int | None, reached: float) -> None:
    options = {"structures": ["organ", "lesion"], "steps": 60, "validate_every": 20, "learning_rate": 2e-2}
    done = trained(run, tmp_path, **options, window=window, selection_metric="dice")
    assert log_columns(Segmentation(("organ",)))[3] == "validation_dice"
    assert done.best_metric == max(row[3] for row in done.log)
    assert done.best_metric > reached


def test_interrupted_training_ends_in_the_same_bits(run: Run, tmp_path: Path) -> None:
    whole = trained(run, tmp_path / "whole", arm=SUPPLEMENTED, ratio=100)
    for looks in (3, 5):
        with pytest.raises(Terminated, match="state saved"):
            trainer_of(run, SUPPLEMENTED, 100).train(Checkpoints(tmp_path / "cut", "i"), StopAt(looks))  # type: ignore[arg-type]
    again = trainer_of(run, SUPPLEMENTED, 100).train(Checkpoints(tmp_path / "cut", "i"))
    assert tensor_digest(again.best) == tensor_digest(whole.best)
    assert [row[:-1] for row in again.log] == [row[:-1] for row in whole.log]


def test_repeats_and_a_copier_pool_with_other_planes_train_the_same_weights(run: Run, tmp_path: Path) -> None:
    arms = ({"name": "rep", "repeat": True}, SUPPLEMENTED)
    digests = [tensor_digest(trained(run, tmp_path / str(i), arm=arm, ratio=150).best) for i, arm in enumerate(arms)]
    assert digests[0] == digests[1]


def test_unknown_masks_neither_count_nor_pull() -> None:
    task = Segmentation(STRUCTURES)
    logits = torch.randn(3, 2, 8, 8, requires_grad=True)
    targets = (torch.rand(3, 2, 8, 8) > 0.5).float()
    targets[0, 1], targets[2] = torch.nan, torch.nan
    loss = task.loss(logits, targets, torch.ones(3))
    loss.backward()
    pulled = logits.grad.abs().sum(dim=(2, 3)) > 0
    assert pulled.tolist() == [[True, False], [True, True], [False, False]]
    known = torch.stack([logits[0, 0], logits[1, 0], logits[1, 1]])[:, None]
    truth = torch.stack([targets[0, 0], targets[1, 0], targets[1, 1]])[:, None]
    assert loss.item() == pytest.approx(DiceCELoss(sigmoid=True)(known, truth).item(), rel=1e-5)
    assert task.loss(logits[2:], targets[2:], torch.ones(1)).item() == 0


def test_validation_counts_known_masks_once_however_they_are_batched() -> None:
    task = Segmentation(("lesion",))
    targets = (torch.rand(7, 1, 8, 8) > 0.7).float()
    targets[3], targets[4] = torch.nan, 0.0
    logits = torch.randn(7, 1, 8, 8)
    loss, dice = task.validate([(logits, targets)])
    cut = task.validate([(logits[:3], targets[:3]), (logits[3:4], targets[3:4]), (logits[4:], targets[4:])])
    assert cut == pytest.approx((loss, dice), rel=1e-5)
    scored = [i for i in range(7) if i not in (3, 4)]  # unknown, and empty
    found = [
        2 * (targets[i].bool() & (logits[i] > 0)).sum() / (targets[i].sum() + (logits[i] > 0).sum()) for i in scored
    ]
    assert dice == pytest.approx(float(torch.stack(found).mean()), rel=1e-5)
    assert np.isnan(task.validate([(logits[4:5], targets[4:5])])[1])


def smooth_pairs(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (B, 1, H, W), and images that are the same masks in [-1, 1]."""
    masks = torch.from_numpy(pairs_of(count, 32, seed=1)[1][..., :1]).permute(0, 3, 1, 2).float()
    return 2 * masks - 1, masks


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_masks_move_with_their_images(flip: float) -> None:
    images, masks = smooth_pairs()
    recipe = Augmentation(rotation=20, translation=0.1, scale=0.2, flip=flip)
    moved, targets = augment(recipe, images, masks, 4)
    assert set(targets.unique().tolist()) == {0.0, 1.0}
    assert ((moved > 0).float() != targets).float().mean() < 0.001  # but for rounding at the border
    assert (targets != masks).float().mean() > 0.01
    again, _ = augment(recipe, images, torch.zeros(8, 1), 4)
    assert torch.equal(again, moved)  # masks change nothing about the images


def test_brightness_noise_and_cutout_leave_masks_alone_and_unknown_ones_stay_unknown() -> None:
    images, masks = smooth_pairs()
    _, targets = augment(Augmentation(brightness=0.5, contrast=0.5, gamma=0.5, noise=0.2, cutout=0.5), images, masks, 1)
    assert torch.equal(targets, masks)
    masks[2] = torch.nan
    _, targets = augment(STRONG, images, masks, 1)
    assert targets[2].isnan().all()
    assert not targets[[0, 1, *range(3, 8)]].isnan().any()


def test_mixup_mixes_masks_as_it_mixes_images() -> None:
    images, masks = smooth_pairs()
    mixed, targets = augment(Augmentation(mixup=0.4), images, masks, 2)
    assert torch.allclose(mixed, 2 * targets - 1, atol=1e-6)
    assert 0 < float(targets[(targets > 0) & (targets < 1)].max()) < 1


def test_crops_keep_image_and_mask_together() -> None:
    images, masks = smooth_pairs()
    cut, targets = random_crops(images, masks, 12, 5)
    assert cut.shape == (8, 1, 12, 12)
    assert torch.equal(cut, 2 * targets - 1)
    assert torch.equal(random_crops(images, masks, 12, 5)[0], cut)
    assert not torch.equal(random_crops(images, masks, 12, 6)[0], cut)
    assert torch.equal(random_crops(images, masks, 32, 5)[0], images)


def test_targets_carry_the_masks_that_rows_have(tmp_path: Path) -> None:
    known = np.arange(60) % 4 != 0
    job = train_job(
        tmp_path, write_pairs(tmp_path, "a", lesion=known), {}, model=segmenter_slice(structures=[*STRUCTURES])
    )
    data, validation = read_cell(job).build(job, 0)
    rows = np.arange(12)
    targets = batch_targets(torch.from_numpy(data.targets[rows]), data.masks, rows, torch.device("cpu"))
    unknown = np.isnan(data.targets[rows])
    assert (targets.isnan().numpy().all(axis=(2, 3)) == unknown).all()
    assert 0 < unknown[:, 0].sum() < 12
    assert not unknown[:, 1].any()
    assert validation.masks is not None
    assert data.facts["unlabelled"] == 0  # every row has the organ
    alone = train_job(tmp_path, paths_of(job.inputs), {}, model=segmenter_slice())
    assert read_cell(alone).build(alone, 0)[0].facts["unlabelled"] == 9


def test_siblings_are_the_children_of_half_the_images(run: Run) -> None:
    one, two = built(run, SIBLINGS, 100), built(run, SIBLINGS, 200)
    assert 8 <= one.facts["n_parents"] <= 28
    assert one.facts["n_real"] == 36
    assert one.facts["n_synthetic"] == one.facts["n_parents"] == two.facts["n_parents"]
    assert two.facts["n_synthetic"] == 2 * two.facts["n_parents"]
    others = [built(run, SIBLINGS, 100, replicate=r).facts["ids"] for r in (0, 1)]
    assert others[0] == one.facts["ids"] != others[1]
    organ = built(run, SIBLINGS, 100, structures=["organ"], name="other")
    assert organ.facts["ids"] == one.facts["ids"]  # the same parents for every model
    with pytest.raises(SynthGainError, match="sibling_probability: "):
        built(run, SIBLINGS, 300)


def test_parents_nest_over_probabilities(run: Run) -> None:
    job = train_job(run[0], run[1], {}, model=segmenter_slice())
    cell = read_cell(job)
    real = rows_of(cell.real, "train", cell.task, 1.0, 0)
    some, more = (set(chosen_parents(real, p, 7).image_ids) for p in (0.3, 0.7))
    assert some < more
    assert len(chosen_parents(real, 1.0, 7)) == len(real)


@pytest.mark.parametrize(
    ("planes", "words"), [((), "pool bare has no masks; a segmenter"), (("organ",), "no masks of 'lesion'")]
)
def test_pool_without_the_masks_is_one_clear_line(run: Run, tmp_path: Path, planes: tuple, words: str) -> None:
    inputs = write_pairs(tmp_path, "a")
    pool = write_pool(tmp_path, "bare", "a", 1, planes=planes)
    with pytest.raises(SynthGainError, match=words):
        built((tmp_path, inputs, pool), {**SUPPLEMENTED, "synthetic": "bare"}, 100)


def test_what_a_segmenter_cannot_train_on(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SynthGainError, match="balance is for classification"):
        built(run, {"balance": {"mode": "oversample", "targets": {"opacity": 0.5}}})
    with pytest.raises(SynthGainError, match="no mask 'heart' in the data set; its masks are lesion, organ"):
        built(run, {}, structures=["heart"])
    with pytest.raises(SynthGainError, match="window 24 is larger than the images of 16 px"):
        built(run, {}, window=24)
    with pytest.raises(SynthGainError, match="no mask 'lesion' in the data set; it has no masks"):
        built((tmp_path, write_dataset(tmp_path, "a"), {}), {})
    empty = tmp_path / "empty"
    inputs = write_pairs(empty, "a", masks=np.zeros((60, 16, 16, 2), np.uint8))
    with pytest.raises(SynthGainError, match="every training mask of 'lesion' is empty"):
        built((empty, inputs, {}), {})
    none = tmp_path / "none"
    inputs = write_pairs(none, "a", lesion=False)
    with pytest.raises(SynthGainError, match="zero training images with a mask of lesion"):
        built((none, inputs, {}), {})
    with pytest.raises(SynthGainError, match="no training image has a mask of 'lesion'"):
        built((none, inputs, {}), {}, structures=["lesion", "organ"])
