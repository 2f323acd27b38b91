"""Drawing a shard: the same pixels for any cut, any batch, and after any interruption."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from pool_sources import COLUMNS, KEYS, GaussianGenerator, make_table

from synthgain.data.pixels import to_uint8
from synthgain.pools.conditions import replica_rows, sample_seeds
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import FinishedBatches, draw_rows, noise_of
from synthgain.pools.shards import shard_bounds
from synthgain.runtime.command import Terminated
from synthgain.runtime.errors import SynthGainError

SAMPLING = {"solver": "dpmpp_2m", "steps": 4, "batch_size": 4}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    torch.set_num_threads(before)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def rows():
    return replica_rows(make_table(15), COLUMNS, {}, KEYS, "a")


def draw(folder, rows, bounds=None, generator=None, identity="job", **sampling):
    finished = FinishedBatches(folder, identity)
    generator = generator or GaussianGenerator()
    options = Sampling(**{**SAMPLING, **sampling})
    return draw_rows(
        generator, rows, sample_seeds(rows, KEYS), bounds or (0, len(rows)), options, finished, "pool drawn"
    )


@pytest.mark.parametrize("shards", [2, 3, 5, 9])
def test_pixels_do_not_depend_on_the_number_of_shards(tmp_path, rows, shards):
    whole = draw(tmp_path / "whole", rows)
    cuts = [shard_bounds(len(rows), shard, shards, unit=4) for shard in range(shards)]
    parts = [draw(tmp_path / str(cut[0]), rows, cut, identity=str(cut)) for cut in cuts]
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.shape == (len(rows), 8, 8, 1)
    assert whole.dtype == np.uint8
    assert len({image.tobytes() for image in whole}) == len(rows)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_pixels_do_not_depend_on_the_batch_size(tmp_path, rows, batch_size):
    one = draw(tmp_path / "one", rows).astype(int)
    two = draw(tmp_path / "two", rows, batch_size=batch_size).astype(int)
    assert np.abs(one - two).max() <= 1  # another kernel may round another way
    assert (one != two).mean() < 0.01


def test_an_empty_shard_has_no_images(tmp_path, rows):
    assert draw(tmp_path, rows, (4, 4)).shape == (0, 8, 8, 1)


def test_fewer_rows_leave_the_first_ones_alone(tmp_path, rows):
    whole = draw(tmp_path / "a", rows)
    assert np.array_equal(draw(tmp_path / "b", rows, (0, 8)), whole[:8])


def test_samples_have_the_law_of_the_generator(tmp_path):
    rows = replica_rows(make_table(100), COLUMNS, {}, KEYS, "a")
    images = draw(tmp_path, rows, steps=30, batch_size=64) / 127.5 - 1
    sick = (rows["opacity"] == 1).to_numpy()
    assert images[sick].mean() - images[~sick].mean() == pytest.approx(1, abs=0.1)
    assert images[~sick].std() == pytest.approx(0.3, abs=0.03)


def test_finished_batches_are_not_drawn_again(tmp_path, rows):
    whole = draw(tmp_path, rows)
    generator = GaussianGenerator()
    assert np.array_equal(draw(tmp_path, rows, generator=generator), whole)
    assert generator.calls == 0


def test_batches_of_another_identity_are_dropped(tmp_path, rows):
    draw(tmp_path, rows)
    generator = GaussianGenerator()
    draw(tmp_path, rows, generator=generator, identity="other")
    assert generator.calls > 0


@pytest.mark.parametrize("harm", ["flip", "cut", "no checksum"])
def test_a_damaged_batch_is_drawn_again(tmp_path, rows, harm):
    whole = draw(tmp_path, rows)
    path = tmp_path / "batch-00000001.npy"
    raw = bytearray(path.read_bytes())
    if harm == "flip":
        raw[-1] ^= 1
        path.write_bytes(raw)
    elif harm == "cut":
        path.write_bytes(raw[:-5])
    else:
        path.with_suffix(".json").unlink()
    generator = GaussianGenerator()
    assert np.array_equal(draw(tmp_path, rows, generator=generator), whole)
    assert generator.calls == SAMPLING["steps"]


def test_sigterm_gives_up_the_batch_in_hand_and_keeps_the_others(tmp_path, rows):
    class Interrupted(GaussianGenerator):
        def denoise(self, x, sigma, condition):
            if self.calls == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().denoise(x, sigma, condition)

    with pytest.raises(Terminated, match="4 of"):
        draw(tmp_path, rows, generator=Interrupted())
    assert len(list(tmp_path.glob("batch-*.npy"))) == 1
    generator = GaussianGenerator()
    resumed = draw(tmp_path, rows, generator=generator)
    assert generator.calls == (len(rows) + 3) // 4 * 4 - 4
    assert np.array_equal(resumed, draw(tmp_path / "fresh", rows))


def test_pixels_that_are_not_finite_stop_with_the_row_and_keep_what_is_done(tmp_path, rows):
    with pytest.raises(SynthGainError, match=r"row 6: .*not finite") as caught:
        draw(tmp_path, rows, generator=GaussianGenerator(broken_row=rows["image_id"][6]))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "batch-00000000.npy").exists()
    assert not (tmp_path / "batch-00000001.npy").exists()


def test_padding_that_is_not_finite_does_not_matter_beyond_the_last_row(tmp_path, rows):
    assert len(draw(tmp_path, rows, (len(rows) // 4 * 4, len(rows)))) == len(rows) % 4


def test_noise_is_standard_normal_and_per_sample():
    noise = noise_of(np.arange(500), (1, 8, 8))
    assert noise.dtype == torch.float32
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert torch.equal(noise_of(np.array([7]), (1, 8, 8))[0], noise[7])


def test_uint8_rounds_to_nearest_and_clips():
    values = torch.tensor([-2.0, -1.0, -1 / 127.5, 0.0, 0.5 / 127.5 + 1e-4, 1.0, 2.0]).view(1, 1, 1, 7)
    assert to_uint8(values).ravel().tolist() == [0, 0, 126, 128, 128, 255, 255]
    levels = np.arange(256, dtype=np.uint8)
    back = to_uint8(torch.tensor(levels / 127.5 - 1, dtype=torch.float32).view(1, 1, 1, 256))
    assert np.array_equal(back.ravel(), levels)


def test_bfloat16_stays_close(tmp_path, rows):
    one = draw(tmp_path / "one", rows).astype(int)
    assert np.abs(one - draw(tmp_path / "two", rows, precision="bfloat16").astype(int)).mean() < 3


def test_state_names_its_identity(tmp_path, rows):
    draw(tmp_path, rows)
    assert json.loads((tmp_path / "batch-00000000.json").read_text())["identity"] == "job"
