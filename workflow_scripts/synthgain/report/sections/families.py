"""Families of generators side by side: what each gave downstream, and what it cost to train and to draw from."""

import pandas as pd

from synthgain.report.blocks import Block, Column, Section, Text, make_table, number
from synthgain.report.evidence import Evidence, ModelEvidence
from synthgain.report.facts import GeneratorFacts
from synthgain.report.floors import with_floor
from synthgain.report.tables import comparison_columns, result_table
from synthgain.report.vocabulary import listed, prose_of
from synthgain.statistics.metric_registry import metric_label
from synthgain.study.roles import root_pool
from synthgain.study.schema import Study

NOT_MEASURED = "not measured"
JOULES_PER_WATT_HOUR = 3600.0


def families_section(evidence: Evidence) -> Section | None:
    """Return the comparison of generator families, None where the study has one family only."""
    study = evidence.study
    drawn = {name: root_pool(study, name).from_ for name in study.pools}
    sources = [source for source in drawn.values() if source is not None]
    families = dict.fromkeys(_family(study, name) for name in sources)
    if len(families) < 2:
        return None
    title = f"{listed(list(families))}, side by side"
    section = Section("families", title[0].upper() + title[1:])
    section.lead = "Arms grouped by the family of their generator; a fair race has equal data and equal steps."
    section.blocks.append(Text(_equality(evidence, [name for name in study.generators if name in sources])))
    for model in evidence.models:
        section.blocks += _arms(evidence, model, drawn)
    section.blocks += _costs(evidence, [name for name in study.generators if name in sources])
    return section


def _family(study: Study, generator: str) -> str:
    return str(prose_of(study.generators[generator].family).NAME)


def _equality(evidence: Evidence, generators: list[str]) -> str:
    """Whether the race is fair, in words."""
    trained = [evidence.study.generators[name].training for name in generators]
    found = [evidence.generator(name) for name in generators]
    seen = {None if facts is None else facts.saw_ids for facts in found}
    parts: dict[str, set[int] | set[str | None]] = {
        "images": seen,
        "steps": {training.steps for training in trained},
        "batch sizes": {training.batch_size for training in trained},
    }
    differs = [text for text, values in parts.items() if len(values) > 1]
    names = listed(generators)
    if None in seen:
        return f"Whether {names} saw the same images is not known."
    if differs:
        return f"{names} differ in {listed(differs)}: what follows compares them as configured, not at equal effort."
    return f"{names} saw the same images, for as many steps of as many images."


def _arms(evidence: Evidence, model: ModelEvidence, drawn: dict[str, str | None]) -> list[Block]:
    study, chosen = evidence.study, evidence.endpoint(model)
    rows = model.table("comparisons")
    rows = rows[(rows["metric"] == chosen.metric) & (rows["label"] == chosen.labels)]
    rows = rows[(rows["dataset"] == chosen.test_set) & (rows["family"] != "control")]
    source = {name: drawn[arm.synthetic] for name, arm in study.arms.items() if arm.synthetic is not None}
    rows = rows.assign(generator=rows["arm"].map(source)).dropna(subset=["generator"])
    if not len(rows):
        return []
    names = rows["generator"].map(lambda name: _family(study, name))
    rows = with_floor(rows.assign(generator_family=names), model.table("floor"))
    rows = rows.sort_values(["generator_family", "generator", "arm", "ratio"], kind="stable")
    head = [Column("generator_family", "Family"), Column("generator", "Generator")]
    title = f"{metric_label(chosen.metric)} on {chosen.test_set} by family"
    strong = rows["family"] == "primary"
    file = f"families_{model.name}.csv"
    return [result_table(title, rows, [*head, *comparison_columns(evidence.level)], file, strong=strong)]


def _costs(evidence: Evidence, generators: list[str]) -> list[Block]:
    rows = []
    for name in generators:
        facts = evidence.generator(name) or GeneratorFacts(identity="")
        joules = facts.energy_joules if isinstance(facts.energy_joules, float) else None  # else it was not measured
        rows.append(
            {
                "family": _family(evidence.study, name),
                "generator": name,
                "parameters": facts.parameters,
                "steps": facts.steps,
                "seconds": facts.seconds,
                "minutes": None if facts.seconds is None else facts.seconds / 60,
                "energy": NOT_MEASURED if joules is None else f"{number(joules / JOULES_PER_WATT_HOUR, 1)} Wh",
                "source": "–" if joules is None else facts.energy_source or "–",
                "energy_joules": joules,
                "device": facts.devices,
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
    blocks: list[Block] = [make_table("What training cost", table, columns, "generator_cost.csv")]
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
