"""An exported pool is read by clean-fid, by Hugging Face's conventions, by pandas and by people."""

import json
import os
from glob import glob
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pool_sources import DATA_INPUTS, call, job_line, make_source, shard_slice

from draw_pool_shard import draw_pool_shard
from export_pool import export_pool
from merge_pool_replica import merge_pool_replica
from synthgain.data.replicas import read_replicas
from synthgain.pools.export import datasheet, mask_summary, write_png
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest

BASE = "pools/drawn/0"
EXPORT = "exports/drawn/0/manifest.json"


@pytest.fixture
def exported(tmp_path):
    make_source(tmp_path)
    inputs = {}
    for replica in (1, 2):
        part = shard_slice(replica=replica, module="known", options={"kind": "jittered_copier"})
        shard, merged = (f"{BASE}/replica-{replica}/{end}" for end in ("shard-0/manifest.json", "manifest.json"))
        call(draw_pool_shard, job_line(tmp_path, shard, part, DATA_INPUTS, f"shard-{replica}"))
        place = {"pool": "drawn", "index": 0, "replica": replica, "shards": 1}
        call(merge_pool_replica, job_line(tmp_path, merged, place, {shard: f"shard-{replica}"}, f"replica-{replica}"))
        inputs[merged] = f"replica-{replica}"
    part = {
        "pool": "drawn", "index": 0, "replicas": [1, 2], "study": "test", "description": "a | b",
        "licence": "CC BY-SA 4.0", "config": {"known": "jittered_copier", "replicas": 2, "filter": None},
    }  # fmt: skip
    call(export_pool, job_line(tmp_path, EXPORT, part, inputs, "export"))
    return tmp_path


def pool(run):
    drawn = read_replicas([(run / f"{BASE}/replica-{k}/manifest.json", f"replica-{k}") for k in (1, 2)])
    return drawn.pixels.gather(), drawn.table, drawn.planes.gather()


def test_png_and_csv_hold_the_pool(exported):
    folder = exported / "exports/drawn/0"
    images, table, masks = pool(exported)
    metadata = pd.read_csv(folder / "images/metadata.csv")
    assert metadata.columns[0] == "file_name"
    assert list(metadata["image_id"]) == list(table["image_id"])
    assert np.allclose(metadata["opacity"], table["opacity"])
    assert list(metadata["seed"]) == list(table["seed"])
    for row in range(len(table)):
        name = metadata["file_name"][row]
        assert np.array_equal(np.asarray(Image.open(folder / "images" / name)), images[row, ..., 0])
        mask = metadata["mask_lung"][row]
        assert pd.isna(mask) != table["has_mask_lung"][row]
        if not pd.isna(mask):
            assert np.array_equal(np.asarray(Image.open(folder / "images" / mask)), 255 * masks[row, ..., 0])


def test_clean_fid_reads_the_folder(exported):
    from cleanfid.resize import build_resizer
    from cleanfid.utils import EXTENSIONS, ResizeDataset

    folder = str(exported / "exports/drawn/0/images")
    # the file listing of cleanfid.fid.get_folder_features
    files = sorted(file for ext in EXTENSIONS for file in glob(os.path.join(folder, f"**/*.{ext}"), recursive=True))
    images, table, _ = pool(exported)
    assert len(files) == len(table)
    data = ResizeDataset(files, fdir=folder, mode="clean", size=(8, 8))
    data.fn_resize = build_resizer("clean")
    wanted = dict(zip(table["image_id"], images, strict=True))
    for position, file in enumerate(files):
        assert data[position].shape[0] == 3
        grey = np.asarray(Image.open(file).convert("RGB"))
        assert np.array_equal(grey, np.repeat(wanted[Path(file).stem], 3, axis=-1))


def test_clean_fid_features_are_those_of_the_arrays(exported):
    import torch
    from cleanfid import fid

    folder = str(exported / "exports/drawn/0/images")
    features = fid.get_folder_features(
        folder,
        model=lambda batch: batch.mean(dim=(2, 3)),  # stands in for Inception, whose weights are a download
        num_workers=0,
        device=torch.device("cpu"),
        mode="clean",
        verbose=False,
    )
    images, table, _ = pool(exported)
    order = np.argsort(table["image_id"].to_numpy().astype(str))
    assert features.shape == (len(images), 3)
    np.testing.assert_allclose(features[:, 0], images[order].mean(axis=(1, 2, 3)), atol=6)


def test_the_folder_follows_imagefolder(exported):
    folder = exported / "exports/drawn/0/images"
    metadata = pd.read_csv(folder / "metadata.csv")
    assert {path.name for path in folder.iterdir()} == {"metadata.csv", *metadata["file_name"]}
    header = (folder.parent / "README.md").read_text().split("---")[1]
    assert "data_dir: images" in header


def test_the_datasheet_says_what_matters(exported):
    text = (exported / "exports/drawn/0/README.md").read_text()
    images, table, _ = pool(exported)
    for word in ("CC BY-SA 4.0", "Memorisation", "jittered_copier", "a \\| b", f"{len(images)} synthetic images"):
        assert word in text
    women = int((table["sex"] == "F").sum())
    assert f"| sex | F | {women} | {100 * women / len(table):.1f} % |" in text


def test_masks_are_summed_up(exported):
    _, table, masks = pool(exported)
    known = masks[table["has_mask_lung"].to_numpy(bool)][..., 0]
    areas = known.mean(axis=(1, 2))
    summary = read_manifest(exported / EXPORT, "export")["masks"]["lung"]
    assert summary["images"] == len(known)
    assert summary["empty"] == (areas == 0).sum()
    assert summary["median_share"] == pytest.approx(np.median(areas[areas > 0]), abs=1e-4)
    line = f"| lung | {len(known)} | {summary['empty']} | {100 * summary['median_share']:.1f} % |"
    assert line in (exported / "exports/drawn/0/README.md").read_text()
    assert mask_summary(np.zeros(2)) == {"images": 2, "empty": 2, "median_share": None}
    assert "| hole | 2 | 2 | – |" in datasheet("p", {}, {}, 2, "", {"hole": mask_summary(np.zeros(2))})


def test_the_manifest_lists_the_files(exported):
    manifest = read_manifest(exported / EXPORT, "export")
    assert manifest["images"] == len(pool(exported)[1])
    pictures = {name for name in manifest["files"] if name.endswith(".png")}  # listed by the seal
    assert set(manifest["files"]) - pictures == {"README.md", "images/metadata.csv"}
    json.dumps(manifest)


def test_two_channels_are_refused(tmp_path):
    with pytest.raises(SynthGainError, match="2 channels"):
        write_png(tmp_path / "a.png", np.zeros((4, 4, 2), np.uint8))
    write_png(tmp_path / "rgb.png", np.full((4, 4, 3), 7, np.uint8))
    assert np.asarray(Image.open(tmp_path / "rgb.png")).shape == (4, 4, 3)


def test_a_datasheet_without_licence_says_so():
    assert "not given" in datasheet("p", {}, {}, 0, "")
