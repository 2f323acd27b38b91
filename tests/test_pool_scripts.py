"""The scripts draw_pool_shard and merge_pool_replica, and the reader of replicas, from end to end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from devices import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_sources import COLUMNS, DATA_INPUTS, GaussianGenerator, call, job_line, make_source, shard_slice, training_of

import synthgain.pools.generated
from draw_pool_shard import draw_pool_shard
from merge_pool_replica import added, merge_pool_replica
from synthgain.data.image_set import ImageStore, read_image_set
from synthgain.data.replicas import read_replicas
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import read_manifest, write_json, write_manifest

ROOT = Path(__file__).parent.parent
GENERATED = {**DATA_INPUTS, "generators/g/0/manifest.json": "generator"}


@pytest.fixture(autouse=True)
def _analytic_generator(monkeypatch):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(synthgain.pools.generated, "load_generator", lambda *_: GaussianGenerator())
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def run(tmp_path):
    make_source(tmp_path)
    write_json(tmp_path / "generators/g/0/manifest.json", {"identity": "generator"})
    return tmp_path


def draw(run, part, inputs=GENERATED, identity=None):
    output = f"pools/drawn/0/replica-{part['replica']}/shard-{part['shard']}/manifest.json"
    identity = identity or f"shard-{part['replica']}-{part['shard']}-{part['shards']}"
    call(draw_pool_shard, job_line(run, output, part, inputs, identity))
    return output, identity


def merge(run, replica=1, shards=1, **changes):
    output = f"pools/drawn/0/replica-{replica}/manifest.json"
    parts = [draw(run, shard_slice(shard, shards, replica, **changes)) for shard in range(shards)]
    part = {"pool": "drawn", "index": 0, "replica": replica, "shards": shards}
    call(merge_pool_replica, job_line(run, output, part, dict(parts), f"replica-{replica}"))
    return run / output


def pixels(manifest):
    pool = read_replicas([(manifest, None)])
    return pool.pixels.gather(), pool.table


def test_a_shard_is_an_image_set_with_parents(run):
    output, identity = draw(run, shard_slice())
    shard = read_image_set((run / output).parent, identity)
    source = read_image_set(run / "datasets/a", "dataset")
    assert shard.columns == COLUMNS
    assert sorted(shard.table["parent_image_id"]) == sorted(training_of(source)["image_id"])
    parents = source.table.set_index("image_id").loc[shard.table["parent_image_id"]]
    assert np.array_equal(shard.table["opacity"], parents["opacity"])
    assert np.array_equal(shard.table["age"], parents["age"], equal_nan=True)
    assert list(shard.table["patient_id"]) == list(parents["patient_id"])
    assert shard.manifest["sampling"]["steps"] == 4
    kept = (run / "state" / output).with_suffix("")
    assert [path.name for path in kept.iterdir()] == ["finished.json"]


@pytest.mark.parametrize("shards", [2, 3, 8])
def test_the_pool_is_bit_identical_for_any_number_of_shards(run, tmp_path_factory, shards):
    one, table = pixels(merge(run))
    other = tmp_path_factory.mktemp("other")
    make_source(other)
    write_json(other / "generators/g/0/manifest.json", {"identity": "generator"})
    two, again = pixels(merge(other, shards=shards))
    assert np.array_equal(one, two)
    pd.testing.assert_frame_equal(table, again)


def test_replicas_nest_and_keep_the_marginals(run):
    manifests = [merge(run, replica, shards=2) for replica in (1, 2, 3)]
    source = read_image_set(run / "datasets/a")
    training = training_of(source)
    pairs = [(manifest, f"replica-{number}") for number, manifest in enumerate(manifests, 1)]
    n = len(training)
    smaller = read_replicas(pairs[:1]).table
    larger = read_replicas(pairs).table
    assert list(larger["image_id"][:n]) == list(smaller["image_id"])
    assert larger["image_id"].is_unique
    assert larger["sha256"].is_unique
    assert larger["seed"].is_unique
    for ratio in (1, 2, 3):
        counts = larger["opacity"][: ratio * n].value_counts()
        assert (counts == ratio * training["opacity"].value_counts()).all()


def test_merged_counts_are_those_of_the_replica(run):
    path = merge(run, shards=3)
    manifest, (_, table) = read_manifest(path), pixels(path)
    assert manifest["images"] == len(table)
    assert manifest["counts"]["sex"] == {level: int(n) for level, n in table["sex"].value_counts().items()}
    both = ((table["sex"] == "F") & (table["opacity"] == 1)).sum()
    assert manifest["co_occurrence"]["sex=F"].get("opacity=1", 0) == both


def test_shuffled_labels_leave_pixels_alone(run, tmp_path_factory):
    plain, table = pixels(merge(run))
    other = tmp_path_factory.mktemp("other")
    make_source(other)
    write_json(other / "generators/g/0/manifest.json", {"identity": "generator"})
    mixed, shuffled = pixels(merge(other, conditions={"mode": "rows", "shuffled": True}))
    assert np.array_equal(plain, mixed)
    assert sorted(table["opacity"]) == sorted(shuffled["opacity"])
    assert list(table["opacity"]) != list(shuffled["opacity"])
    assert list(table["parent_image_id"]) == list(shuffled["parent_image_id"])


def test_a_balanced_replica_meets_its_target(run):
    _, table = pixels(merge(run, shards=2, conditions={"mode": "balanced", "balance": {"opacity": 0.5}}))
    assert abs((table["opacity"] == 1).sum() - len(table) / 2) <= 1
    assert table["seed"].is_unique


@pytest.mark.parametrize(
    ("part", "inputs", "word"),
    [
        ({"conditions": {"mode": "balanced", "balance": {"opacty": 0.5}}}, GENERATED, "opacity"),
        ({"image": {"size": 16, "channels": 1}}, GENERATED, "16"),
        ({"sampling": {"solver": "magic"}}, GENERATED, "magic"),
        ({"rows_of": None}, GENERATED, "rows_of"),
        ({}, {**GENERATED, "datasets/a/manifest.json": "another"}, "identity"),
    ],
)
def test_bad_input_ends_with_one_line(run, capfd, part, inputs, word):
    with pytest.raises(SystemExit) as caught:
        draw(run, shard_slice(**part), inputs)
    assert caught.value.code == 1
    message = capfd.readouterr().err
    assert word in message
    assert "Traceback" not in message
    assert not list((run / "pools").rglob("manifest.json"))


def test_a_damaged_shard_is_refused(run):
    manifest = merge(run)
    path = manifest.parent / "shard-0/images.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(SynthGainError, match="checksum"):
        read_replicas([(manifest, None)])


def test_a_redrawn_shard_under_an_old_merge_is_refused(run):
    manifest = merge(run)
    draw(run, shard_slice(), identity="newer")
    with pytest.raises(SynthGainError, match=r"shard-0"):
        read_replicas([(manifest, "replica-1")])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_a_store_is_indexing_of_the_joined_arrays(sizes, data):
    whole = np.arange(2 * sum(sizes), dtype=np.uint8).reshape(-1, 1, 1, 2)
    arrays = np.split(whole, np.cumsum(sizes)[:-1])
    positions = data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=9)) if sum(sizes) else []
    assert np.array_equal(ImageStore(arrays).gather(np.array(positions, dtype=int)), whole[positions])
    with pytest.raises(IndexError):
        ImageStore(arrays).gather(np.array([sum(sizes)]))


def test_replicas_stay_memory_mapped(run):
    images = read_replicas([(merge(run, shards=2), None)]).arrays
    assert all(isinstance(array, np.memmap) for array in images)


def test_counts_add_up():
    assert added([{"a": {"x": 1}}, {"a": {"x": 2, "y": 1}, "b": {"z": 1}}]) == {"a": {"x": 3, "y": 1}, "b": {"z": 1}}


def test_merging_imports_nothing_heavy():
    code = "import sys, merge_pool_replica; print([m for m in ('torch', 'pandas', 'numpy') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow_scripts")}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


SLOW_SCRIPT = """
import sys
import synthgain.pools.generated
from draw_pool_shard import draw_pool_shard
from pool_sources import GaussianGenerator
from synthgain.runtime.command import run_script
synthgain.pools.generated.load_generator = lambda *_: GaussianGenerator(seconds=0.05)
run_script(draw_pool_shard)
"""


def start_slow(run, part, output):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'workflow_scripts'}{os.pathsep}{ROOT / 'tests'}"}
    line = job_line(run, output, part, GENERATED, "shard-1-0-1")
    return subprocess.Popen([sys.executable, "-c", SLOW_SCRIPT, *line], env=environment, stderr=subprocess.PIPE)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_killed_shard_goes_on_and_ends_bit_identical(run, tmp_path_factory, number, code):
    part = shard_slice(sampling={"solver": "heun", "steps": 4, "batch_size": 2})
    output = "pools/drawn/0/replica-1/shard-0/manifest.json"
    state = (run / "state" / output).with_suffix("")
    process = start_slow(run, part, output)
    deadline = time.monotonic() + 60
    while len(list(state.glob("batch-*.json"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    kept = len(list(state.glob("batch-*.json")))
    assert kept >= 2
    assert not (run / output).exists()
    counted = GaussianGenerator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthgain.pools.generated, "load_generator", lambda *_: counted)
        draw(run, part, identity="shard-1-0-1")
    resumed = read_image_set((run / output).parent)
    batches = -(-len(resumed) // 2)
    assert counted.calls == (batches - kept) * 7
    fresh = tmp_path_factory.mktemp("fresh")
    make_source(fresh)
    write_json(fresh / "generators/g/0/manifest.json", {"identity": "generator"})
    draw(fresh, part)
    assert np.array_equal(read_image_set((fresh / output).parent).images, resumed.images)


def test_shards_of_other_columns_are_not_merged(run, capfd):
    output, identity = draw(run, shard_slice(0, 2))
    _, other = draw(run, shard_slice(1, 2))
    path = run / "pools/drawn/0/replica-1/shard-1"
    manifest = json.loads((path / "manifest.json").read_text())
    facts = {name: value for name, value in manifest.items() if name not in ("identity", "files")}
    write_manifest(path / "manifest.json", other, list(manifest["files"]), **{**facts, "column_order": ["sex"]})
    inputs = {output: identity, output.replace("shard-0", "shard-1"): other}
    part = {"pool": "drawn", "index": 0, "replica": 1, "shards": 2}
    with pytest.raises(SystemExit):
        call(merge_pool_replica, job_line(run, "pools/drawn/0/replica-1/manifest.json", part, inputs, "m"))
    assert "column_order" in capfd.readouterr().err
