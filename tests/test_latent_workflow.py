"""A study of texts and latents from start to report, and what runs again after a change."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from studies import tiny
from test_rerun import expected, table
from workshop import Workshop, new_workshop

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

STUDY = "latents.yaml"
SAMPLING = {"steps": 2, "batch_size": 32, "guidance_scale": 2.0}
TEMPLATE = "A film of a {sex} patient. {findings}."
CLINIC = {"real": "hospital_a", "ratios": [100]}
LATENTS: dict[str, Any] = {
    "study": "latents",
    "datasets": {"hospital_a": tiny()["datasets"]["hospital_a"]},
    "prompts": {"all": {"template": TEMPLATE}, "plain": {"template": "A film. {findings}."}},
    "autoencoders": {
        "vae": {
            "train_on": {"datasets": ["hospital_a"]},
            "network": {"block_out_channels": [8, 8, 16]},
            "training": {"steps": 30, "batch_size": 8, "learning_rate": 5e-3},
        }
    },
    "generators": {
        "ldm": {
            "family": "diffusion",
            "autoencoder": "vae",
            "prompt": "all",
            "train_on": {"datasets": ["hospital_a"]},
            "network": {"name": "unet_text", "block_out_channels": [16, 32], "layers_per_block": 1},
            "training": {"steps": 6, "batch_size": 8, "snapshots": [3], "ema_decays": [0.9]},
        }
    },
    "pools": {
        "drawn": {"from": "ldm", "prompt": "plain", "rows_of": "hospital_a", "sampling": SAMPLING},
        "ceiling": {"known": "reconstructed", "autoencoder": "vae", "rows_of": "hospital_a"},
    },
    "arms": {
        "real": {"real": "hospital_a"},
        "ceiling": {**CLINIC, "synthetic": "ceiling"},
        "supplemented": {**CLINIC, "synthetic": "drawn"},
    },
    "evaluate_on": ["hospital_a"],
    "analysis__minimum": {"patients": 2, "positives": 2},
    "evaluation": {
        "fidelity": {"spaces": ["downstream"], "images": 50, "floor_splits": 2},
        "memorisation": {"space": None},
    },
}


def write(shop: Workshop, **changes: Any) -> None:
    (shop.folder / STUDY).write_text(yaml.safe_dump(tiny(**{**LATENTS, **changes}), sort_keys=False))


@pytest.fixture(scope="session")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    workshop = new_workshop(tmp_path_factory.mktemp("latents"))
    write(workshop)
    workshop.snakemake("--cores", "2", "--quiet", "all", study=STUDY)
    return workshop


def results(shop: Workshop) -> Path:
    return shop.folder / "results" / "latents"


def test_the_report_goes_from_real_to_the_ceiling_to_the_generator(latents: Workshop) -> None:
    page = (results(latents) / "report.html").read_text(encoding="utf-8")
    for words in ("Gates of vae", "Where utility is lost", "autoencoder ceiling", "generator"):
        assert words in page, words
    assert "Not computed" not in page


def test_the_gate_looks_among_reconstructions_and_not_in_the_ceiling(latents: Workshop) -> None:
    rates = pd.read_csv(results(latents) / "memorisation" / "drawn" / "0" / "memorisation.csv")
    assert {"pixels", "reconstructions"} <= set(rates["space"])
    assert not (results(latents) / "memorisation" / "ceiling").exists()


def test_each_image_keeps_the_text_that_drew_it(latents: Workshop) -> None:
    drawn = pd.read_parquet(results(latents) / "pools" / "drawn" / "0" / "replica-1" / "shard-0" / "table.parquet")
    assert drawn["prompt"].str.startswith("A film.").all()
    facts = json.loads((results(latents) / "generators" / "ldm" / "0" / "manifest.json").read_text())
    assert facts["prompt"]["template"] == TEMPLATE


def study(**changes: Any) -> Callable[[Workshop], None]:
    return lambda shop: write(shop, **changes)


CHANGES: dict[str, Callable[[Workshop], None]] = {
    "another template, with which a generator trains": study(prompts__all={"template": "A {sex} patient. {findings}."}),
    "another template, with which a pool is drawn alone": study(prompts__plain={"template": "Film. {findings}."}),
    "another guidance scale": study(pools__drawn__sampling={**SAMPLING, "guidance_scale": 3.0}),
    "autoguidance in place of guidance": study(
        pools__drawn__sampling={"steps": 2, "batch_size": 32, "autoguidance": {"snapshot": 3}}
    ),
    "another of the kept weight averages": study(pools__drawn__ema_decay=0.9),
    "another limit of an autoencoder's gates": study(autoencoders__vae__gates={"psnr": 30.0}),
    "another number of steps of an autoencoder": study(
        autoencoders__vae__training={**LATENTS["autoencoders"]["vae"]["training"], "steps": 31}
    ),
}


def test_the_table_and_the_changes_are_the_same() -> None:
    assert list(table(4)) == list(CHANGES)


@pytest.mark.parametrize("change", list(CHANGES))
def test_plan_after(change: str, latents: Workshop, tmp_path: Path) -> None:
    shop = latents.copy(tmp_path)
    CHANGES[change](shop)
    plan = shop.plan(study=STUDY)
    rules, counts = expected(table(4)[change])
    assert set(plan) == rules
    assert {rule: plan[rule] for rule in counts} == counts
