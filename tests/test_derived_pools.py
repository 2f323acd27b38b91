"""Pools made of another pool: filtered by scores, or thinned to as many."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from pool_sources import DATA_INPUTS, call, job_line, make_source, shard_slice

from draw_pool_shard import draw_pool_shard
from merge_pool_replica import merge_pool_replica
from synthgain.data.replicas import read_replicas
from synthgain.pools.derived import SCORE_INPUTS
from synthgain.pools.options import ScoreSource
from synthgain.runtime.files import read_manifest, write_manifest, write_table
from synthgain.study.check_masks import SCORE_CHECKS
from synthgain.study.stages.pools import SCORES


@pytest.fixture
def run(tmp_path):
    """Replica 1 of a pool `drawn`, in two shards."""
    make_source(tmp_path)
    base, parts = "pools/drawn/0/replica-1", {}
    for shard in range(2):
        part = shard_slice(shard, 2, module="known", options={"kind": "jittered_copier"})
        output = f"{base}/shard-{shard}/manifest.json"
        call(draw_pool_shard, job_line(tmp_path, output, part, DATA_INPUTS, f"drawn-{shard}"))
        parts[output] = f"drawn-{shard}"
    merged = {"pool": "drawn", "index": 0, "replica": 1, "shards": 2}
    call(merge_pool_replica, job_line(tmp_path, f"{base}/manifest.json", merged, parts, "replica-1"))
    return tmp_path


def pixels(manifest):
    pool = read_replicas([(manifest, None)])
    return pool.pixels.gather(), pool.table


def derived_inputs(run, scores, stage="memorisation", source=None):
    folder = run / f"{stage}/drawn/0"
    write_table(folder / "scores.parquet", scores, "scores")
    write_manifest(folder / "manifest.json", "scores", ["scores.parquet"], source=source or stage)
    return {"pools/drawn/0/replica-1/manifest.json": "replica-1", f"{stage}/drawn/0/manifest.json": "scores"}


def draw_derived(run, name, options, inputs, shards=1):
    base = f"pools/{name}/0/replica-1"
    parts = {}
    for shard in range(shards):
        part = shard_slice(shard, shards, pool=name, module="derived", options=options, rows_of=None, conditions={})
        output = f"{base}/shard-{shard}/manifest.json"
        call(draw_pool_shard, job_line(run, output, part, inputs, f"{name}-{shard}"))
        parts[output] = f"{name}-{shard}"
    merged = {"pool": name, "index": 0, "replica": 1, "shards": shards}
    call(merge_pool_replica, job_line(run, f"{base}/manifest.json", merged, parts, name))
    return run / base / "manifest.json"


RULE = {"scores": "memorisation"}


def test_filtered_pools_keep_survivors_in_order_and_thinned_ones_their_number(run):
    base, table = pixels(run / "pools/drawn/0/replica-1/manifest.json")
    values = np.random.default_rng(0).random(len(table))
    scores = pd.DataFrame({"image_id": table["image_id"], "score": values, "copy": values > 0.8})
    inputs = derived_inputs(run, scores)
    rule = {"scores": "memorisation", "column": "score", "keep": "above", "quantile": 0.3}
    path = draw_derived(run, "best", {"of": "drawn", "filter": rule}, inputs, shards=3)
    images, kept = pixels(path)
    expected = values >= np.quantile(values, 0.3)
    assert list(kept["image_id"]) == list(table["image_id"][expected])
    assert np.array_equal(images, base[expected])
    manifest = read_manifest(path)
    assert (manifest["kept"], manifest["of_images"]) == (expected.sum(), len(table))
    _, thin = pixels(draw_derived(run, "thin", {"of": "drawn", "filter": rule, "thin": True}, inputs))
    assert len(thin) == len(kept)
    assert list(thin["image_id"]) != list(kept["image_id"])
    assert list(thin["image_id"]) == [name for name in table["image_id"] if name in set(thin["image_id"])]
    flags = {**RULE, "column": "copy", "keep": "false", "quantile": None, "threshold": None}
    _, clean = pixels(draw_derived(run, "clean", {"of": "drawn", "filter": flags}, inputs))
    assert list(clean["image_id"]) == list(table["image_id"][values <= 0.8])


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ({**RULE, "column": "scor", "threshold": 0.5}, "scor"),
        ({**RULE, "column": "score"}, "exactly one"),
        ({**RULE, "column": "score", "keep": "up", "threshold": 1}, "up"),
        ({**RULE, "column": "score", "threshold": 2.0}, "relax"),
    ],
)
def test_filters_that_make_no_sense_end_with_one_line(run, capfd, rule, word):
    _, table = pixels(run / "pools/drawn/0/replica-1/manifest.json")
    inputs = derived_inputs(run, pd.DataFrame({"image_id": table["image_id"], "score": 1.0}))
    with pytest.raises(SystemExit):
        draw_derived(run, "best", {"of": "drawn", "filter": rule}, inputs)
    message = capfd.readouterr().err
    assert word in message
    assert "Traceback" not in message


def test_an_image_without_score_is_named(run, capfd):
    _, table = pixels(run / "pools/drawn/0/replica-1/manifest.json")
    inputs = derived_inputs(run, pd.DataFrame({"image_id": table["image_id"][1:], "score": 1.0}))
    with pytest.raises(SystemExit):
        draw_derived(
            run,
            "best",
            {"of": "drawn", "filter": {**RULE, "column": "score", "threshold": 0.5}},
            inputs,
        )
    assert table["image_id"][0] in capfd.readouterr().err


def test_mask_agreement_filters_pairs_and_keeps_their_masks(run):
    path = run / "pools/drawn/0/replica-1/manifest.json"
    pool = read_replicas([(path, None)])
    table, base = pool.table, pool.planes.gather()
    dice = np.random.default_rng(1).random(len(table))
    dice[::3] = np.nan  # mask and prediction both empty: nothing to disagree about
    scores = pd.DataFrame({"image_id": table["image_id"], "dice_lung": dice, "dice": dice})
    inputs = derived_inputs(run, scores, "label_consistency", "mask_agreement")
    rule = {"scores": "mask_agreement", "column": "dice", "keep": "above", "quantile": 0.5, "threshold": None}
    path = draw_derived(run, "agreed", {"of": "drawn", "filter": rule}, inputs, shards=2)
    survivors = read_replicas([(path, None)])
    expected = dice >= np.nanquantile(dice, 0.5)
    unscored = np.flatnonzero(np.isnan(dice))
    expected[unscored[: round(expected.sum() / (len(dice) - len(unscored)) * len(unscored))]] = True
    assert 0 < expected[unscored].sum() < len(unscored)  # as many as of the others
    assert list(survivors.table["image_id"]) == list(table["image_id"][expected])
    assert np.array_equal(survivors.planes.gather(), base[expected])
    assert list(survivors.table["has_mask_lung"]) == list(table["has_mask_lung"][expected])
    assert read_manifest(path)["mask_names"] == ["lung"]


def test_scores_that_are_never_defined_end_with_one_line(run, capfd):
    _, table = pixels(run / "pools/drawn/0/replica-1/manifest.json")
    inputs = derived_inputs(run, pd.DataFrame({"image_id": table["image_id"], "dice": np.nan}))
    with pytest.raises(SystemExit):
        draw_derived(
            run,
            "best",
            {"of": "drawn", "filter": {**RULE, "column": "dice", "quantile": 0.5}},
            inputs,
        )
    assert "no image of this replica has a defined score" in capfd.readouterr().err


def test_scores_of_readers_count_for_the_pixels_that_were_rated(run):
    _, table = pixels(run / "pools/drawn/0/replica-1/manifest.json")
    rated = table.iloc[::2]
    scores = pd.DataFrame({"image_id": rated["image_id"], "sha256": rated["sha256"], "quality": 0.9})
    scores.loc[rated.index[0], "quality"] = 0.1
    scores.loc[rated.index[1], "sha256"] = "0" * 64  # drawn anew since it was rated
    folder = run / "readers/panel/ratings"
    write_table(folder / "scores.parquet", scores, "scores")
    write_manifest(folder / "manifest.json", "scores", ["scores.parquet"], source="readers")
    inputs = {"pools/drawn/0/replica-1/manifest.json": "replica-1", "readers/panel/ratings/manifest.json": "scores"}
    rule = {"scores": "readers", "name": "panel", "column": "quality", "keep": "above", "threshold": 0.5}
    path = draw_derived(run, "liked", {"of": "drawn", "filter": rule}, inputs)
    _, kept = pixels(path)
    assert list(kept["image_id"]) == list(rated["image_id"][2:])
    shard = read_manifest(path.parent / "shard-0/manifest.json")
    assert (shard["kept"], shard["unrated"]) == (len(rated) - 2, len(table) - len(rated) + 1)


def test_a_table_of_another_source_is_refused(run, capfd):
    _, table = pixels(run / "pools/drawn/0/replica-1/manifest.json")
    scores = pd.DataFrame({"image_id": table["image_id"], "dice": 1.0})
    inputs = derived_inputs(run, scores, "label_consistency", "mask_agreement")
    rule = {"scores": "label_consistency", "column": "dice", "threshold": 0.5}
    with pytest.raises(SystemExit):
        draw_derived(run, "best", {"of": "drawn", "filter": rule}, inputs)
    assert "holds scores of mask_agreement, wanted label_consistency" in capfd.readouterr().err


def test_every_source_of_scores_is_checked_and_planned():
    assert set(get_args(ScoreSource)) == set(SCORES) == set(SCORE_CHECKS)
    assert {table.input for table in SCORES.values()} == set(SCORE_INPUTS)
