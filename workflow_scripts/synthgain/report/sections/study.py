"""Sections on what went in and what it cost: arms, data, generators, fidelity, memorisation, cost."""

import pandas as pd

from synthgain.downstream.options import Arm
from synthgain.report.blocks import Block, Column, Details, Section, Text, make_table, plain_table
from synthgain.report.evidence import DatasetEvidence, Evidence
from synthgain.report.failures import written
from synthgain.report.sections.autoencoders import autoencoders_section
from synthgain.report.sections.clusters import clusters_section
from synthgain.report.sections.cost import cost_section
from synthgain.report.sections.families import families_section
from synthgain.report.sections.fidelity import fidelity_section
from synthgain.report.sections.memorisation import memorisation_section
from synthgain.report.sections.prompts import prompts_blocks
from synthgain.report.sections.readers import readers_section
from synthgain.report.sections.segmentation import yield_blocks
from synthgain.report.sections.steering import steering_blocks
from synthgain.study.roles import total_steps
from synthgain.study.schema import Study

PARTS = ("train", "validation", "test")


def study_sections(evidence: Evidence) -> list[Section]:
    """Return the sections that every study has, in their order."""
    sections = [
        written("families", "Families of generators", lambda: families_section(evidence)),
        written("autoencoders", "Autoencoders", lambda: autoencoders_section(evidence)),
        written("fidelity", "Fidelity and diversity", lambda: fidelity_section(evidence)),
        written("samples", "What the images look like", lambda: _samples(evidence)),
        written("memorisation", "Memorisation", lambda: memorisation_section(evidence)),
        written("readers", "Readers", lambda: readers_section(evidence)),
        written("clusters", "Appearance clusters", lambda: clusters_section(evidence)),
        written("cost", "Cost", lambda: cost_section(evidence)),
        written("arms", "Arms", lambda: _arms(evidence)),
        written("data", "Data", lambda: _data(evidence)),
        written("generators", "Generators", lambda: _generators(evidence)),
    ]
    return [section for section in sections if section is not None]


def _arms(evidence: Evidence) -> Section:
    rows = []
    trained = [training for model in evidence.models for training in model.trainings]
    for name, arm in evidence.study.arms.items():
        runs = [run for training in trained if training.arm == name for run in training.replicates.values()]
        real = sorted({run.real_exposures for run in runs if run.real_exposures is not None})
        steps = sorted({run.steps for run in runs if run.steps is not None})
        rows.append(
            {
                "arm": name,
                "real": arm.real or "–",
                "real_fraction": 100 * arm.fraction,
                "synthetic": arm.synthetic or ("its own images again" if arm.repeat else "–"),
                "ratios": ", ".join(f"{ratio:g}" for ratio in arm.ratios) or "–",
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
    note = "Real images shown: how often a training step saw a real image, over the ratios of the arm."
    blocks = [make_table("Arms", pd.DataFrame(rows), columns, "arms.csv", note=note), *yield_blocks(evidence)]
    return Section("arms", "Arms", blocks, "What each arm trains on; everything not named here is the same in all.")


def _range(values: list[int]) -> str:
    if not values:
        return "–"
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _special(arm: Arm) -> str:
    found = []
    if arm.repeat:
        found.append("real images repeated (A/A control)")
    if arm.steps_factor != 1:
        found.append(f"{arm.steps_factor:g} × the steps")
    if arm.augmentation != "standard":
        found.append(f"{arm.augmentation} augmentation")
    if arm.balance is not None:
        found.append(f"balanced by {arm.balance.mode}")
    if arm.pretrain is not None:
        found.append("pretrained on synthetic, then fine-tuned")
    if arm.mixing.share is not None:
        found.append(f"{100 * arm.mixing.share:g} % of each batch synthetic")
    return "; ".join(found) or "–"


def _data(evidence: Evidence) -> Section:
    section = Section("data", "Data", lead="Whole patients stay on one side of a split; duplicates go with them.")
    rows, parts = [], []
    for name, dataset in evidence.datasets.items():
        known = evidence.study.datasets  # a stranger's set is listed, too
        adapter, licence = (known[name].adapter, known[name].licence) if name in known else ("–", "")
        facts = dataset.facts
        rows.append(
            {
                "dataset": name,
                "adapter": adapter,
                "patients": facts.patients,
                "images": facts.images,
                "quarantined": len(dataset.quarantine),
                "size": "×".join(str(n) for n in facts.shape[1:3]) or "–",
                "licence": licence or "not stated",
                "level": "image" if name in evidence.image_level else "patient",
            }
        )
        parts += _parts(name, dataset, evidence.splits.get(name))
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
    for name, dataset in evidence.datasets.items():
        if len(dataset.quarantine):
            shown = plain_table(f"Quarantined rows of {name}", dataset.quarantine, f"quarantine_{name}.csv")
            section.blocks.append(Details(f"Quarantined rows of {name}", [shown]))
    for name, ids in evidence.audit.excluded.items():
        if ids:
            text = (
                f"{len(ids)} test images of {name} are in another set's training part, as they are or changed, or of a "
                "patient who is; they are left out of all results."
            )
            section.blocks.append(Text(text, "warning"))
    for name, config in evidence.study.datasets.items():
        if config.shares_films:
            text = f"{name} shares films or patients with a set that models learn from; why it is tested on: "
            section.blocks.append(Text(text + config.shares_films, "warning"))
    if not rows:
        section.blocks.append(Text("Not done.", "missing"))
    return section


def _parts(name: str, dataset: DatasetEvidence, split: pd.DataFrame | None) -> list[dict[str, object]]:
    table = dataset.table  # whose own columns may have any name, `part` among them
    parts = pd.Series("test", index=table.index)
    if split is not None:
        parts = table["image_id"].map(split.set_index("image_id")["part"])
    binary = [
        column
        for column in dataset.facts.column_order or dataset.facts.columns
        if dataset.facts.columns[column].kind == "binary"
    ]
    rows = []
    for part in PARTS:
        own = table[parts == part]
        if len(own):
            shares = {f"{column} %": 100 * float(own[column].mean()) for column in binary}
            rows.append(
                {"data set": name, "part": part, "patients": own["patient_id"].nunique(), "images": len(own)} | shares
            )
    return rows


def _samples(evidence: Evidence) -> Section:
    pictures = [picture for model in evidence.models[:1] for picture in model.pictures("samples")]
    blocks: list[Block] = [*pictures]
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
    for name, facts in evidence.generators.items():
        rows.append(
            {
                "generator": name,
                "output": facts.output,
                "parameters": facts.parameters,
                "patients": facts.saw_patients,
                "images": facts.saw_images,
                "steps": facts.steps,
                "epochs": facts.epochs,
                "loss": facts.final_loss,
                "rate": facts.images_per_second,
                "hours": None if facts.seconds is None else facts.seconds / 3600,
                "device": facts.devices or "–",
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
        section.blocks += pretraining_blocks(evidence.study)
        section.blocks += prompts_blocks(evidence.study, evidence.pools)
        section.blocks += steering_blocks(evidence.study, evidence.generators)
    else:
        section.blocks.append(Text("No generator was trained: the pools are imported or of known truth.", "note"))
    return section


def pretraining_blocks(study: Study) -> list[Block]:
    """Return the steps and labels of all generators, where one starts from another's weights; else nothing."""
    if all(generator.init_from is None for generator in study.generators.values()):
        return []
    totals = {name: total_steps(study, name) for name in study.generators}
    # Steering starts from a trained generator, too, and has a neighbour of equal steps: that is not pretraining.
    steered_from = {one.init_from for one in study.generators.values() if one.steered_by is not None}
    pretrained = [name for name, one in study.generators.items() if one.init_from not in {None, *steered_from}]
    rows, alone = [], []
    for name, generator in study.generators.items():
        seen = generator.train_on
        rows.append(
            {
                "generator": name,
                "starts_from": generator.init_from or "random weights",
                "patients": 100 * seen.real_fraction,
                "labels": 100 * seen.labelled,
                "steps": generator.training.steps,
                "total": totals[name],
            }
        )
        if name in pretrained and not any(
            other.init_from is None and (totals[twin], other.train_on) == (totals[name], seen)
            for twin, other in study.generators.items()
        ):
            alone.append(name)
    columns = [
        Column("generator", "Generator"),
        Column("starts_from", "Starts from"),
        Column("patients", "Patients %", "number", 1),
        Column("labels", "Labels known of %", "number", 1),
        Column("steps", "Own steps", "count"),
        Column("total", "Steps in all", "count"),
    ]
    table = make_table("Pretraining and steps in all", pd.DataFrame(rows), columns, "generator_steps.csv")
    if not pretrained:
        return [table]
    if not alone:
        return [table, Text("Each pretrained generator stands beside one from random weights of equal steps and data.")]
    names = f"{', '.join(alone)}: no generator from random weights has as many steps in all on the same data"
    return [table, Text(f"{names}; what pretraining adds cannot be told there from what more steps add.", "warning")]
