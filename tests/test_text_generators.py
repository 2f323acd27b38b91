"""Diffusion generators that are told of a text: training, loading, guidance, ControlNet, pools."""

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from devices import DEVICE
from generator_jobs import training_job, write_data
from job_inputs import paths_of
from studies import tiny
from test_generator_training import kill_after, weights_digest

from synthgain.generators.loading import load_generator
from synthgain.generators.training import train_family
from synthgain.networks.words import WordEncoder
from synthgain.pools.sampling import sample
from synthgain.report.blocks import Table
from synthgain.report.facts import PoolFacts
from synthgain.report.sections.prompts import prompts_blocks
from synthgain.runtime.command import Job
from synthgain.runtime.errors import SynthGainError
from synthgain.study.load import parse_study

NETWORK = {
    "module": "unet_text",
    "options": {"block_out_channels": [8, 16], "layers_per_block": 1, "attention_resolutions": [4]},
}
PROMPT = {"template": "A disc seen {view}. {findings}.", "words": {"finding": "bright"}, "none": "dark"}
TEXT: dict[str, Any] = {"network": NETWORK, "prompt": PROMPT, "condition_on": []}


@pytest.fixture(autouse=True)
def _on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGAIN_DEVICE", DEVICE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def text_job(run: Path, **changes: Any) -> Job:
    return training_job(run, write_data(run, patients=changes.pop("patients", 20)), **{**TEXT, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator that has learned which discs are bright."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGAIN_DEVICE", DEVICE)
        run = tmp_path_factory.mktemp("text")
        steps = {"steps": 200, "batch_size": 16, "dropout": 0.0, "learning_rate": 3e-3, "ema_decay": 0.95}
        job = text_job(run, patients=40, training=steps)
        train_family(job)
    return job.outputs[0].parent


def brightness(folder: Path, prompts: list[str], **options: Any) -> torch.Tensor:
    """Mean grey level of samples of these prompts, the same noise for each."""
    return levels(folder, prompts, **options).mean(dim=1)


def levels(folder: Path, prompts: list[str], **options: Any) -> torch.Tensor:
    """Mean grey level of each sample, (prompts, 12); samples of one column have the same noise."""
    generator = load_generator(folder)
    condition = generator.encode_conditions(pd.DataFrame({"prompt": [p for p in prompts for _ in range(12)]}))
    noise = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(1)).repeat(len(prompts), 1, 1, 1)
    with torch.inference_mode():
        drawn = sample(generator, condition, noise, "dpmpp_2m", 8, **options)
    return drawn.reshape(len(prompts), 12, -1).mean(dim=2)


def test_swapping_one_word_moves_every_sample_of_the_same_noise(trained: Path) -> None:
    bright, dark = levels(trained, ["A disc seen PA. bright.", "A disc seen PA. dark."])
    assert (bright > dark).float().mean() >= 0.95


def test_swapping_one_word_changes_the_image(trained: Path) -> None:
    bright, dark, null = brightness(trained, ["A disc seen PA. bright.", "A disc seen PA. dark.", ""])
    assert bright > dark + 0.15
    assert dark - 0.1 < null < bright + 0.1  # the null prompt lies between, as the training set does


def test_guidance_and_a_negative_prompt(trained: Path) -> None:
    prompt = ["A disc seen PA. bright."]
    plain = brightness(trained, prompt)
    away = brightness(trained, prompt, guidance_scale=1.5, negative_prompt="A disc seen PA. dark.")
    assert away > plain
    with pytest.raises(SynthGainError, match="never saw the word 'brigth'; did you mean 'bright'"):
        brightness(trained, ["brigth"])


def test_rows_with_a_word_that_it_never_saw_are_known(trained: Path) -> None:
    """Held-out images may have a level or a finding of which no training image told; lists of findings are readable."""
    generator = load_generator(trained)
    table = pd.DataFrame({"prompt": ["A disc seen PA. bright.", "A square seen PA. bright.", "A disc, and bright."]})
    assert generator.readable(table).tolist() == [True, False, True]
    comma = generator.text.config.vocabulary.index(",") + 1
    assert not generator.text.embedding.weight[comma].any()  # no training text held one, so it says nothing


def test_what_the_manifest_says_and_what_is_saved(trained: Path) -> None:
    facts = json.loads((trained / "manifest.json").read_text())
    assert facts["text"] is True
    assert facts["prompt"] == PROMPT
    assert set(facts["prompt_columns"]) == {"finding", "view", "age"}
    encoder = WordEncoder.from_pretrained(trained / "text_encoder", use_safetensors=True)
    assert {"bright", "dark", "pa", "ap"} <= set(encoder.vocabulary)
    generator = load_generator(trained)
    table = pd.DataFrame({"image_id": ["a"], "finding": [1.0], "view": ["PA"]})
    made, told = (
        generator.encode_conditions(t) for t in (table, pd.DataFrame({"prompt": ["A disc seen PA. bright."]}))
    )
    torch.testing.assert_close(made["tokens"], told["tokens"])  # without a prompt the rows become one as in training


def test_samples_with_plain_diffusers(trained: Path) -> None:
    """Twenty lines without a word of ours but the text encoder."""
    from diffusers import EDMDPMSolverMultistepScheduler, UNet2DConditionModel

    network = UNet2DConditionModel.from_pretrained(trained / "network")
    scheduler = EDMDPMSolverMultistepScheduler.from_pretrained(trained / "scheduler")
    encoder = WordEncoder.from_pretrained(trained / "text_encoder")
    condition = load_generator(trained).encode_conditions(pd.DataFrame({"prompt": ["A disc seen PA. bright."] * 8}))
    tokens, mask, of_text = encoder(encoder.inputs_of(["A disc seen PA. bright."] * 8))
    torch.testing.assert_close(condition["tokens"], tokens)
    scheduler.set_timesteps(8)
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    with torch.inference_mode():
        for time in scheduler.timesteps:
            inputs = scheduler.scale_model_input(x, time)
            output = network(
                inputs,
                time,
                encoder_hidden_states=tokens,
                encoder_attention_mask=mask,
                class_labels=condition["vector"],
            ).sample
            x = scheduler.step(output, time, x).prev_sample
    assert x.isfinite().all()
    assert of_text.shape == condition["vector"].shape


def test_killed_and_resumed_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = text_job(tmp_path / "a")
    train_family(whole)
    job = text_job(tmp_path / "b", training={"save_every": 2})
    for steps in (3, 4):
        kill_after(monkeypatch, steps, job)
    train_family(job)
    assert weights_digest(job) == weights_digest(whole)


def test_started_from_another_the_shared_words_are_taken_over(tmp_path: Path) -> None:
    base = text_job(tmp_path, name="base")
    train_family(base)
    place = "generators/base/0/manifest.json"
    inputs = paths_of(base.inputs) | {place: base.identity}
    prompt = {**PROMPT, "template": "A new disc seen {view}. {findings}."}
    job = training_job(tmp_path, inputs, **{**TEXT, "prompt": prompt}, init_from="base", training={"steps": 1})
    train_family(job)
    before, after = (WordEncoder.from_pretrained(j.outputs[0].parent / "text_encoder") for j in (base, job))
    a, b = before._ids["bright"], after._ids["bright"]
    torch.testing.assert_close(before.embedding.weight[a], after.embedding.weight[b], atol=0.01, rtol=0)


@pytest.mark.parametrize("with_words", [True, False], ids=["text and mask", "mask alone"])
def test_a_control_network_beside_text(tmp_path: Path, with_words: bool) -> None:
    inputs = write_data(tmp_path, masks=True)
    base = training_job(tmp_path, inputs, name="base", **TEXT, training={"dropout": 0.0})
    train_family(base)
    changes = {**TEXT, "structures": ["disc"], "mask_by": "controlnet", "init_from": "base"}
    if not with_words:
        changes.pop("prompt")
    place = {"generators/base/0/manifest.json": base.identity}
    job = training_job(tmp_path, inputs | place, name="control", **changes, training={"dropout": 0.0})
    train_family(job)
    generator = load_generator(job.outputs[0].parent)
    masks = torch.ones(2, 1, 8, 8)
    rows = pd.DataFrame({"image_id": ["a", "b"], "finding": [1.0, 0.0], "view": ["PA", "AP"]})
    condition = generator.encode_conditions(rows, masks=masks)
    with torch.inference_mode():
        drawn = sample(generator, condition, torch.randn(2, 1, 8, 8), "euler", 3)
    assert drawn.shape == (2, 1, 8, 8)
    same = torch.equal(condition["tokens"][0], condition["tokens"][1])
    assert same != with_words  # without words both rows are told the null prompt


def text_study() -> dict[str, Any]:
    study = copy.deepcopy(tiny())
    study["prompts"] = {
        "all": {"template": "{sex}. {findings}."},
        "one": {"template": "{sex}. {findings}.", "findings": "one"},
    }
    study["generators"]["ddpm"] |= {"prompt": "all", "network": "unet_text"}
    study["pools"]["drawn"] |= {"prompt": "one"}
    return study


def test_the_report_says_which_text_a_pool_was_drawn_for_and_which_labels_are_left() -> None:
    study = parse_study(text_study())
    counts = {"opacity": {"1": 6.0, "0": 2.0, "unknown": 2.0}, "sex": {"F": 10.0}}
    facts = {"drawn/0/replica-1": PoolFacts(identity="a", counts=counts)}
    rules, _, labels = prompts_blocks(study, facts)
    assert isinstance(rules, Table)
    assert isinstance(labels, Table)
    assert rules.rows == [["drawn", "one", "{sex}. {findings}.", "one, by turns", "unknown"]]
    assert [list(row) for row in labels.rows] == [["drawn", "opacity", "60.0 %", "20.0 %", "20.0 %"]]
    assert prompts_blocks(parse_study(tiny()), {}) == []


def planned(study: dict[str, Any], monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, str]:
    from synthgain.study.session import Session

    monkeypatch.chdir(folder)
    (plan,) = Session(study, Path(__file__).parents[1], Path("results")).planners.values()
    plan.job("write_report")
    return {job.output: job.identity for job in plan.jobs()}


def test_what_a_change_of_texts_reruns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template of the generator retrains it; one of the pool alone, or guidance, redraws; nothing else moves."""
    before = planned(text_study(), monkeypatch, tmp_path)
    generator = next(name for name in before if name.startswith("generators/"))
    shard = next(name for name in before if name.startswith("pools/") and "shard" in name)
    study = text_study()
    study["prompts"]["all"]["template"] = "{sex} film. {findings}."
    after = planned(study, monkeypatch, tmp_path)
    assert after[generator] != before[generator]
    for change in ({"prompts": {"one": {"none": "normal"}}}, {"sampling": {"guidance_scale": 2.0}}):
        study = text_study()
        if "prompts" in change:
            study["prompts"]["one"] |= change["prompts"]["one"]
        else:
            study["pools"]["drawn"].setdefault("sampling", {}).update(change["sampling"])
        after = planned(study, monkeypatch, tmp_path)
        assert after[generator] == before[generator]
        assert after[shard] != before[shard]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["generators"]["ddpm"].update(prompt="al"), "did you mean 'all'"),
        (lambda s: s["generators"]["ddpm"].update(network="unet"), "attends to no text"),
        (lambda s: s["prompts"]["all"].update(template="{sx}."), "did you mean 'sex'"),
        (lambda s: s["prompts"]["all"].update(template="{sex"), "template"),
        (lambda s: s["prompts"]["all"].update(of=["opacities"]), "did you mean 'opacity'"),
        (lambda s: s["pools"]["drawn"].update(prompt="two"), "pools.drawn.prompt"),
        (lambda s: s["pools"]["drawn"].update(sampling={"negative_prompt": "x"}), "without guidance"),
        (lambda s: s["generators"]["ddpm"].pop("prompt"), "name its prompt"),
    ],
    ids=range(8),
)
def test_texts_that_lead_nowhere_are_refused_while_planning(change, said: str) -> None:
    study = text_study()
    change(study)
    with pytest.raises(SynthGainError, match=said) as caught:
        parse_study(study)
    assert "\n" not in str(caught.value)
