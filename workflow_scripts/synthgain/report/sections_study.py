"""Sections on what went in and what it cost: arms, data, generators, fidelity, memorisation, cost."""

from typing import Any

import pandas as pd

from synthgain.report.blocks import Column, Details, Facts, Section, Text, make_table, number, plain_table
from synthgain.report.costs import rule_times, synthesis_hours
from synthgain.report.evidence import Evidence, Measured
from synthgain.report.style import metric_name

PARTS = ("train", "validation", "test")


def study_sections(evidence: Evidence) -> list[Section]:
    """Return the sections that every study has, in their order."""
    return [
        _fidelity(evidence),
        _memorisation(evidence),
        _samples(evidence),
        _generators(evidence),
        _data(evidence),
        _arms(evidence),
        _cost(evidence),
    ]


def _arms(evidence: Evidence) -> Section:
    rows = []
    trained = [training for model in evidence.models for training in model.trainings]
    for name, arm in (evidence.config.get("arms") or {}).items():
        seen = [t for t in trained if t["arm"] == name]
        exposures = [t["exposures"] for t in seen if isinstance(t.get("exposures"), dict)]
        real = sorted({int(e["real"]) for e in exposures if "real" in e})
        rows.append(
            {
                "arm": name,
                "real": arm.get("real") or "–",
                "real_fraction": 100 * float(arm.get("real_fraction", 1)),
                "synthetic": arm.get("synthetic") or ("its own images again" if arm.get("repeat") else "–"),
                "ratios": ", ".join(f"{ratio:g}" for ratio in arm.get("ratios") or []) or "–",
                "special": _special(arm),
                "steps": ", ".join(str(s) for s in sorted({t["steps"] for t in seen if "steps" in t})) or "–",
                "exposures": "–" if not real else f"{real[0]}" + (f" to {real[-1]}" if len(real) > 1 else ""),
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
        blocks = [make_table("Arms", pd.DataFrame(rows), columns, "arms.csv", note=note)]
    return Section("arms", "Arms", blocks, "What each arm trains on; everything not named here is the same in all.")


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
        table = manifest.get("training_table", pd.DataFrame())
        rate = next((c for c in ("images_per_second", "throughput") if c in table.columns), None)
        last = table["loss"].dropna().tail(max(len(table) // 10, 1)).mean() if "loss" in table.columns else None
        rows.append(
            {
                "generator": name,
                "steps": table["step"].max() if "step" in table.columns else manifest.get("final"),
                "loss": last,
                "rate": None if rate is None else float(table[rate].median()),
                "parameters": manifest.get("parameters"),
                "images": manifest.get("training_images", manifest.get("images")),
                "device": manifest.get("device") or "–",
            }
        )
    columns = [
        Column("generator", "Generator / training"),
        Column("parameters", "Parameters", "count"),
        Column("images", "Training images", "count"),
        Column("steps", "Steps", "count"),
        Column("loss", "Loss, last tenth", "number", 4),
        Column("rate", "Images per second", "count"),
        Column("device", "Device"),
    ]
    if rows:
        section.blocks.append(make_table("Generator training", pd.DataFrame(rows), columns, "generators.csv"))
    else:
        section.blocks.append(Text("No generator was trained: the pools are imported or of known truth.", "note"))
    return section


def _measured(found: list[Measured], blocks: list[Any]) -> None:
    for measured in found:
        for name, table in measured.tables.items():
            title = f"{name.replace('_', ' ')}: {measured.pool}, draw {measured.index}"
            shown = plain_table(title, table, f"{measured.pool}_{measured.index}_{name}.csv", 4)
            blocks.append(shown if len(table) <= 20 else Details(title, [shown]))
        blocks += measured.pictures


def _fidelity(evidence: Evidence) -> Section:
    lead = "Distances mean something only beside the floor: real against real, at the same number of images."
    section = Section("fidelity", "Fidelity and diversity", lead=lead)
    _measured(evidence.fidelity, section.blocks)
    if not evidence.fidelity:
        section.blocks.append(Text("Not done.", "missing"))
    return section


def _memorisation(evidence: Evidence) -> Section:
    lead = "Whether synthetic images copy training images. These checks detect copying; they do not certify privacy."
    section = Section("memorisation", "Memorisation", lead=lead)
    _measured(evidence.memorisation, section.blocks)
    if not evidence.memorisation:
        section.blocks.append(Text("Not done.", "missing"))
    return section


def _cost(evidence: Evidence) -> Section:
    section = Section("cost", "Cost", lead="Measured by Snakemake on the jobs whose files are in this run's folder.")
    times = rule_times(evidence.benchmarks)
    if not len(times):
        section.blocks.append(Text("Not done: no benchmark files in the run's folder.", "missing"))
        return section
    total, synthesis = float(times["hours"].sum()), synthesis_hours(times)
    facts = [
        ("Job hours in all", f"{number(total, 2)} h ({number(times['cpu_hours'].sum(), 2)} h of CPU time)"),
        ("of these for generators and pools", f"{number(synthesis, 2)} h"),
    ]
    devices = {str(g.get("device")) for g in evidence.generators.values() if g.get("device")}
    if devices:
        facts.append(("Device of the generators", ", ".join(sorted(devices))))
    facts.append(("Price of a point", _price(evidence, synthesis)))
    columns = [
        Column("rule", "Rule"),
        Column("jobs", "Jobs", "count"),
        Column("hours", "Hours", "number"),
        Column("cpu_hours", "CPU hours", "number"),
        Column("longest_minutes", "Longest job (min)", "number", 1),
        Column("memory_gb", "Largest memory (GiB)", "number", 2),
    ]
    section.blocks += [Facts(facts), make_table("Run times", times, columns, "run_times.csv")]
    return section


def _price(evidence: Evidence, hours: float) -> str:
    """Hours of synthesis per hundredth gained in the primary metric; no price where nothing was gained."""
    for model in evidence.models:
        verdict = model.facts.get("verdict") or {}
        row = verdict.get("primary")
        if row and verdict.get("verdict") == "helps" and not evidence.rehearsal:
            points = 100 * abs(float(row["difference"]))
            return f"{number(hours / points, 2)} job hours of synthesis per 0.01 of {metric_name(row['metric'])}"
    return "no gain was shown, so there is nothing to divide by"
