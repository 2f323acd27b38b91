"""Segmentation in the config and in the plans: what is refused, what a slice holds, what reruns."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from studies import tiny

from synthgain.downstream.options import Arm
from synthgain.runtime.errors import SynthGainError
from synthgain.study.code import CodeDigests
from synthgain.study.load import parse_study
from synthgain.study.planner import Planner
from synthgain.study.roles import trainings_of
from synthgain.study.session import Session  # noqa: F401  (registers the plans)
from synthgain.study.stages.downstream import floor_arm, network_entry
from synthgain.study.stages.table import STAGES
from synthgain.study.training import Model
from synthgain.study.yaml_files import read_yaml

ROOT = Path(__file__).parent.parent
LUNGS = {"task": "segmentation", "structures": ["lungs"], "steps": 10}
ARM = {"real": "hospital_a", "synthetic": "drawn", "ratios": [100]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"structures": []}, "segmentation needs structures"),
        ({"targets": ["opacity"]}, "segmentation needs structures, and no targets"),
        ({"task": "classification"}, "classification needs targets, and no structures"),
        ({"structures": ["lungs", "lungs"]}, "must be different"),
        (
            {"network": "small_cnn"},
            "unknown network 'small_cnn' for segmentation; known: basic_unet_plusplus, fl",
        ),
        ({"selection_metric": "auroc"}, "auroc is not for segmentation"),
        ({"task": "classification", "structures": [], "targets": ["opacity"], "window": 16}, "window is for task"),
        (
            {"task": "classification", "structures": [], "targets": ["opacity"], "selection_metric": "dice"},
            "dice is not",
        ),
    ],
)
def test_models_that_make_no_task(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Model(**{**LUNGS, **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"synthetic": None, "repeat": True}, "needs both real and synthetic"), ({"ratios": [150]}, "whole copies")],
)
def test_sibling_arms_that_make_no_sense(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Arm(**{**ARM, "sibling_probability": 0.5, **fields})


PAIRS = ROOT / "studies" / "polyps.yaml"
REFUSED: list[tuple[tuple[str, ...], dict[str, Any], list[str]]] = [
    (("generators", "pairs"), {"structures": ["polp"]}, ["generators.pairs.structures", "did you mean 'polyp'"]),
    (("generators", "pairs"), {"structures": []}, ["generators.pairs", "name the masks"]),
    (("generators", "gan_pairs"), {"condition_on": ["mask"]}, ["gan", "not conditioned on masks"]),
    (("pools", "whole"), {"masks": {"source": "transformed"}}, ["pools.whole.masks", "not conditioned"]),
    (("pools", "inpainted", "inpainting"), {"structure": "polp"}, ["pools.inpainted.inpainting.structure", "'polyp'"]),
    (("pools", "gan"), {"inpainting": {"structure": "polyp"}}, ["pools.gan", "'gan_pairs' is a gan"]),
    (("pools", "agreeing", "filter"), {"scores": "label_consistency"}, ["needs a classification model", "'unet'"]),
    (("pools", "inpainted", "inpainting"), {"jump_length": 10}, ["pools.inpainted.inpainting.jump_length", "10 of 10"]),
    (("pools", "inpainted", "sampling"), {"solver": "heun"}, ["pools.inpainted.sampling.solver", "RePaint"]),
    (("pools", "gan"), {"sampling": {"steps": 20}}, ["pools.gan.sampling.steps", "'gan_pairs' is a gan"]),
    (("generators", "gan_pairs"), {"output": "image", "structures": []}, ["'gan' has no masks for model 'unet'"]),
    (("models", "unet"), {"structures": ["lung"]}, ["models.unet.structures", "known: polyp"]),
    (("models", "unet"), {"window": 64}, ["models.unet.window", "above image.size 32"]),
    (("arms", "sibling"), {"synthetic": "thinned"}, ["arms.sibling.sibling_probability", "neither balanced nor"]),
    (("arms", "real_long"), {"balance": {"mode": "reweight", "targets": {"polyp": 0.5}}}, ["arms.real_long.balance"]),
    (("analysis", "primary"), {"metric": "auroc"}, ["analysis.primary.metric", "not for segmentation"]),
]


@pytest.mark.parametrize(("place", "change", "words"), REFUSED, ids=[".".join(place) for place, _, _ in REFUSED])
def test_masks_that_lead_nowhere(place: tuple[str, ...], change: dict[str, Any], words: list[str]) -> None:
    config = read_yaml(PAIRS)
    here = config
    for key in place:
        here = here[key]
    here.update(change)
    with pytest.raises(SynthGainError) as caught:
        parse_study(config)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_networks_by_name_and_with_options() -> None:
    module = "monai_segmenters"
    assert network_entry(Model(**LUNGS)) == {"module": module, "options": {"name": "unet"}}
    chosen = Model(**LUNGS, network={"name": "segresnet", "init_filters": 16})
    assert network_entry(chosen) == {"module": module, "options": {"name": "segresnet", "init_filters": 16}}


def planner(**model: Any) -> Planner:
    pairs = {"generators__ddpm__output": "image+mask", "generators__ddpm__structures": ["lungs"]}
    changes: dict[str, Any] = {"models__lungs": {**LUNGS, **model}, **pairs}
    study = parse_study(tiny(**changes))
    code = CodeDigests(ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock")
    return Planner(study, "tiny", 0, code, Path("results"), None, STAGES)


PLACE = {"model": "lungs", "arm": "real", "ratio": 0, "chunk": 0}


def test_another_tolerance_predicts_again_and_trains_nothing() -> None:
    before, after = planner(), planner(tolerance=3.0, keep_masks=True)
    assert before.job("train_downstream", **PLACE).identity == after.job("train_downstream", **PLACE).identity
    assert before.job("predict_downstream", **PLACE).identity != after.job("predict_downstream", **PLACE).identity
    wider = planner(window=16)
    assert before.job("train_downstream", **PLACE).identity != wider.job("train_downstream", **PLACE).identity


def test_a_segmenter_is_none_of_a_classifiers_code() -> None:
    study = planner()
    own = study.job("train_downstream", **{**PLACE, "model": "cnn"})
    assert own.slice["model"]["task_module"] == "classification"
    facts = study.code
    modules = ("synthgain.downstream.classification", "synthgain.networks.small_cnn")
    assert own.code == facts.digest("train_downstream.py", modules)
    heavy = facts.digest("train_downstream.py", (*modules, "synthgain.downstream.segmentation"))
    assert own.code != heavy
    closure = _closure(study, modules)
    assert "monai" not in closure
    assert "monai" in _closure(study, ("synthgain.downstream.segmentation",))


def _closure(study: Planner, modules: tuple[str, ...]) -> set[str]:
    """Names of every package that the training job's code imports, by the digest's own facts."""
    code = study.code
    return {name for path in code.closure("train_downstream.py", modules) for name in code._of(path)["packages"]}


def test_floors_rest_on_the_real_arm_and_on_what_it_is_tested_on() -> None:
    plan = planner()
    assert floor_arm(plan, "lungs") == "real"
    job = plan.job("trivial_floor", model="lungs")
    assert job.output == STAGES["trivial_floor"].output.format(model="lungs") == "floors/lungs.parquet"
    predicted = plan.job("predict_downstream", **PLACE)
    assert job.slice["evaluate"] == predicted.slice["evaluate"]
    assert job.slice["arm"] == {"name": "real", "real": "hospital_a", "real_fraction": 1.0}
    assert not any(path.startswith("downstream/") for path in job.inputs)


@pytest.mark.parametrize("name", ["polyps", "polyps_clusters", "lungs", "saragih2024"])
def test_shipped_studies_of_pairs_plan_to_their_report(name: str) -> None:
    """Every job, filters, controls and inpainting with them, on the phantom in place of the hospitals' films."""
    text = json.dumps(read_yaml(ROOT / "studies" / f"{name}.yaml"))
    config = json.loads(text.replace('"polyp"', '"lungs"').replace('"tb"', '"opacity"'))
    for dataset, entry in config["datasets"].items():
        split = {"split": entry["split"]} if "split" in entry else {}
        config["datasets"][dataset] = {"adapter": "phantom", "patients": 400, **split}
    for model in config["models"].values():
        model.pop("pretrained_encoder", None)  # a file of the user's
    study = parse_study(config)
    code = CodeDigests(ROOT / "workflow_scripts", ROOT / "envs" / "requirements.lock")
    plan = Planner(study, name, 0, code, Path("results"), None, STAGES)
    plan.job("write_report")
    jobs = plan.jobs()
    assert len({job.identity for job in jobs}) == len(jobs)
    rules = Counter(job.rule for job in jobs)
    cells = sum(max(1, len(arm.ratios)) for arm in study.arms.values()) * len(plan.chunks()) * len(study.models)
    assert rules["train_downstream"] == rules["predict_downstream"] == cells
    assert rules["train_generator"] == sum(len(trainings_of(study, generator)) for generator in study.generators)
    drawn = {job.slice["pool"]: job for job in jobs if job.rule == "draw_pool_shard"}
    assert set(drawn) == set(study.pools)
    for pool, entry in study.pools.items():
        assert (drawn[pool].slice.get("inpainting") is not None) == (entry.inpainting is not None)
        scored = any(path.startswith("label_consistency/") for path in drawn[pool].inputs)
        assert scored == (entry.of is not None), pool  # a filter and its control read the segmenter's scores
