"""Audit all data sets of the study: audit.json, audit.html and a contact sheet for each."""

import io
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from synthgain.data.image_set import job_dataset
from synthgain.datasets.audit import (
    AuditedSet,
    audit_one,
    check_findings,
    check_learned,
    with_copies,
)
from synthgain.datasets.audit_page import audit_page
from synthgain.datasets.contact_sheet import contact_sheet
from synthgain.datasets.mask_area import strata_of
from synthgain.datasets.overlaps import audit_between, check_overlaps, overlaps
from synthgain.pools.raking import raked_weights, target_shares
from synthgain.runtime.command import Job, logger, run_script
from synthgain.runtime.errors import SynthGainError
from synthgain.runtime.files import atomic_path, write_json, write_text
from synthgain.seeds import random_generator

PAIRS_SHOWN = 15  # near duplicates of a set that the page shows side by side
FAIL_ON = ["patients", "exact_duplicates", "impossible_labels"]


def audit_datasets(job: Job) -> None:
    """Slice: datasets [{name, split, role, learned, balanced, …}], fail_on, clusters: names, seed.

    learned: targets of which the training part needs two classes; balanced: {pool: target shares} of its rows. films:
    the published collection that it is from; tested: models are tested on it though it is divided; shares_films: why
    they may be where a training set has the same films.
    """
    settings, folder = job.slice, job.outputs[0].parent
    roles = {entry["name"]: entry.get("role", "test") for entry in settings["datasets"]}
    sets = [with_copies(_read_set(job, entry)) for entry in settings["datasets"]]
    facts = {one.name: {"role": roles[one.name], **audit_one(one)} for one in sets}
    between = [audit_between(a, b) for a, b in combinations(sets, 2)]
    shared, excluded = overlaps(between)
    audit: dict[str, Any] = {
        "identity": job.identity,
        "datasets": facts,
        "between": [pair.facts() for pair in between],
        "excluded": excluded,
    }
    sheets = {one.name: _sheet_png(one, settings.get("seed", 0)) for one in sets}
    for name, png in sheets.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    pairs = {one.name: _pair_pngs(one, facts[one.name]["near_duplicates"]) for one in sets}
    page = audit_page(audit, sheets, pairs, settings.get("clusters", ()))
    kept = job.state_folder() / "audit.html"  # declared outputs of a failed job are deleted, this is not
    write_text(kept, page)
    fail_on = settings.get("fail_on")
    check_findings(audit, FAIL_ON if fail_on is None else fail_on, 1, str(kept))
    for text in check_overlaps(shared, str(kept)):
        logger.warning("[audit] %s", text)
    for one, entry in zip(sets, settings["datasets"], strict=True):
        check_learned(facts[one.name], one.name, entry.get("learned", []))
        _check_balanced(one, entry.get("balanced", {}))
    write_text(folder / "audit.html", page)
    kept.unlink()
    write_json(folder / "audit.json", audit)
    left_out = sum(map(len, audit["excluded"].values()))
    logger.info("[audit] %d data sets, %d test images to leave out; see %s", len(sets), left_out, folder / "audit.html")


def _check_balanced(one: AuditedSet, pools: dict[str, Any]) -> None:
    """Raise SynthGainError for target shares that the training rows cannot meet: a pool would find so when drawn."""
    rows = one.table[one.parts == "train"].reset_index(drop=True)
    for pool, balance in pools.items():
        try:
            raked_weights(rows, one.data.columns, target_shares(rows, one.data.columns, balance))
        except SynthGainError as error:
            raise SynthGainError(f"audit: {one.name}: pools.{pool}.{error}") from None


def _read_set(job: Job, entry: dict[str, Any]) -> AuditedSet:
    name = entry["name"]
    data = job_dataset(job, name, bool(entry.get("split")))
    quarantine = job.inputs.datasets[name].folder() / "quarantine.csv"
    listed = pd.read_csv(quarantine, dtype=str, keep_default_na=False)
    tested = entry.get("role", "test") == "test" or "tested" in entry
    films = str({"films": "", **entry}["films"])
    return AuditedSet(
        name, data.images, data.parts, listed, films=films, tested=tested, accepted="shares_films" in entry
    )


def _pair_pngs(one: AuditedSet, near: dict[str, Any]) -> list[bytes]:
    """Return the first near duplicates side by side, a PNG each."""
    places = {image: row for row, image in enumerate(one.table["image_id"])}
    pictures = []
    for pair in near["listed"][:PAIRS_SHOWN]:
        both = [one.data.images[places[pair[key]]] for key in ("first", "second")]
        gap = np.full((both[0].shape[0], 4, both[0].shape[2]), 255, np.uint8)
        joined = np.concatenate([both[0], gap, both[1]], axis=1)
        buffer = io.BytesIO()
        Image.fromarray(joined[..., 0] if joined.shape[2] == 1 else joined).save(buffer, format="PNG", optimize=True)
        pictures.append(buffer.getvalue())
    return pictures


def _sheet_png(one: AuditedSet, seed: int) -> bytes:
    targets = [n for n, spec in one.data.columns.items() if spec["role"] == "target" and spec["kind"] != "continuous"]
    rng = random_generator(study=seed, step="contact sheet", dataset=one.name)
    buffer = io.BytesIO()
    strata = None if targets else strata_of(one.data)
    sheet = contact_sheet(
        one.data.images, one.table, targets, rng, one.data.masks, mask_names=one.data.mask_names, strata=strata
    )
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    run_script(audit_datasets)
