"""Fidelity and its floors, whether labels survived, and whether any of it predicts usefulness."""

import pandas as pd

from synthgain.report.agreement import agreement_blocks, agreements, not_done
from synthgain.report.blocks import Block, Column, Details, Facts, Section, Text, interval, number
from synthgain.report.evidence import Evidence, Measured
from synthgain.report.sections.segmentation import shape_blocks, styling_blocks
from synthgain.report.tables import ALL, at_floor, result_table
from synthgain.report.vocabulary import DISTANCES, MEASURES, listed, measure_words, space_words

FLOOR_NOTE = (
    "Floor: real images against real images of other patients, at the same number of images. A pool at its "
    "floor differs no more from real images than these do from each other, as far as this measure and number see."
)
FIDELITY_COLUMNS = [
    Column("space", "Feature space"),
    Column("reference", "Against", optional=True),
    Column("group", "Group", optional=True),
    Column("metric", "Measure"),
    Column("n", "Images a side", "count"),
    Column("value", "Synthetic–real", "number"),
    Column(("low", "high"), "95 % interval", "interval"),
    Column("floor", "Real–real floor", "number"),
    Column("excess", "Excess", "signed"),
    Column("p", "p", "p"),
]
RELATION_COLUMNS = [
    Column("space", "Feature space"),
    Column("reference", "Against", optional=True),
    Column("metric", "Measure (its excess)"),
    Column("method", "Correlation with the gain"),
    Column("n", "Points", "count"),
    Column("value", "r", "signed", 2),
    Column(("low", "high"), "95 % interval", "signed_interval", 2),
    Column("p", "p, unadjusted", "p"),
]
POINT_COLUMNS = [
    Column("pool", "Pool"),
    Column("arm", "Arm"),
    Column("ratio", "Ratio %", "ratio"),
    Column("replicate", "Replicate", "id"),
    Column("index", "Pool draw", "id"),
    Column("gain", "Gain over the baseline", "signed"),
]


def fidelity_section(evidence: Evidence) -> Section:
    """Return distances and diversity of every measured pool, label consistency, and the relation with gains."""
    held = listed([kind.held for kind in agreements(evidence)])
    lead = f"Do the pools look like new patients, are they as varied, and do their {held} hold?"
    section = Section("fidelity", "Fidelity and diversity", lead=lead)
    for measured in evidence.fidelity:
        section.blocks.append(Text(_floor_sentence(measured)))
    for model in evidence.models[:1]:
        section.blocks += model.pictures("fidelity")
    for measured in evidence.fidelity:
        section.blocks += _fidelity_blocks(measured)
    if not evidence.fidelity:
        section.blocks.append(Text("Not done: fidelity was not measured.", "missing"))
    section.blocks += [*styling_blocks(evidence), *shape_blocks(evidence)]
    for model in evidence.models[:1]:
        section.blocks += model.pictures("agreement")
    for measured in evidence.consistency:
        section.blocks += agreement_blocks(measured)
    if not evidence.consistency:
        section.blocks.append(not_done(evidence))
    for measured in evidence.relations:
        section.blocks += _relation_blocks(measured)
    if not evidence.relations:
        section.blocks.append(Text("Whether fidelity predicts usefulness: not done.", "missing"))
    return section


def _main_rows(measured: Measured) -> pd.DataFrame:
    """The rows over all images against the main reference, in the order of MEASURES."""
    table = measured.tables["fidelity"]
    reference = measured.manifest.reference
    rows = table[(table["group"] == ALL) & (table["reference"] == reference) & table["metric"].isin(list(MEASURES))]
    spaces = list(dict.fromkeys(rows["space"]))
    places = [
        (spaces.index(space), list(MEASURES).index(metric))
        for space, metric in zip(rows["space"], rows["metric"], strict=True)
    ]
    return rows.iloc[sorted(range(len(rows)), key=places.__getitem__)]


def _floor_sentence(measured: Measured) -> str:
    """How many measures are at the floor, and the first distance in words."""
    if "fidelity" not in measured.tables:
        return f"{measured.name()}: not done."
    rows = _main_rows(measured).dropna(subset=["value", "floor"])
    if not len(rows):
        return f"{measured.name()}: no measure could be computed; the notes below say why."
    near = at_floor(rows)
    text = f"{measured.name()}: {int(near.sum())} of {len(rows)} measures are at the real-versus-real floor"
    distances = rows[rows["metric"].isin(DISTANCES)]
    if len(distances):
        row = distances.iloc[0]
        text += f"; {MEASURES[row['metric']]} in the space of {space_words(row['space'])} is {number(row['value'])}"
        text += f" ({interval(row['low'], row['high'])}), its floor {number(row['floor'])}"
    return text + "."


def _fidelity_blocks(measured: Measured) -> list[Block]:
    table = measured.table("fidelity")
    if not len(table):
        return []
    name, main = measured.name(), _main_rows(measured)
    file = f"fidelity_{measured.pool}_{measured.index}.csv"
    spaces = [
        (
            space_words(space.name),
            f"{space.label}, {space.dimensions} dimensions, weights {space.weights_sha256}",
        )
        for space in measured.manifest.spaces
    ]
    title = f"{name}: every reference and group"
    rest = result_table(title, table, FIDELITY_COLUMNS, file)
    headline = result_table(f"{name}: all images", main, FIDELITY_COLUMNS, f"headline_{file}", FLOOR_NOTE)
    more: list[Block] = [rest, *([Facts(spaces)] if spaces else [])]
    return [headline, Details(f"{title}; the networks behind the spaces", more)]


def _relation_blocks(measured: Measured) -> list[Block]:
    table = measured.table("relation")
    title = f"Does fidelity predict usefulness here? (model {measured.pool})"
    found = table.dropna(subset=["value"]) if len(table) else table
    inner: list[Block] = []
    if len(found):
        file = f"fidelity_utility_{measured.pool}.csv"
        inner.append(result_table(title, table, RELATION_COLUMNS, file, shown=found))
    points = measured.table("points")
    if len(points) and points["gain"].notna().any():
        inner.append(result_table("Measured gains", points, POINT_COLUMNS, f"gains_{measured.pool}.csv"))
    blocks: list[Block] = [Text(relation_sentence(measured), "plain" if len(found) else "missing")]
    return blocks + ([Details(title, inner)] if inner else [])


def relation_sentence(measured: Measured) -> str:
    """Return the answer in one sentence, or why there is none."""
    question = "Does fidelity predict usefulness here?"
    if measured.manifest.failed:
        return f"{question} failed: {measured.manifest.failed}."
    table = measured.table("relation")
    known = table.dropna(subset=["value", "low", "high"]) if len(table) else table
    if not len(known):
        count = measured.manifest.configurations
        these = f"{count} configuration{'s' * (count != 1)} (a pool at a ratio)"
        notes = dict.fromkeys(str(note) for note in (table["note"].dropna() if "note" in table else ()) if str(note))
        why = "; ".join(note.partition(" configurations, ")[2] or note for note in notes)
        return f"{question} Not answered, since this study has {these}" + (f": {why}." if why else ".")
    ranked = known[known["method"] == "spearman"] if (known["method"] == "spearman").any() else known
    best = ranked.iloc[int(ranked["value"].abs().to_numpy().argmax())]
    clear = int(((ranked["low"] > 0) | (ranked["high"] < 0)).sum())
    return (
        f"{question} {clear} of {len(ranked)} fidelity numbers {'goes' if clear == 1 else 'go'} with the measured gain "
        f"(95 % interval clear of 0, not adjusted for their number). Picked after looking, the largest correlation is "
        f"that of {measure_words(best['metric'])} in the space of {space_words(best['space'])}: "
        f"{number(best['value'], 2)} ({interval(best['low'], best['high'], 2)}) over {int(best['n'])} points."
    )
