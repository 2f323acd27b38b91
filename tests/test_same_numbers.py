"""The numbers of a tiny study, built by the real workflow, are those that were stored when they last were meant to be.

Names, seeds and orders are held exactly, what is computed with floats to 1e-4: another processor adds in another
order. A change that moves them on purpose says so in the changelog and renews them:

    SYNTHGAIN_RENEW_NUMBERS=1 python -m pytest tests/test_same_numbers.py

writes `tests/same_numbers.json` anew; its diff shows what moved.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from workshop import Workshop

from synthgain.data.batch_order import PassOrder
from synthgain.data.image_set import read_image_set
from synthgain.downstream.cell import read_cell
from synthgain.generators.diffusion.training import prepare_run
from synthgain.runtime.command import job_of
from synthgain.runtime.files import read_table
from synthgain.study.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

STORED = Path(__file__).with_name("same_numbers.json")
TOLERANCE = 1e-4
BATCHES = 4
SHOWN = 3  # of a list that is held as a digest


def exact(values: Iterable[object]) -> dict[str, Any]:
    """A list in which every value and their order count: its length, beginning and SHA-256."""
    words = [str(value) for value in values]
    held = hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
    return {"count": len(words), "first": words[:SHOWN], "sha256": held}


def near(values: Iterable[float]) -> dict[str, Any]:
    """A list of floats: its length, beginning, mean and spread, and a sum in which their order counts."""
    numbers = np.asarray(list(values), dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    order = np.cos(np.arange(len(known))) @ known / max(len(known), 1)
    floats = [*known[:SHOWN], known.mean(), known.std(), order] if len(known) else []
    return {"count": len(numbers), "known": len(known), "floats": [round(float(value), 7) for value in floats]}


def numbers_of(run: Path, planned: Session) -> dict[str, Any]:
    """Return what is held of the built study: data, draws, orders, training logs, predictions and statistics."""
    found: dict[str, Any] = {}
    for name in ("hospital_a", "hospital_b"):
        images = read_image_set(run / "datasets" / name)
        found[f"{name}: image_id"] = exact(images.table["image_id"])
        found[f"{name}: opacity"] = exact(images.table["opacity"])
        found[f"{name}: pixels"] = near(np.asarray(images.images).mean(axis=(1, 2, 3)))
    split = read_table(run / "splits" / "hospital_a" / "split.parquet")
    found["split"] = exact(split["image_id"] + " " + split["part"])
    for replica in (1, 2):
        shards = [read_image_set(run / f"pools/drawn/0/replica-{replica}/shard-{shard}") for shard in range(2)]
        table = pd.concat([shard.table for shard in shards])
        # A drawn image is called after the digest of what drew it, code included.
        table["image_id"] = table["image_id"].str.replace(r"-[0-9a-f]{10}-", "-", regex=True)
        for column in ("image_id", "parent_image_id", "seed"):
            found[f"replica {replica}: {column}"] = exact(table[column])
        pixels = [np.asarray(shard.images).mean(axis=(1, 2, 3)) for shard in shards]
        found[f"replica {replica}: pixels"] = near(np.concatenate(pixels))
    found |= generator(run, planned) | cells(run, planned)
    comparisons = pd.read_csv(run / "statistics/cnn/comparisons.csv").sort_values(
        ["arm", "ratio", "dataset", "label", "metric"]
    )
    found["comparisons"] = exact(comparisons["arm"] + " " + comparisons["dataset"] + " " + comparisons["metric"])
    for column in ("mean", "difference", "low", "high", "p"):
        found[f"comparisons: {column}"] = near(comparisons[column])
    fidelity = pd.read_csv(run / "fidelity/drawn/0/fidelity.csv")
    found["fidelity"] = near(fidelity["value"])
    return found


def generator(run: Path, planned: Session) -> dict[str, Any]:
    """Return batches and losses of the generator's training."""
    described = next(iter(planned.planners.values())).job("train_generator", generator="ddpm", index=0)
    prepared = prepare_run(job_of(json.loads(described.parameter()), run, [run / described.output]))
    order = PassOrder(len(prepared.data), described.slice["training"]["batch_size"], prepared.seed_keys)
    losses = pd.read_csv(run / "generators/ddpm/0/training.csv")["loss"]
    batches = np.concatenate([order.batch(step) for step in range(BATCHES)])
    return {"generator: batches": exact(batches), "generator: loss": near(losses)}


def cells(run: Path, planned: Session) -> dict[str, Any]:
    """Return batches, losses and predictions of every arm's replicates."""
    (plan,) = planned.planners.values()
    found: dict[str, Any] = {}
    for arm in plan.study.arms:
        place = {"model": "cnn", "arm": arm, "ratio": plan.ratios(arm)[0], "chunk": 0}
        described = plan.job("train_downstream", **place)
        output = run / described.output
        job = job_of(json.loads(described.parameter()), run, [output])
        cell = read_cell(job)
        for replicate in described.slice["replicates"]:
            data, _ = cell.build(job, replicate)
            batches = np.concatenate([data.phases[0].batch(step, 8) for step in range(BATCHES)])
            found[f"{arm} {replicate}: batches"] = exact(batches)
            found[f"{arm} {replicate}: loss"] = near(
                pd.read_csv(output.parent / f"training-{replicate}.csv")["train_loss"]
            )
        table = read_table(run / f"predictions/cnn/{arm}.parquet")
        found[f"{arm}: predicted"] = exact(table["image_id"] + " " + table["label"])
        found[f"{arm}: score"] = near(table["score"])
    return found


def test_a_tiny_study_gives_the_numbers_that_it_gave(built: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.folder)
    planned = Session(yaml.safe_load(Path("tiny.yaml").read_text()), Path.cwd(), Path("results"))
    found = numbers_of(built.folder / "results" / "tiny", planned)
    if os.environ.get("SYNTHGAIN_RENEW_NUMBERS"):
        STORED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    stored = json.loads(STORED.read_text())
    assert found.keys() == stored.keys()
    moved = []
    for name, value in stored.items():
        floats, held = found[name].pop("floats", []), value.pop("floats", [])
        if found[name] != value or not np.allclose(floats, held, rtol=TOLERANCE, atol=TOLERANCE):
            moved.append(f"{name}: {value} {held}, now {found[name]} {floats}")
    assert not moved, "\n".join(moved)
