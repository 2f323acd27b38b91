"""A pool drawn from a generator that this project trained, for any number of shards."""

import numpy as np
import pytest
from devices import DEVICE, ON_CPU
from generator_jobs import COLUMNS, training_job, write_data
from pool_sources import call, job_line, shard_slice

from draw_pool_shard import draw_pool_shard
from synthgain.data.image_set import read_image_set
from synthgain.generators.training import train_family
from synthgain.runtime.files import digest, read_manifest

SAMPLING = {"solver": "dpmpp_2m", "steps": 3, "batch_size": 8}
GENERATOR = "generators/ddpm/0/manifest.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run folder with a data set and a generator of a few steps, and the inputs of its pool."""
    run = tmp_path_factory.mktemp("run")
    inputs = write_data(run)
    job = training_job(run, inputs)
    train_family(job)
    return run, {**inputs, GENERATOR: read_manifest(run / GENERATOR)["identity"]}


def draw(trained, pool, shards=1, **changes):
    run, inputs = trained
    parts = []
    for shard in range(shards):
        options = {"generator": ["ddpm", 0], "snapshot": changes.pop("snapshot", None)}
        part = shard_slice(
            shard, shards, pool=pool, rows_of="toy", options=options, **{"sampling": SAMPLING, **changes}
        )
        output = f"pools/{pool}/0/replica-1/shard-{shard}/manifest.json"
        call(draw_pool_shard, job_line(run, output, part, inputs, digest(part)))
        parts.append(read_image_set((run / output).parent))
    return np.concatenate([part.images for part in parts]), parts


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)


def test_bit_identical_for_any_number_of_shards(trained):
    whole, (shard,) = draw(trained, "drawn")
    assert whole.shape == (20, 8, 8, 1)
    assert shard.columns == COLUMNS
    assert len({image.tobytes() for image in whole}) == len(whole)
    for shards in (2, 3):
        cut, _ = draw(trained, "drawn", shards)
        assert np.array_equal(cut, whole)


@ON_CPU
def test_batch_size_moves_no_pixel_by_more_than_rounding(trained):
    whole, _ = draw(trained, "drawn")
    other, _ = draw(trained, "drawn", sampling={**SAMPLING, "batch_size": 3})
    difference = np.abs(whole.astype(int) - other.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_guidance_changes_pixels_and_interval_limits_it(trained):
    whole, _ = draw(trained, "drawn")
    guided, _ = draw(trained, "drawn", sampling={**SAMPLING, "guidance_scale": 3.0})
    outside, _ = draw(
        trained, "drawn", sampling={**SAMPLING, "guidance_scale": 3.0, "guidance_interval": [1000.0, 2000.0]}
    )
    assert not np.array_equal(guided, whole)
    assert np.array_equal(outside, whole)


def test_an_earlier_snapshot_draws_other_pixels(trained):
    run, _ = trained
    steps = read_manifest(run / "generators/ddpm/0/manifest.json")["snapshots"]
    whole, _ = draw(trained, "drawn")
    early, _ = draw(trained, "drawn", snapshot=steps[0])
    assert not np.array_equal(early, whole)


def test_a_snapshot_that_was_not_kept_ends_with_one_line(trained, capfd):
    with pytest.raises(SystemExit):
        draw(trained, "missing", snapshot=999999)
    message = capfd.readouterr().err
    assert "no snapshot 999999" in message
    assert "Traceback" not in message
