"""Guidance by an earlier snapshot, and weight averages of several lengths: what they draw, and what they rerun."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from devices import DEVICE
from generator_jobs import training_job, write_data
from studies import tiny
from test_generator_training import kill_after, weights_digest

from synthgain.generators.autoguidance import autoguided
from synthgain.generators.loading import load_generator
from synthgain.generators.training import train_family
from synthgain.pools.generated import guided_by_earlier
from synthgain.pools.options import Pool, Sampling
from synthgain.pools.passes import evaluations
from synthgain.pools.sampling import Sampler, sample
from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study
from synthgain.study.session import Session

ROOT = Path(__file__).parent.parent
ROWS = pd.DataFrame({"finding": [1.0] * 12 + [0.0] * 12})


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator that has learned which discs are bright, with an early snapshot and a short weight average."""
    run = tmp_path_factory.mktemp("guided")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        steps = {"steps": 150, "batch_size": 16, "dropout": 0.0, "learning_rate": 3e-3, "snapshots": [30]}
        averages = {"ema_decay": 0.98, "ema_decays": [0.5]}
        job = training_job(run, write_data(run, patients=40), training=steps | averages, condition_on=["finding"])
        train_family(job)
    return job.outputs[0].parent


def drawn(folder: Path, ema_decay: float | None = None, **options: Any) -> torch.Tensor:
    sampling = Sampling(steps=6, compile=False, **options)
    generator = load_generator(folder, None, DEVICE, ema_decay)
    inputs = SimpleNamespace(generators={("ddpm", 0): SimpleNamespace(folder=lambda: folder)})
    request = SimpleNamespace(options={"generator": ["ddpm", 0]}, inputs=inputs)
    guided = guided_by_earlier(request, generator, sampling)  # type: ignore[arg-type]
    return Sampler(guided, sampling).draw(np.arange(len(ROWS)), lambda: guided.encode_conditions(ROWS)).cpu()


def contrast(images: torch.Tensor) -> float:
    return float(images[:12].mean() - images[12:].mean())


def test_at_weight_1_it_is_the_plain_sampler_to_the_bit_and_above_it_leads_away_from_the_earlier_one(
    trained: Path,
) -> None:
    plain = drawn(trained)
    assert torch.equal(drawn(trained, autoguidance={"snapshot": 30, "scale": 1.0}), plain)
    early = contrast(drawn(trained, autoguidance={"snapshot": 30, "scale": 0.0}))  # the earlier one alone
    further = contrast(drawn(trained, autoguidance={"snapshot": 30, "scale": 2.0}))
    assert early < contrast(plain) < further  # the early one had not yet learned the finding


class Toy:
    """A denoiser of one number, of an encoding of its own."""

    sigma_min, sigma_max = 0.1, 10.0

    def __init__(self, value: float) -> None:
        self.value, self.calls = value, 0

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor, condition: dict[str, torch.Tensor]) -> torch.Tensor:
        self.calls += 1
        return x * 0 + self.value * condition["vector"]

    def null_condition(self, n: int, prompt: str | None = None) -> dict[str, torch.Tensor]:
        return {"vector": torch.full((n,), self.value)}


def test_the_formula_and_its_interval() -> None:
    both = autoguided(Toy(3.0), Toy(2.0), 2.0, [0.5, 1.5])  # type: ignore[arg-type]
    condition, x = both.null_condition(1), torch.zeros(1)
    assert both.denoise(x, torch.ones(1), condition).item() == 4 + 2 * (9 - 4)  # each with its own encoding
    assert both.denoise(x, torch.tensor([2.0]), condition).item() == 9


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m"])
def test_its_passes_are_counted(solver: str) -> None:
    strong, weak = Toy(3.0), Toy(2.0)
    both = autoguided(strong, weak, 2.0)  # type: ignore[arg-type]
    sample(both, both.null_condition(1), torch.zeros(1, 1, 1, 1), solver, 5)
    guided = Sampling(solver=solver, steps=5, autoguidance={"snapshot": 1})  # type: ignore[arg-type]
    assert evaluations(guided) == strong.calls + weak.calls
    assert evaluations(guided.model_copy(update={"autoguidance": None})) == strong.calls


def test_the_averages_of_several_lengths_are_kept_and_drawn_from(trained: Path) -> None:
    facts = json.loads((trained / "manifest.json").read_text())
    assert facts["ema_decays"] == [0.98, 0.5]
    assert "ema-0.5/network/diffusion_pytorch_model.safetensors" in facts["files"]
    assert "snapshots/30/ema-0.5/network/diffusion_pytorch_model.safetensors" in facts["files"]
    assert not torch.equal(drawn(trained, 0.5), drawn(trained))
    with pytest.raises(SynthGainError, match=r"no weights of ema_decay 0\.9; keep them \(training\.ema_decays\)"):
        load_generator(trained, ema_decay=0.9)


def test_a_further_average_changes_nothing_of_the_first_and_survives_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = {}
    for name, averages in (("one", {}), ("two", {"ema_decays": [0.5]}), ("killed", {"ema_decays": [0.5]})):
        run = tmp_path / name
        jobs[name] = training_job(run, write_data(run), training={"save_every": 2, **averages})
        for steps in (3, 4) if name == "killed" else ():
            kill_after(monkeypatch, steps, jobs[name])
        train_family(jobs[name])
    assert weights_digest(jobs["two"]) == weights_digest(jobs["killed"])  # of all averages
    weights = Path("network") / "diffusion_pytorch_model.safetensors"
    first, second = ((jobs[name].outputs[0].parent / weights).read_bytes() for name in ("one", "two"))
    assert first == second


def planned(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, str]:
    monkeypatch.chdir(ROOT)
    (plan,) = Session(tiny(**changes), ROOT, Path("results")).planners.values()
    plan.job("write_report")
    return {job.output: job.identity for job in plan.jobs()}


def test_another_width_or_an_earlier_guide_redraws_and_retrains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"generators__ddpm__training__ema_decays": [0.9]}
    before = planned(monkeypatch, **kept)
    for change in (
        {"pools__drawn__ema_decay": 0.9},
        {"pools__drawn__sampling": {"steps": 2, "batch_size": 16, "autoguidance": {"snapshot": 3}}},
    ):
        after = planned(monkeypatch, **kept, **change)
        changed = {path.split("/")[0] for path in before if after[path] != before[path]}
        assert {"pools", "downstream", "memorisation"} <= changed
        assert not {"generators", "samples"} & changed
    assert (
        planned(monkeypatch, **kept, pools__drawn__ema_decay=0.999)["pools/drawn/0/replica-1/manifest.json"]
        == (before["pools/drawn/0/replica-1/manifest.json"])
    )
    plain = planned(monkeypatch)
    assert plain["generators/ddpm/0/manifest.json"] != before["generators/ddpm/0/manifest.json"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ema_decay": 0.9}, r"pools\.drawn\.ema_decay: 0\.9 of generator 'ddpm' is not kept; kept are 0\.999"),
        (
            {"sampling__autoguidance": {"snapshot": 4}},
            r"pools\.drawn\.sampling\.autoguidance\.snapshot: 4 of generator 'ddpm' is not kept; kept are 3, 6",
        ),
        (
            {"sampling__autoguidance": {"snapshot": 6}},
            r"autoguidance\.snapshot: 6 is no earlier than the pool's own 6; kept are 3, 6",
        ),
        (
            {"sampling__autoguidance": {"snapshot": 3, "ema_decay": 0.5}},
            r"autoguidance\.ema_decay: 0\.5 of generator 'ddpm' is not kept",
        ),
    ],
)
def test_what_is_not_kept_is_refused_while_planning(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SynthGainError, match=said):
        planned(monkeypatch, **{f"pools__drawn__{name}": value for name, value in changes.items()})


def test_wrong_options_are_one_line() -> None:
    both = {"guidance_scale": 2.0, "autoguidance": {"snapshot": 3}}
    with pytest.raises(SynthGainError, match=r"give guidance_scale .* or autoguidance, not both"):
        parse_study(tiny(pools__drawn__sampling=both))
    with pytest.raises(ValueError, match=r"ema_decay and sampling\.autoguidance go with from"):
        Pool.model_validate({"known": "copier", "rows_of": "a", "ema_decay": 0.9})
    twice = copy.deepcopy(tiny()["generators"]["ddpm"]["training"]) | {"ema_decays": [0.999]}
    with pytest.raises(SynthGainError, match=r"ema_decays: \[0\.999\] beside ema_decay 0\.999: give each of them once"):
        parse_study(tiny(generators__ddpm__training=twice))
    gan = {"family": "gan", "train_on": {"datasets": ["hospital_a"]}, "training": {"steps": 4, "batch_size": 4}}
    pool = {"from": "gan", "rows_of": "hospital_a", "sampling": {"autoguidance": {"snapshot": 1}}}
    with pytest.raises(SynthGainError, match=r"pools\.other\.sampling\.autoguidance: .*drawn in one pass"):
        parse_study(tiny(generators__gan=gan, pools__other=pool))
