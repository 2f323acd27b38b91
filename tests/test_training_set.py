"""Which images an arm trains on: counts by ratio, nesting, own children, balance, shared order."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from downstream_jobs import COLUMNS, images_of, model_slice, table_of, train_job, write_dataset, write_pool
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgain.data.image_set import ImageSet
from synthgain.downstream.arms import (
    Rows,
    TrainingSet,
    fraction_positions,
    hold_out_patients,
    repeated,
    supplement,
    supplement_count,
    synthetic_rows,
)
from synthgain.downstream.cell import Cell, read_cell, rows_at, rows_of
from synthgain.downstream.classification import balance_weights, task_of
from synthgain.runtime.errors import SynthGainError

TASK = task_of(["opacity"], COLUMNS, "m")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    folder = tmp_path_factory.mktemp("run")
    inputs = write_dataset(folder, "a")
    return folder, inputs, write_pool(folder, "copier", "a", 3)


def built(run: Any, arm: dict[str, Any], ratio: int = 0, replicate: int = 0, **model: Any) -> TrainingSet:
    folder, inputs, pool = run
    pools = pool if arm.get("synthetic") else None
    job = train_job(folder, inputs, arm, ratio, model_slice(**model), (replicate,), pools)
    return read_cell(job).build(job, replicate)[0]


def supplemented(**more: Any) -> dict[str, Any]:
    return {"name": "sup", "synthetic": "copier", "source": "a", **more}


def fake_pool(count: int, replicas: int) -> tuple[Rows, Rows]:
    table = table_of(count)
    real = rows_at(ImageSet(images_of(table), table, None, {}), np.arange(count), TASK)
    copies = [
        table.assign(parent_image_id=table["image_id"], parent_patient_id=table["patient_id"], replica=k)
        for k in range(1, replicas + 1)
    ]
    joined = pd.concat(copies, ignore_index=True)
    joined["image_id"] = [f"s{i}" for i in range(len(joined))]
    return real, synthetic_rows([images_of(joined)], joined, TASK)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 500))
def test_count_follows_the_ratio_and_grows_with_it(ratio: int, more: int, base: int) -> None:
    assert abs(supplement_count(ratio, base) - ratio * base / 100) <= 0.5
    assert supplement_count(ratio, base) <= supplement_count(ratio + more, base)
    assert supplement_count(100 * (ratio % 11), base) == (ratio % 11) * base


@given(st.integers(2, 12), st.integers(1, 300), st.integers(1, 300))
@settings(deadline=None, max_examples=30)
def test_pools_nest_over_ratios(half: int, one: int, two: int) -> None:
    real, pool = fake_pool(2 * half, 3)
    low, high = sorted((one, two))
    smaller = supplement(pool, supplement_count(low, len(real)), None, "w").image_ids
    larger = supplement(pool, supplement_count(high, len(real)), None, "w").image_ids
    assert list(larger[: len(smaller)]) == list(smaller)


@given(st.integers(2, 12), st.integers(1, 300))
@settings(deadline=None, max_examples=30)
def test_repeats_hash_like_the_children_of_a_copier(half: int, ratio: int) -> None:
    real, pool = fake_pool(2 * half, 3)
    count = supplement_count(ratio, len(real))
    assert np.array_equal(repeated(real, count).keys(3), supplement(pool, count, None, "w").keys(3))


@given(st.floats(0.05, 1), st.floats(0.05, 1))
@settings(deadline=None, max_examples=30)
def test_real_fractions_nest_and_keep_patients_whole(one: float, two: float) -> None:
    table = table_of(60)
    low, high = (fraction_positions(table, np.arange(60), COLUMNS, fraction, 0, "a") for fraction in sorted((one, two)))
    assert list(high[: len(low)]) == list(low)
    assert len(low) == 2 * table["patient_id"].iloc[low].nunique()


def test_ratio_over_the_pool_is_one_clear_line(run: Any) -> None:
    with pytest.raises(SynthGainError, match=r"arm sup, ratio 400, replicate 0: ratio over the pool: 144 .* has 108"):
        built(run, supplemented(), 400)


def test_small_real_part_uses_children_of_its_own_rows_only(run: Any) -> None:
    data = built(run, supplemented(real_fraction=0.5), 300)
    assert (data.facts["n_real"], data.facts["n_synthetic"]) == (18, 54)
    folder, inputs, _ = run
    job = train_job(folder, inputs, supplemented(real_fraction=0.5), 300, pool_inputs=run[2])
    cell = read_cell(job)
    real = rows_of(cell.real, "train", cell.task, 0.5, 0)
    added = cell._added(job, 0, real, "w")
    assert set(added.source_ids) == set(real.image_ids)
    assert len(cell.validation_rows()) == 6  # of 12: cut like the training part


def test_synthetic_only_counts_from_the_rows_that_the_pool_copies(run: Any) -> None:
    data = built(run, supplemented(real=None), 200)
    assert (data.facts["n_real"], data.facts["n_synthetic"]) == (0, 72)


def test_a_ratio_counts_the_real_rows_that_can_train(tmp_path: Path) -> None:
    """So that `repeated` and `supplemented` add equally many, whether or not the generator labels every image."""
    unknown = table_of(60)["opacity"].where(np.arange(60) % 3 != 1)
    inputs = write_dataset(tmp_path, "a", opacity=unknown)
    labelled = np.resize(np.array([0, 1], np.float32), 36)
    run = (tmp_path, inputs, write_pool(tmp_path, "copier", "a", 3, opacity=labelled))
    count = built(run, {}).facts["n_real"]
    assert 18 < count < 30
    assert built(run, supplemented(), 100).facts["n_synthetic"] == count
    assert built(run, {"name": "rep", "repeat": True}, 100).facts["n_repeated"] == count
    assert built(run, supplemented(real=None), 100).facts["n_synthetic"] == count
    copied = (tmp_path, inputs, write_pool(tmp_path, "copier", "a", 3))  # unlabelled where its parent is
    assert built(copied, supplemented(), 300).facts["n_synthetic"] == 3 * count


def test_within_a_replicate_arms_share_the_order_of_common_images(run: Any) -> None:
    plain, both = built(run, {}, replicate=1), built(run, supplemented(), 200, replicate=1)
    for number in range(3):
        own = list(plain.phases[0].main.pass_rows(number))
        assert [row for row in both.phases[0].main.pass_rows(number) if row < 36] == own
    assert list(built(run, {}, replicate=2).phases[0].main.pass_rows(0)) != own


@pytest.mark.parametrize(
    ("arm", "ratio", "steps"),
    [
        ({}, 0, 12),
        ({"steps_factor": 2.0}, 0, 24),
        ({"repeat": True}, 200, 12),
        (supplemented(), 300, 12),
        (supplemented(match="epochs"), 200, 36),
        ({"repeat": True, "match": "epochs"}, 200, 36),
        (supplemented(pretrain={"share": 0.25}), 200, 12),
        (supplemented(real=None), 100, 12),
    ],
)
def test_steps_of_every_arm(run: Any, arm: dict[str, Any], ratio: int, steps: int) -> None:
    assert built(run, arm, ratio).steps == steps


def test_pretraining_sees_synthetic_images_then_real_ones(run: Any) -> None:
    data = built(run, supplemented(pretrain={"share": 0.25}), 200)
    assert [phase.steps for phase in data.phases] == [3, 9]
    assert data.synthetic[data.phases[0].batch(0, 8)].all()
    assert not data.synthetic[data.phases[1].batch(0, 8)].any()


def test_fixed_share_fixes_the_share_of_each_batch(run: Any) -> None:
    data = built(run, supplemented(mixing={"mode": "fixed_share", "share": 0.5}), 300)
    assert {int(data.synthetic[data.phases[0].batch(step, 8)].sum()) for step in range(12)} == {4}


def test_oversampling_and_reweighting_reach_their_targets(run: Any) -> None:
    balance = {"targets": {"opacity": 0.8}}
    over = built(run, {"balance": {**balance, "mode": "oversample"}})
    drawn = over.targets[over.phases[0].main.take(0, 36 * 40), 0]
    assert drawn.mean() == pytest.approx(0.8, abs=0.03)
    weighted = built(run, {"balance": {**balance, "mode": "reweight"}})
    positive = weighted.targets[:, 0] == 1
    assert weighted.weights[positive].sum() / weighted.weights.sum() == pytest.approx(0.8, abs=1e-3)
    assert weighted.weights.mean() == pytest.approx(1, abs=1e-5)


def test_balance_of_several_labels_at_once_and_bad_targets() -> None:
    task = task_of(["opacity", "nodule"], COLUMNS, "m")
    targets = np.random.default_rng(0).integers(0, 2, (400, 2)).astype(np.float32)
    targets[:20, 1] = np.nan
    weights = balance_weights(task, targets, {"opacity": 0.3, "nodule": 0.6}, "w")
    for column, share in zip(targets.T, (0.3, 0.6), strict=True):
        known = ~np.isnan(column)
        assert np.average(column[known], weights=weights[known]) == pytest.approx(share, abs=1e-4)
    for shares, words in (({"x": 0.5}, "names 'x'"), ({"opacity": 1.2}, "between 0 and 1")):
        with pytest.raises(SynthGainError, match=words):
            balance_weights(task, targets, shares, "w")


def test_held_out_synthetic_patients_do_not_train() -> None:
    _, pool = fake_pool(20, 3)
    kept, held = hold_out_patients(pool)
    assert not set(kept.patients) & set(held.patients)
    assert len(set(held.patients)) == 2
    assert len(kept) + len(held) == len(pool)


def test_rows_without_any_label_and_classes_without_rows(tmp_path: Path) -> None:
    table = table_of(60)
    unknown = table["opacity"].where(table.index != 1)
    inputs = write_dataset(tmp_path, "a", opacity=unknown)
    job = train_job(tmp_path, inputs, {})
    data, _ = read_cell(job).build(job, 0)
    assert (data.facts["n_real"], data.facts["unlabelled"]) == (35, 1)
    for changed, words in ((0.0, "no training image has 'opacity'"), (1.0, "every training image has 'opacity'")):
        folder = tmp_path / f"all-{changed}"
        job = train_job(folder, write_dataset(folder, "a", opacity=np.float32(changed)), {})
        with pytest.raises(SynthGainError, match=words):
            read_cell(job).build(job, 0)


def test_zero_training_images_is_one_clear_line(run: Any) -> None:
    folder, inputs, _ = run
    job = train_job(folder, inputs, {})
    cell: Cell = read_cell(job)
    empty = dataclasses.replace(cell.real, parts=np.full(len(cell.real.parts), "test"))
    with pytest.raises(SynthGainError, match="zero training images in a"):
        dataclasses.replace(cell, real=empty).build(job, 0)


@pytest.mark.parametrize(
    ("targets", "words"), [(["opacty"], "no column 'opacty'"), (["opacity", "kind"], "binary columns only")]
)
def test_targets_that_make_no_task(targets: list[str], words: str) -> None:
    with pytest.raises(SynthGainError, match=words):
        task_of(targets, COLUMNS, "model cnn")
