"""Sections on what went in and what it cost: arms, data, generators, fidelity, memorisation, cost."""

from typing import Any

import pandas as pd

from synthgain.report.blocks import Column, Details, Section, Text, make_table, plain_table
from synthgain.report.evidence import Evidence
from synthgain.report.failures import written
from synthgain.report.sections_cost import cost_section
from synthgain.report.sections_families import families_section
from synthgain.report.sections_fidelity import fidelity_section
from synthgain.report.sections_memorisation import memorisation_section
from synthgain.report.sections_segmentation import yield_blocks

PARTS = ("train", "validation", "test")


def study_sections(evidence: Evidence) -> list[Section]:
    """Return the sections that every study has, in their order."""
    sections = [
        written("families", "Families of generators", lambda: families_section(evidence)),
        written("fidelity", "Fidelity and diversity", lambda: fidelity_section(evidence)),
        written("samples", "What the images look like", lambda: _samples(evidence)),
        written("memorisation", "Memorisation", lambda: memorisation_section(evidence)),
        written("cost", "Cost", lambda: cost_section(evidence)),
        written("arms", "Arms", lambda: _arms(evidence)),
        written("data", "Data", lambda: _data(evidence)),
        written("generators", "Generators", lambda: _generators(evidence)),
    ]
    return [section for section in sections if section is not None]


def _arms(evidence: Evidence) -> Section:
    rows = []
    trained = [training for model in evidence.models for training in model.trainings]
    for name, arm in (evidence.config.get("arms") or {}).items():
        seen = [t for t in trained if t["arm"] == name]
        runs = [run for training in seen for run in (training.get("replicates") or {}).values()]
        real = sorted({int(run["real_exposures"]) for run in runs if "real_exposures" in run})
        steps = sorted({int(run["steps"]) for run in runs if "steps" in run})
        rows.append(
            {
                "arm": name,
                "real": arm.get("real") or "–",
                "real_fraction": 100 * float(arm.get("real_fraction", 1)),
                "synthetic": arm.get("synthetic") or ("its own images again" if arm.get("repeat") else "–"),
                "ratios": ", ".join(f"{ratio:g}" for ratio in arm.get("ratios") or []) or "–",
                "special": _special(arm),
                "steps": _range(steps),
                "exposures": _range(real),
            }
        )
    columns = [
        Column("arm", "Arm"),
        Column("real", "Real images of"),
        Column("real_fraction", "Share %", "number", 0),
        Column("synthetic", "Synthetic pool"),
        Column("ratios", "Ratios %"),
        Column("special", "What differs"),
        Column("steps", "Optimiser steps"),
        Column("exposures", "Real images shown"),
    ]
    blocks: list[Any] = [Text("Not done: the config was not handed over.", "missing")]
    if rows:
        note = "Real images shown: how often a training step saw a real image, over the ratios of the arm."
        blocks = [make_table("Arms", pd.DataFrame(rows), columns, "arms.csv", note=note), *yield_blocks(evidence)]
    return Section("arms", "Arms", blocks, "What each arm trains on; everything not named here is the same in all.")


def _range(values: list[int]) -> str:
    if not values:
        return "–"
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _special(arm: dict[str, Any]) -> str:
    found = []
    if arm.get("repeat"):
        found.append("real images repeated (A/A control)")
    if float(arm.get("steps_factor", 1)) != 1:
        found.append(f"{float(arm['steps_factor']):g} × the steps")
    if arm.get("augmentation", "standard") != "standard":
        found.append(f"{arm['augmentation']} augmentation")
    if arm.get("balance"):
        found.append(f"balanced by {arm['balance'].get('mode', '')}")
    if arm.get("pretrain"):
        found.append("pretrained on synthetic, then fine-tuned")
    if (arm.get("mixing") or {}).get("mode") == "fixed_share":
        found.append(f"{100 * float(arm['mixing']['share']):g} % of each batch synthetic")
    return "; ".join(found) or "–"


def _data(evidence: Evidence) -> Section:
    section = Section("data", "Data", lead="Whole patients stand on one side of a split; duplicates go with them.")
    rows, parts = [], []
    for name, manifest in evidence.datasets.items():
        declared = (evidence.config.get("datasets") or {}).get(name) or {}
        quarantine = manifest.get("quarantine")
        rows.append(
            {
                "dataset": name,
                "adapter": declared.get("adapter", "–"),
                "patients": manifest.get("patients"),
                "images": manifest.get("images"),
                "quarantined": 0 if quarantine is None else len(quarantine),
                "size": "×".join(str(n) for n in manifest.get("shape", [])[1:3]) or "–",
                "licence": declared.get("licence") or "not stated",
                "level": "image" if name in (evidence.slice.get("image_level") or []) else "patient",
            }
        )
        parts += _parts(name, manifest, evidence.splits.get(name))
    columns = [
        Column("dataset", "Data set"),
        Column("adapter", "Source"),
        Column("patients", "Patients", "count"),
        Column("images", "Images", "count"),
        Column("quarantined", "Quarantined", "count"),
        Column("size", "Size (px)"),
        Column("level", "Split by"),
        Column("licence", "Licence"),
    ]
    if rows:
        section.blocks.append(make_table("Data sets", pd.DataFrame(rows), columns, "datasets.csv"))
    if parts:
        table = pd.DataFrame(parts)
        section.blocks.append(plain_table("Patients, images and prevalence per part", table, "partitions.csv", 1))
    for name, manifest in evidence.datasets.items():
        if manifest.get("quarantine") is not None and len(manifest["quarantine"]):
            shown = plain_table(f"Quarantined rows of {name}", manifest["quarantine"], f"quarantine_{name}.csv")
            section.blocks.append(Details(f"Quarantined rows of {name}", [shown]))
    excluded = {name: ids for name, ids in (evidence.audit.get("excluded") or {}).items() if ids}
    for name, ids in excluded.items():
        text = f"{len(ids)} test images of {name} stand in another set's training part and are left out of all results."
        section.blocks.append(Text(text, "warning"))
    if not rows:
        section.blocks.append(Text("Not done.", "missing"))
    return section


def _parts(name: str, manifest: dict[str, Any], split: pd.DataFrame | None) -> list[dict[str, Any]]:
    table = manifest.get("table")
    if table is None:
        return []
    if split is not None:
        table = table.merge(split[["image_id", "part"]], on="image_id", how="left")
    else:
        table = table.assign(part="test")
    binary = [
        column
        for column in manifest.get("column_order", manifest["columns"])
        if manifest["columns"][column]["kind"] == "binary"
    ]
    rows = []
    for part in PARTS:
        own = table[table["part"] == part]
        if len(own):
            shares = {f"{column} %": 100 * float(own[column].mean()) for column in binary}
            rows.append(
                {"data set": name, "part": part, "patients": own["patient_id"].nunique(), "images": len(own)} | shares
            )
    return rows


def _samples(evidence: Evidence) -> Section:
    pictures = [picture for model in evidence.models[:1] for picture in model.pictures("samples")]
    blocks: list[Any] = [*pictures]
    if evidence.sample_grids:
        blocks.append(Details("Grids of the last snapshot of each generator", evidence.sample_grids))
    return Section(
        "samples", "What the images look like", blocks or [Text("Not done: no pool with real rows.", "missing")]
    )


def _generators(evidence: Evidence) -> Section:
    section = Section("generators", "Generators")
    for model in evidence.models[:1]:
        section.blocks += model.pictures("generators")
    rows = []
    for name, manifest in evidence.generators.items():
        environments = manifest.get("environments") or []
        saw = manifest.get("saw") or {}
        rows.append(
            {
                "generator": name,
                "output": manifest.get("output", "image"),
                "parameters": manifest.get("parameters"),
                "patients": saw.get("patients"),
                "images": saw.get("images"),
                "steps": manifest.get("steps"),
                "epochs": manifest.get("epochs"),
                "loss": (manifest.get("loss") or {}).get("final"),
                "rate": manifest.get("images_per_second"),
                "hours": None if manifest.get("seconds") is None else manifest["seconds"] / 3600,
                "device": ", ".join(dict.fromkeys(str(e.get("device", "–")) for e in environments)) or "–",
            }
        )
    columns = [
        Column("generator", "Generator / training"),
        Column("output", "Draws", optional=True),
        Column("parameters", "Parameters", "count"),
        Column("patients", "Patients seen", "count"),
        Column("images", "Images seen", "count"),
        Column("steps", "Steps", "count"),
        Column("epochs", "Passes over them", "number", 1),
        Column("loss", "Loss, last tenth", "number", 4),
        Column("rate", "Images per second", "count"),
        Column("hours", "Hours", "number", 2),
        Column("device", "Device"),
    ]
    if rows:
        section.blocks.append(make_table("Generator training", pd.DataFrame(rows), columns, "generators.csv"))
    else:
        section.blocks.append(Text("No generator was trained: the pools are imported or of known truth.", "note"))
    return section
