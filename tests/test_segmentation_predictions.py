"""Segmenters as the rules call them: train, predict, trivial floors; and the statistics on what they write."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from devices import DEVICE
from downstream_jobs import (
    STRUCTURES,
    manifest_of,
    pairs_of,
    run_command,
    segmenter_slice,
    train_job,
    write_dataset,
    write_pairs,
)
from job_inputs import inputs_at, new_job, paths_of

import predict_downstream as predict_script
import train_downstream as train_script
import trivial_floor as floor_script
from synthgain.data.image_set import read_image_set
from synthgain.data.run_lengths import decode_runs
from synthgain.downstream.cell import rows_at
from synthgain.downstream.segmentation import Segmentation, floor_masks, mean_masks
from synthgain.metrics import dice
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, read_table
from synthgain.statistics.endpoints import Resamples, endpoints, estimable_labels
from synthgain.statistics.predictions import build_panel

COLUMNS = [
    *("ratio", "replicate", "dataset", "part", "image_id", "patient_id", "label", "truth", "score"),
    *("dice", "iou", "nsd", "hd95", "truth_empty", "predicted_empty"),
]
EVALUATE = [
    {"dataset": "a", "split": True, "parts": ["validation", "test"]},
    {"dataset": "b", "split": False, "parts": ["test"]},
]
TESTED = ("name", "task", "task_module", "structures", "network", "precision", "window")


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    torch.set_num_threads(1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, dict[str, str]]:
    """A segmenter of both structures; the outside set has other planes, empty lesions and unknown organs."""
    run = tmp_path_factory.mktemp("run")
    inputs = write_pairs(run, "a")
    masks = pairs_of(20)[1][..., ::-1].copy()
    masks[:5, :, :, 1] = 0
    known = np.arange(20) % 4 != 0
    outside = write_pairs(run, "b", 20, split=False, names=("organ", "lesion"), masks=masks, organ=known)
    model = segmenter_slice(structures=list(STRUCTURES), steps=80, validate_every=40, learning_rate=2e-2)
    job = train_job(run, inputs, {}, model=model)
    train_script.train_downstream(job)
    return job, inputs | outside


def predict_job(job: Job, inputs: dict[str, str], **model: Any) -> Job:
    tested = {name: job.slice["model"][name] for name in TESTED} | {"tolerance": 2.0, "keep_masks": True, **model}
    fields = {
        "slice": {"model": tested, "arm": "real", "ratio": 0, "replicates": [0], "evaluate": EVALUATE},
        "inputs": {**inputs, str(job.outputs[0].relative_to(job.run)): job.identity},
        "code": "code",
    }
    output = job.run / "predictions/seg/real/0/0.parquet"
    return new_job(**fields, identity=digest(fields), run=job.run, outputs=[output], threads=1)


@pytest.fixture(scope="module")
def table(trained: tuple[Job, dict[str, str]]) -> pd.DataFrame:
    job = predict_job(*trained)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        predict_script.predict_downstream(job)
    loaded: pd.DataFrame = read_table(job.outputs[0], job.identity)
    return loaded


def test_manifest_says_what_was_trained(trained: tuple[Job, dict[str, str]]) -> None:
    facts = manifest_of(trained[0])["replicates"]["0"]
    assert facts["task"] == {"kind": "segmentation", "labels": list(STRUCTURES), "image_size": 16, "channels": 1}
    assert facts["validation"]["dice"] > 0.7
    log = pd.read_csv(trained[0].outputs[0].parent / "training-0.csv")
    assert list(log["validation_dice"])[-1] > 0.7


def test_one_row_per_image_and_known_mask(table: pd.DataFrame) -> None:
    assert list(table.columns) == [*COLUMNS, "mask_rle"]
    counts = table.groupby(["dataset", "part", "label"]).size().to_dict()
    assert counts == {
        ("a", "test", "lesion"): 12,
        ("a", "test", "organ"): 12,
        ("a", "validation", "lesion"): 12,
        ("a", "validation", "organ"): 12,
        ("b", "test", "lesion"): 20,
        ("b", "test", "organ"): 15,
    }
    assert table["truth"].isin([0.0, 1.0]).all()
    empty = table[table["truth_empty"]]
    assert len(empty) == 5
    assert (empty["truth"] == 0).all()
    assert empty["score"].isna().all()
    pd.testing.assert_series_equal(table["score"], table["dice"], check_names=False)
    assert table.loc[~table["truth_empty"], ["dice", "iou", "nsd"]].notna().all(axis=None)
    assert table.loc[table["part"] == "test", "dice"].mean() > 0.7


def test_kept_masks_have_the_scores_that_the_table_says(
    trained: tuple[Job, dict[str, str]], table: pd.DataFrame
) -> None:
    images = read_image_set(trained[0].run / "datasets/b")
    rows = images.table.set_index("image_id")
    for row in table[(table["dataset"] == "b") & ~table["truth_empty"]].itertuples():
        truth = images.masks[rows.index.get_loc(row.image_id), :, :, images.mask_names.index(row.label)]
        predicted = decode_runs(row.mask_rle, truth.shape, "coco")
        assert dice(truth, predicted) == pytest.approx(row.dice, abs=1e-6)
        assert predicted.any() != row.predicted_empty


def test_statistics_read_the_table(table: pd.DataFrame) -> None:
    other = table.assign(arm="other", dice=table["dice"] * 0.9)
    panel = build_panel(pd.concat([table.assign(arm="real"), other]), "b", "test")
    assert set(panel.image_scores) == {"dice", "iou", "nsd", "hd95", "truth_empty", "predicted_empty"}
    labels = estimable_labels(panel, 3)
    resamples = Resamples.of(panel.patients, 50, np.random.default_rng(0))
    names = ["dice", "nsd", "hd95", "failure_rate", "empty_false_positive_rate"]
    found = {(e.label, e.metric): e.values for e in endpoints(panel, names, labels, {}, "", resamples)}
    own = table[(table["dataset"] == "b") & (table["label"] == "lesion") & ~table["truth_empty"]]
    expected = own.groupby("patient_id")["dice"].mean().mean()
    real = panel.run_positions("real", 0)[0]
    assert found["lesion", "dice"][real] == pytest.approx(expected, rel=1e-5)
    false_alarms = table[(table["dataset"] == "b") & table["truth_empty"]]
    rate = (~false_alarms["predicted_empty"]).groupby(false_alarms["patient_id"]).mean().mean()
    assert found["lesion", "empty_false_positive_rate"][real] == pytest.approx(rate)


def test_another_tolerance_changes_nsd_alone(trained: tuple[Job, dict[str, str]], table: pd.DataFrame) -> None:
    job = predict_job(*trained, tolerance=0.0, keep_masks=False)
    predict_script.predict_downstream(job)
    strict = read_table(job.outputs[0], job.identity)
    assert list(strict.columns) == COLUMNS
    pd.testing.assert_frame_equal(strict.drop(columns="nsd"), table.drop(columns=["nsd", "mask_rle"]))
    both = ~table["truth_empty"]
    assert (strict.loc[both, "nsd"] <= table.loc[both, "nsd"]).all()
    assert (strict.loc[both, "nsd"] < table.loc[both, "nsd"]).any()


def test_trivial_floors_are_scored_on_the_same_images(trained: tuple[Job, dict[str, str]], table: pd.DataFrame) -> None:
    job, inputs = trained
    predicted = predict_job(job, inputs)
    fields = {
        "slice": {
            "model": predicted.slice["model"],
            "arm": {"name": "real", "real": "a", "real_fraction": 1.0},
            "evaluate": EVALUATE,
            "seed": 0,
        },
        "inputs": inputs,
        "code": "code",
    }
    output = job.run / "floors/seg.parquet"
    floor_script.trivial_floor(new_job(**fields, identity="f", run=job.run, outputs=[output], threads=1))
    floors = read_table(output, "f")
    assert list(floors.columns) == [*COLUMNS, "floor"]
    assert set(floors["floor"]) == {"all_foreground", "mean_mask"}
    keys = ["dataset", "part", "image_id", "label"]
    for _, group in floors.groupby("floor"):
        assert set(map(tuple, group[keys].to_numpy())) == set(map(tuple, table[keys].to_numpy()))
    means = floors.groupby("floor")["dice"].mean()
    assert means["all_foreground"] < means["mean_mask"] < table["dice"].mean()
    images = read_image_set(job.run / "datasets/a")
    row = floors[(floors["floor"] == "all_foreground") & (floors["label"] == "organ")].iloc[0]
    truth = images.masks[images.table["image_id"].tolist().index(row["image_id"]), :, :, 1]
    assert row["dice"] == pytest.approx(2 * truth.sum() / (truth.sum() + truth.size), rel=1e-6)


def test_the_mean_mask_is_cut_where_validation_dice_is_best(tmp_path: Path) -> None:
    write_pairs(tmp_path, "a", lesion=np.arange(60) % 3 != 0)
    images, task = read_image_set(tmp_path / "datasets/a"), Segmentation(STRUCTURES)
    rows = rows_at(images, np.arange(60), task)
    known = images.table["has_mask_lesion"].to_numpy()
    mean = mean_masks(rows, "w")
    np.testing.assert_allclose(mean[..., 0], images.masks[known, :, :, 0].mean(axis=0))
    cut = floor_masks(rows, rows, "w")["mean_mask"][..., 1]
    best = np.mean([dice(mask, cut) for mask in images.masks[..., 1]])
    for level in (0.2, 0.5, 0.8):
        other = mean[..., 1] > level * mean[..., 1].max()
        assert np.mean([dice(mask, other) for mask in images.masks[..., 1]]) <= best + 1e-9


def test_test_sets_without_the_structures_are_refused(trained: tuple[Job, dict[str, str]], tmp_path: Path) -> None:
    job, inputs = trained
    bare = write_dataset(job.run, "c", 10, split=False)
    predicted = predict_job(job, inputs | bare)
    evaluate = [{"dataset": "c", "split": False, "parts": ["test"]}]
    wanted = replace(predicted, slice={**predicted.slice, "evaluate": evaluate})
    with pytest.raises(SynthGainError, match=r"datasets.c: has no mask of lesion, organ; declare its masks"):
        predict_script.predict_downstream(wanted)
    unknown = write_pairs(job.run, "c", 10, split=False, lesion=False, organ=False)
    wanted = replace(wanted, inputs=inputs_at(job.run, paths_of(wanted.inputs) | unknown))
    with pytest.raises(SynthGainError, match=r"no image of its test part has a mask of lesion, organ"):
        predict_script.predict_downstream(wanted)


def test_a_model_with_a_window_sees_crops_and_predicts_whole_images(tmp_path: Path) -> None:
    inputs = write_pairs(tmp_path, "a") | write_pairs(tmp_path, "b", 6, split=False)
    job = train_job(tmp_path, inputs, {}, model=segmenter_slice(window=8, steps=4))
    train_script.train_downstream(job)
    assert manifest_of(job)["replicates"]["0"]["task"]["image_size"] == 8
    predicted = predict_job(job, inputs)
    predict_script.predict_downstream(predicted)
    table = read_table(predicted.outputs[0], predicted.identity)
    assert table.groupby(["dataset", "part"]).size().to_dict() == {
        ("a", "test"): 12,
        ("a", "validation"): 12,
        ("b", "test"): 6,
    }
    assert decode_runs(table["mask_rle"].iloc[0], (16, 16), "coco").shape == (16, 16)


def test_bad_input_is_one_line_without_traceback(tmp_path: Path) -> None:
    job = train_job(tmp_path, write_pairs(tmp_path, "a"), {}, model=segmenter_slice(structures=["heart"]))
    ended = run_command("train_downstream", job)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: model seg: no mask 'heart'")
    assert "Traceback" not in ended.stderr
