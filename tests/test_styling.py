"""Styling: images move towards the look of their parent, their masks stay, and the network that styles is no judge."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from appearances import planted, write_planted
from generator_jobs import training_job
from pool_sources import call, job_line, shard_slice
from studies import tiny

from draw_pool_shard import draw_pool_shard
from synthgain.data.image_set import read_image_set
from synthgain.data.pixels import to_batch
from synthgain.generators.training import train_family
from synthgain.pools.inpainting import NoiseStreams
from synthgain.pools.options import PlannedStyling, Sampling
from synthgain.pools.passes import styling_evaluations
from synthgain.pools.sampling import karras_sigmas
from synthgain.pools.styling import Styler, colour_matched, joined, style
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import digest, read_manifest
from synthgain.study.code import CodeDigests
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.stages.table import STAGES

NOT_FLAGGED = {"scores": "memorisation", "column": "flagged", "keep": "false"}
ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


def test_styling_moves_feature_statistics_towards_the_parent_and_leaves_masks() -> None:
    drawn, masks = planted(np.zeros(3, int), 32, seed=1)
    parents, _ = planted(np.ones(3, int), 32, seed=2)
    both, own = joined(drawn, masks), to_batch(torch.from_numpy(parents))
    sigmas = [1.0, 0.5, 0.25, 0.12, 0.06, 0.0]
    moved = {}
    for weight in (0.0, 0.1):
        styler = Styler(PlannedStyling(strength=0.8, weight=weight, size=64), CPU)
        noise = NoiseStreams(np.arange(3), tuple(both.shape[1:]), CPU)
        with torch.no_grad():
            moved[weight] = style(styler, lambda x, sigma: both, both, own, sigmas, noise)  # knows the drawn image
            target = styler.statistics(own)
            moved[f"{weight} distance"] = styler.distance(moved[weight][:, :3], target)
    assert (moved["0.1 distance"] < 0.8 * moved["0.0 distance"]).all()
    assert torch.equal(moved[0.1][:, 3:], both[:, 3:])


class Counting:
    """Denoises to what it is told, and counts how often."""

    def __init__(self, clean: torch.Tensor) -> None:
        self.clean, self.calls = clean, 0

    def __call__(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        self.calls += 1
        return self.clean


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("strength", [0.01, 0.4, 1.0])
def test_evaluations_of_styling_are_its_levels(steps: int, strength: float) -> None:
    images, masks = planted(np.zeros(1, int), 32)
    both = joined(images, masks)
    styler = Styler(PlannedStyling(strength=strength, weight=0, size=64), CPU)
    denoise = Counting(both)
    noise = NoiseStreams(np.arange(1), tuple(both.shape[1:]), CPU)
    style(styler, denoise, both, both[:, :3], karras_sigmas(steps, 0.01, 80.0), noise)
    assert denoise.calls == styling_evaluations(Sampling(steps=steps), strength)


def test_the_forecast_has_what_styling_costs() -> None:
    place = {"pool": "drawn", "index": 0, "replica": 1, "shard": 0}
    plain = styled()
    del plain["pools"]["drawn"]["styling"]
    costs = []
    for config in (plain, styled(strength=0.5), styled(strength=0.5, weight=0)):
        config["pools"]["drawn"] |= {"replicas": 2, "shards": 1, "sampling": {"steps": 8}}
        plan = planner(config)
        terms = plan.stages["draw_pool_shard"].work(plan, **place)
        assert {term.kind for term in terms} <= set(plan.job("measure_speed").slice["kinds"])
        of = {unit: sum(term.amount for term in terms if term.unit == unit) for unit in ("pass", "image")}
        costs.append((of["pass"], of["image"]))
    assert costs == [(8, 0), (8 + 4, 5 + 2 * 4), (8 + 4, 5)]


def test_colours_become_the_parents() -> None:
    drawn, _ = planted(np.zeros(2, int), 32, seed=1)
    parents, _ = planted(np.ones(2, int), 32, seed=2)
    matched = colour_matched(drawn, parents).astype(float)
    assert np.allclose(matched.mean(axis=(1, 2)), parents.mean(axis=(1, 2)), atol=1)
    assert np.allclose(matched.std(axis=(1, 2)), parents.std(axis=(1, 2)), atol=1)


def styled(**changes: Any) -> dict[str, Any]:
    """Return the tiny study with pairs of lungs, styled."""
    config = copy.deepcopy(tiny())
    config["generators"]["ddpm"] |= {"output": "image+mask", "structures": ["lungs"]}
    config["pools"]["drawn"]["styling"] = {"strength": 0.5, **changes}
    return config


def planner(config: dict[str, Any]) -> Planner:
    code = CodeDigests(ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock")
    study = parse_study(config, "config")
    return Planner(study, study.study, study.seed, code, Path("results"), None, STAGES)


def test_another_strength_redraws_and_trains_no_generator() -> None:
    before, after = planner(styled()), planner(styled(strength=0.6))
    shard = {"pool": "drawn", "index": 0, "replica": 1, "shard": 0}
    assert before.job("draw_pool_shard", **shard).identity != after.job("draw_pool_shard", **shard).identity
    place = {"generator": "ddpm", "index": 0}
    assert before.job("train_generator", **place).identity == after.job("train_generator", **place).identity


def test_the_network_that_styles_is_no_judge() -> None:
    spaces = planner(styled()).job("measure_fidelity", pool="drawn", index=0).slice["spaces"]
    assert "efficientnet_lite0" not in [space["name"] for space in spaces]
    config = styled()
    config["evaluation"]["fidelity"] = {"spaces": ["efficientnet_lite0"]}
    config["pools"]["best"] = {
        "of": "drawn",
        "filter": {"scores": "memorisation", "column": "flagged", "keep": "false"},
    }
    for pools in (None, ["drawn"], ["best"]):
        config["evaluation"]["pools"] = pools
        with pytest.raises(SynthGainError, match="styles pool 'drawn', and it may not judge what it styled"):
            parse_study(config, "config")


def test_the_gate_and_its_filter_do_not_look_with_the_network_that_styled() -> None:
    config = styled()
    config["evaluation"]["memorisation"] = {"space": "efficientnet_lite0"}
    config["pools"]["best"] = {
        "of": "drawn",
        "filter": {"scores": "memorisation", "column": "flagged", "keep": "false"},
    }
    for pool in ("drawn", "best"):
        assert planner(config).job("check_memorisation", pool=pool, index=0).slice["space"] is None
    config["evaluation"]["memorisation"] = {"space": "downstream"}
    assert planner(config).job("check_memorisation", pool="drawn", index=0).slice["space"]["name"] == "downstream"
    del config["pools"]["drawn"]["styling"]
    config["evaluation"]["memorisation"] = {"space": "efficientnet_lite0"}
    assert planner(config).job("check_memorisation", pool="drawn", index=0).slice["space"] is not None


def test_a_pool_that_is_not_measured_needs_no_judge() -> None:
    config = styled()
    config["evaluation"] |= {"fidelity": {"spaces": ["efficientnet_lite0"]}, "pools": ["plain"]}
    config["pools"]["plain"] = {name: value for name, value in config["pools"]["drawn"].items() if name != "styling"}
    assert parse_study(config, "config").pools["drawn"].styling is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generators__ddpm": {"output": "image", "structures": []}}, "styling: needs a generator that denoises"),
        ({"pools__drawn": {"from": None, "known": "oracle"}}, "styling: goes with from"),
    ],
)
def test_what_cannot_be_styled_is_one_line(change: dict[str, Any], message: str) -> None:
    config = styled()
    for place, values in change.items():
        kind, name = place.split("__")
        config[kind][name] |= values
    with pytest.raises(SynthGainError) as error:
        parse_study(config, "config")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("inpainting", [None, {"structure": "lesion", "dilate": 0.1, "resamples": 1, "jump_length": 1}])
def test_a_styled_pool_has_the_masks_of_the_plain_one(tmp_path: Path, inpainting: dict[str, Any] | None) -> None:
    inputs = write_planted(tmp_path, np.arange(6) % 3, size=16)
    job = training_job(
        tmp_path, inputs, "g", output="image+mask", structures=["lesion"], condition_on=[],
        image={"size": 16, "channels": 3}, training={"steps": 4},
    )  # fmt: skip
    train_family(job)
    made = "generators/g/0/manifest.json"
    inputs = {**inputs, made: read_manifest(tmp_path / made)["identity"]}
    found = {}
    for name, styling in (("plain", None), ("styled", {"strength": 0.5, "colour": True, "size": 64})):
        part = shard_slice(
            module="pairs", rows_of="toy", image={"size": 16, "channels": 3}, inpainting=inpainting,
            **({} if styling is None else {"styling": styling}),
        )  # fmt: skip
        output = f"pools/{name}/0/replica-1/shard-0/manifest.json"
        call(draw_pool_shard, job_line(tmp_path, output, part, inputs, digest([part, name])))
        found[name] = read_image_set((tmp_path / output).parent)
    plain, other = found["plain"], found["styled"]
    assert np.array_equal(plain.masks, other.masks)
    styled_facts = read_manifest(tmp_path / "pools/styled/0/replica-1/shard-0/manifest.json")["styled"]["features"]
    assert styled_facts["images"] == 6
    assert styled_facts["styled"] < styled_facts["drawn"]
    assert not np.array_equal(plain.images, other.images)
    source = read_image_set(tmp_path / "datasets/toy")
    place = {name: row for row, name in enumerate(source.table["image_id"])}
    parents = source.images[[place[name] for name in other.table["parent_image_id"]]]
    if inpainting is None:
        assert np.abs(other.images.mean(axis=(1, 2)) - parents.mean(axis=(1, 2))).max() < 5
    else:
        assert np.array_equal(other.images[:, 0], parents[:, 0])  # surroundings stay the real ones
