"""Mask agreement: pairs whose masks follow the object score as real ones do, exchanged masks do not."""

from pathlib import Path
from typing import Any

import bright_segmenter
import numpy as np
import pandas as pd
import pytest
import torch
from evaluation_run import IDENTITY, make_job
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pairs_run import SIZE, STRUCTURE, discs, write_pool, write_real
from safetensors.torch import save_file
from torch import nn

from score_pool import score_pool
from synthgain.evaluation.mask_agreement import agreement_rows, overlap
from synthgain.metrics import dice
from synthgain.networks.monai_segmenters import features
from synthgain.registry import NETWORKS
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import write_manifest

TRAINED = "downstream/net/real/0/0/manifest.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_real(folder)
    images, masks = discs(90, seed=2)
    write_pool(folder, "good", images, masks)
    write_pool(folder, "moved", images, np.roll(masks, 1, axis=0))
    write_pool(folder, "bare", images, None)
    emptied = masks.copy()
    emptied[:5] = 0
    write_pool(folder, "partly_empty", images, emptied)
    place = (folder / TRAINED).parent
    place.mkdir(parents=True)
    save_file(bright_segmenter.weights(3, 1), place / "weights-0.safetensors")
    task = {"kind": "segmentation", "labels": [STRUCTURE], "image_size": SIZE, "channels": 3}
    write_manifest(place / "manifest.json", IDENTITY, ["weights-0.safetensors"], replicates={"0": {"task": task}})
    return folder


@pytest.fixture(autouse=True)
def _a_segmenter_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "bright_segmenter", "bright_segmenter")


def score(run: Path, pool: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    model: dict[str, Any] = {"name": "net", "task": "segmentation", "structures": [STRUCTURE], "window": None}
    model |= {"task_module": "segmentation"}
    model["network"] = {"module": "bright_segmenter", "options": {}}
    settings = {
        "pool": pool,
        "index": 0,
        "rows_of": "a",
        "model": model,
        "trained": ["net", "real", 0, 0],
        "replicate": 0,
    }
    settings |= {"check": "mask_agreement", "by": [], "minimum": 10, "seed": 0}
    job = make_job(run, f"label_consistency/{pool}/0/manifest.json", settings, pool, TRAINED)
    score_pool(job)
    folder = job.outputs[0].parent
    assert not (folder / "label_consistency.csv").exists()
    tables = [pd.read_parquet(folder / name) for name in ("scores.parquet", "real_scores.parquet")]
    return pd.read_csv(folder / "mask_agreement.csv"), tables[0], tables[1]


def test_true_pairs_score_like_real_ones_and_exchanged_masks_do_not(run: Path) -> None:
    table, scores, real = score(run, "good")
    row = table.iloc[0]
    assert row["structure"] == STRUCTURE
    assert row["mean"] > 0.95
    assert row["low"] <= row["mean"] <= row["high"]
    assert row["mean"] == pytest.approx(row["real_mean"], abs=0.03)
    assert row["below_half"] == 0
    assert list(scores.columns) == ["image_id", f"dice_{STRUCTURE}", f"empty_{STRUCTURE}", "dice"]
    assert scores["dice"].mean() == pytest.approx(row["mean"], abs=1e-6)
    assert len(real) == row["real_n"] == 60
    moved, lost, _ = score(run, "moved")
    assert moved.iloc[0]["mean"] < 0.5
    assert moved.iloc[0]["below_half"] > 0.5
    assert moved.iloc[0]["real_mean"] == row["real_mean"]
    assert lost["dice"].median() < scores["dice"].min()


def test_empty_masks_are_counted_and_not_averaged(run: Path) -> None:
    table, scores, _ = score(run, "partly_empty")
    assert table.iloc[0]["empty"] == 5
    assert table.iloc[0]["n"] == 85
    assert (scores["dice"][:5] == 0).all()  # a disc stands there, its mask says nothing: the filter drops it
    assert table.iloc[0]["mean"] > 0.95


def test_a_pool_without_masks_is_one_clear_line(run: Path) -> None:
    with pytest.raises(SynthGainError, match=r"pools\.bare: its images have no masks"):
        score(run, "bare")


def test_few_images_have_no_number() -> None:
    scores = pd.DataFrame({"image_id": ["a", "b"], "dice_x": [0.5, 0.9], "empty_x": [False, False]})
    side = (scores, np.array(["p", "q"]), {"all": np.ones(2, dtype=bool)})
    [row] = agreement_rows("x", side, side, 10, np.random.default_rng(0))
    assert np.isnan(row["mean"])
    assert "fewer than 10 images" in row["note"]


MASKS = arrays(np.bool_, (3, 5, 4), elements=st.booleans())


@given(MASKS, MASKS)
def test_overlap_is_dice_with_rules_for_empty_masks(first: np.ndarray, second: np.ndarray) -> None:
    found = overlap(first, second)
    assert np.array_equal(found, overlap(second, first), equal_nan=True)
    for value, a, b in zip(found, first, second, strict=True):
        assert value == pytest.approx(dice(a, b), nan_ok=True)


def test_bottleneck_is_the_coarsest_layer() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 7, 3, 2, 1), nn.Conv2d(7, 9, 1), nn.Upsample(scale_factor=4),
        nn.Conv2d(9, 1, 1),
    ).eval()  # fmt: skip
    x = torch.randn(2, 3, 16, 16)
    expected = network[2](network[1](network[0](x))).mean(dim=(2, 3))
    assert torch.allclose(features(network, x), expected)
    assert not any(part._forward_hooks for part in network)
