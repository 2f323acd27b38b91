"""A network replayed as a CUDA graph gives the same bits: on a GPU, with SYNTHGAIN_TEST_DEVICE=cuda."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from devices import DEVICE
from generator_jobs import training_job, write_data

from synthgain.device import chosen_device
from synthgain.generators.diffusion.generator import DiffusionGenerator, load
from synthgain.generators.training import train_family
from synthgain.networks import recording
from synthgain.pools.options import Sampling
from synthgain.pools.sampling import Sampler

pytestmark = pytest.mark.skipif(DEVICE == "cpu", reason="CUDA graphs need a GPU: SYNTHGAIN_TEST_DEVICE=cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A generator of few steps."""
    place = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        job = training_job(place, write_data(place))
        train_family(job)
        yield job.outputs[0].parent


def counting(made: list[object]) -> Any:
    """Recorded._record, which notes what it makes."""
    original = recording.Recorded._record

    def record(self: Any, arguments: Any) -> Any:
        made.append(original(self, arguments))
        return made[-1]

    return record


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_replayed_samples_are_the_launched_ones(folder, precision, guidance, monkeypatch):
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    options = Sampling(**{"steps": 3, "precision": precision, "guidance_scale": guidance, "compile": False})

    def drawn() -> torch.Tensor:
        generator = load(folder, None, chosen_device())
        sampler = Sampler(generator, options)
        return torch.stack(
            [sampler.draw(np.arange(8) + first, lambda: generator.null_condition(8)) for first in (0, 8)]
        )

    recorded = []
    monkeypatch.setattr(recording.Recorded, "_record", counting(recorded))
    replayed = drawn()
    assert len(recorded) == 1
    monkeypatch.setattr(DiffusionGenerator, "record", lambda self: None)
    launched = drawn()
    assert torch.equal(replayed, launched)
    assert not torch.equal(replayed[0], replayed[1])


def test_compiled_training_goes_the_same_way(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    losses = {}
    for compiled in (False, True):
        place = tmp_path / str(compiled)
        job = training_job(place, write_data(place), training={"compile": compiled, "dropout": 0.0})
        train_family(job)
        losses[compiled] = pd.read_csv(job.outputs[0].parent / "training.csv")["loss"].to_numpy()
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.02)
