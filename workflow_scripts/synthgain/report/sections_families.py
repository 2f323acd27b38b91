"""Families of generators side by side: what each gave downstream, and what it cost to train and to draw from."""

from typing import Any

import pandas as pd

from synthgain.report.blocks import Column, Section, Text, make_table, number
from synthgain.report.evidence import Evidence, ModelEvidence
from synthgain.report.floors import with_floor
from synthgain.report.prose import listed
from synthgain.report.sections_utility import chosen_endpoint, comparison_columns
from synthgain.report.style import metric_name

NOT_MEASURED = "not measured"
JOULES_PER_WATT_HOUR = 3600.0
FAMILIES = {"gan": "GAN", "diffusion": "diffusion"}


def families_section(evidence: Evidence) -> Section | None:
    """Return the comparison of generator families, None where the study has one family only."""
    generators = evidence.config.get("generators") or {}
    drawn = {name: _generator(evidence, name) for name in evidence.config.get("pools") or {}}
    families = dict.fromkeys(generators[name]["family"] for name in drawn.values() if name in generators)
    if len(families) < 2:
        return None
    title = f"{listed([FAMILIES.get(name, str(name)) for name in families])}, side by side"
    section = Section("families", title[0].upper() + title[1:])
    section.lead = "Arms grouped by the family of their generator; a fair race has equal data and equal steps."
    section.blocks.append(Text(_equality(evidence, [name for name in generators if name in drawn.values()])))
    for model in evidence.models:
        section.blocks += _arms(evidence, model, drawn)
    section.blocks += _costs(evidence, [name for name in generators if name in drawn.values()])
    return section


def _generator(evidence: Evidence, pool: str) -> str | None:
    """The generator at the end of a pool's `of` chain."""
    entry = (evidence.config.get("pools") or {}).get(pool) or {}
    return _generator(evidence, entry["of"]) if entry.get("of") else entry.get("from")


def _manifest(evidence: Evidence, generator: str) -> dict[str, Any]:
    return next((m for name, m in evidence.generators.items() if name.split("/")[0] == generator), {})


def _equality(evidence: Evidence, generators: list[str]) -> str:
    """Whether the race is fair, in words."""
    declared = evidence.config.get("generators") or {}
    steps = {(declared[name].get("training") or {}).get("steps") for name in generators}
    batches = {(declared[name].get("training") or {}).get("batch_size") for name in generators}
    seen = {(_manifest(evidence, name).get("saw") or {}).get("ids_sha256") for name in generators}
    differs = [text for text, found in (("images", seen), ("steps", steps), ("batch sizes", batches)) if len(found) > 1]
    names = listed(generators)
    if None in seen:
        return f"Whether {names} saw the same images is not known."
    if differs:
        return f"{names} differ in {listed(differs)}: what follows compares them as configured, not at equal effort."
    return f"{names} saw the same images, for as many steps of as many images."


def _arms(evidence: Evidence, model: ModelEvidence, drawn: dict[str, str | None]) -> list[Any]:
    arms, generators = evidence.config.get("arms") or {}, evidence.config.get("generators") or {}
    chosen = chosen_endpoint(evidence, model)
    rows = model.table("comparisons")
    rows = rows[(rows["metric"] == chosen["metric"]) & (rows["label"] == chosen["labels"])]
    rows = rows[(rows["dataset"] == chosen["test_set"]) & (rows["family"] != "control")]
    source = {name: drawn.get(arm.get("synthetic") or "") for name, arm in arms.items()}
    rows = rows.assign(generator=rows["arm"].map(source)).dropna(subset=["generator"])
    rows = rows[rows["generator"].isin(list(generators))]
    if not len(rows):
        return []
    names = rows["generator"].map(lambda name: FAMILIES.get(generators[name]["family"], generators[name]["family"]))
    rows = with_floor(rows.assign(generator_family=names), model.table("floor"))
    rows = rows.sort_values(["generator_family", "generator", "arm", "ratio"], kind="stable")
    level = f"{100 * (1 - float(evidence.analysis.get('alpha', 0.05))):g} %"
    head = [Column("generator_family", "Family"), Column("generator", "Generator")]
    title = f"{metric_name(chosen['metric'])} on {chosen['test_set']} by family"
    strong = rows["family"] == "primary"
    file = f"families_{model.name}.csv"
    return [make_table(title, rows, [*head, *comparison_columns(level)], file, strong)]


def _costs(evidence: Evidence, generators: list[str]) -> list[Any]:
    declared, rows = evidence.config.get("generators") or {}, []
    for name in generators:
        manifest = _manifest(evidence, name)
        family = declared[name]["family"]
        joules = manifest.get("energy_joules")
        joules = float(joules) if isinstance(joules, int | float) else None  # may also say that it was not measured
        rows.append(
            {
                "family": FAMILIES.get(family, family),
                "generator": name,
                "parameters": manifest.get("parameters"),
                "steps": manifest.get("steps"),
                "seconds": manifest.get("seconds"),
                "minutes": None if manifest.get("seconds") is None else manifest["seconds"] / 60,
                "energy": NOT_MEASURED if joules is None else f"{number(joules / JOULES_PER_WATT_HOUR, 1)} Wh",
                "source": "–" if joules is None else str(manifest.get("energy_source") or "–"),
                "energy_joules": joules,
                "device": ", ".join(
                    dict.fromkeys(str(e.get("device", "–")) for e in manifest.get("environments") or [])
                ),
            }
        )
    columns = [
        Column("family", "Family"),
        Column("generator", "Generator"),
        Column("parameters", "Parameters", "count"),
        Column("steps", "Steps", "count"),
        Column("minutes", "Training (min)", "number", 1),
        Column("energy", "Energy"),
        Column("source", "Read from"),
        Column("device", "Device"),
    ]
    table = pd.DataFrame(rows)
    blocks: list[Any] = [make_table("What training cost", table, columns, "generator_cost.csv")]
    sentence = _cost_sentence(table.dropna(subset=["seconds"]))
    return [Text(sentence), *blocks] if sentence else blocks


def _cost_sentence(table: pd.DataFrame) -> str:
    """The dearest against the cheapest family, by time; by energy only where all of them were read."""
    if table["family"].nunique() < 2:
        return ""
    cost = table.groupby("family", sort=False)["seconds"].sum().sort_values()
    cheap, dear = str(cost.index[0]), str(cost.index[-1])
    text = f"Training the {dear} generators took {number(cost.iloc[-1] / cost.iloc[0], 2)} times as long as {cheap}"
    if table["energy_joules"].isna().any():
        return f"{text}; energy was not read for all of them, so no claim about it is made."
    energy = table.groupby("family")["energy_joules"].sum()
    return f"{text} and {number(energy[dear] / energy[cheap], 2)} times its energy."
